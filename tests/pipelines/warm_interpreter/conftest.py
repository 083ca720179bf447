from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.warm_interpreter.bench import Bench, served_from


@pytest.fixture(scope="module", params=["", "1"], ids=["python -m", "python -P -m"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A served bench, with the working directory on the module path and without."""
    with served_from(tmp_path_factory.mktemp("a working folder"), PYTHONSAFEPATH=request.param) as bench:
        bench.serve(["kfp.dsl.executor_main", "numpy.random", "a_module_that_is_not_installed"])
        yield bench


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of the test's own, whose server is not started yet."""
    with served_from(tmp_path) as bench:
        yield bench
