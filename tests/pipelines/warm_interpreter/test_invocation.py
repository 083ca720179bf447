"""What a shim encodes is what a fork is given."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warm_interpreter.invocation import LOADED_IN, decode, exit_status
from pipelines.warm_interpreter.shim import encode

no_nul = st.binary(max_size=40).filter(lambda content: b"\0" not in content)
names = st.from_regex(rb"[a-z][a-z0-9_]{0,8}", fullmatch=True)
LOADED_ALIKE = {name: value for name, value in LOADED_IN.items() if name.isupper()}


@given(
    arguments=st.lists(no_nul.map(os.fsdecode), max_size=6),
    folder=no_nul,
    variables=st.dictionaries(names, no_nul, max_size=6),
)
def test_an_invocation_survives_the_wire(
    arguments: list[str], folder: bytes, variables: dict[bytes, bytes]
) -> None:
    environment = {**LOADED_ALIKE, **variables}
    request = encode(["-m", "json.tool", *arguments], folder, environment)

    invocation = decode(request, [7, 8, 9])

    assert invocation.arguments == ("-m", "json.tool", *arguments)
    assert invocation.folder == folder
    assert invocation.environment == environment
    assert invocation.descriptors == (7, 8, 9)


@pytest.mark.parametrize(
    ("request_bytes", "descriptors"),
    [
        (b"", [7, 8, 9]),
        (b"2\0-m", [7, 8, 9]),
        (b"1\0-m\0/", [7, 8, 9]),
        (b"2\0-c\0print()\0/", [7, 8, 9]),
        (encode(["-m", "json.tool"], b"/", LOADED_ALIKE), [7, 8]),
        (encode(["-m", "json.tool"], b"/", {**LOADED_ALIKE, b"PYTHONPATH": b"/elsewhere"}), [7, 8, 9]),
    ],
)
def test_what_a_fork_cannot_run_is_refused(request_bytes: bytes, descriptors: list[int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(request_bytes, descriptors)


def test_a_variable_that_a_library_sets_as_it_loads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/as/torch/sets/it")
    assert decode(encode(["-m", "json.tool"], b"/", LOADED_ALIKE), [7, 8, 9]).folder == b"/"


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (4, 4), (256, 0), (-1, 255), (True, 1)])
def test_exit_status_is_the_interpreter_s(code: int | None, status: int) -> None:
    assert exit_status(SystemExit(code)) == status
