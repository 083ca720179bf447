"""A federation file and an endpoint to submit it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.compile import compile_round
from pipelines.federation import Federation
from pipelines.kubeflow.address import Address
from pipelines.kubeflow.connection import Endpoint, connect
from pipelines.kubeflow.transport import Patience
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.kubeflow.pipelines_api.server import PipelinesServer

HURRIED = Patience(connect_s=10.0, read_s=10.0, pauses_s=(0.01, 0.01))
NIGHTLY = "0 0 3 * * *"


@dataclass(frozen=True, kw_only=True)
class Submitter:
    """A federation file, and a server that it is submitted to."""

    made: SmallFederation
    server: PipelinesServer

    @property
    def path(self) -> Path:
        return self.made.path

    @property
    def recurring(self) -> list[dict[str, Any]]:
        return list(self.server.objects.recurring_runs.values())

    def connect(self, *, token_file: Path | None = None, namespace: str = "") -> Endpoint:
        url = self.server.url
        address = Address(url=url, pages_url=url, token_file=token_file, namespace=namespace)
        return connect(address, patience=HURRIED)

    def change(self, **changes: Any) -> None:
        self.made.document.update(changes)
        self.made.save()


@pytest.fixture(autouse=True)
def usual_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of what Kubeflow's tools read is set, and nobody's context is there."""
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_UI_ENDPOINT",
        "KF_PIPELINES_SA_TOKEN_PATH",
        "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID",
        "KF_PIPELINES_DEFAULT_EXPERIMENT_NAME",
        "KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME",
        "CROSSCLOUD_DEBUG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("kfp.client.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "nobody/context.json"))


@pytest.fixture
def server() -> Iterator[PipelinesServer]:
    with PipelinesServer() as running:
        yield running


@pytest.fixture(scope="session")
def compiled() -> dict[str, bytes]:
    """Specs of this session, by the whole content of the federation that each was compiled of."""
    return {}


@pytest.fixture
def compiled_once(compiled: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A federation that was compiled before gives the same bytes without compiling: see test_compile.py."""

    def compile_or_copy(federation: Federation, target: Path) -> Path:
        content = federation.model_dump_json()
        if content not in compiled:
            compiled[content] = compile_round(federation, target).read_bytes()
        target.write_bytes(compiled[content])
        return target

    monkeypatch.setattr("pipelines.kubeflow.submission.compile_round", compile_or_copy)


@pytest.fixture
def submitter(
    small_federation: Callable[..., SmallFederation],
    server: PipelinesServer,
    compiled_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Submitter:
    made = small_federation(rows=0, schedule={"cron": NIGHTLY})
    for site in made.document["sites"]:
        site["placement"] = {"node_selector": {"crosscloud/party": site["name"]}}
    made.save()
    monkeypatch.chdir(made.path.parent)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    return Submitter(made=made, server=server)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)
