"""Runs of the tests are lent an interpreter; that they are declined would show in nothing but time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.warm_interpreter.invocation import loads_alike
from tests.pipelines.lent_interpreter import STEPS_HAVE, LentInterpreter


def test_what_libraries_have_set_since_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", "as it was")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        started_in = dict(os.environ)
        lender = LentInterpreter(process=process, folder=Path(), environment=started_in)
    monkeypatch.setenv("KMP_SET_BY_A_LIBRARY", "1")
    monkeypatch.setenv("CROSSCLOUD_HOME", "as it is now")
    now = lender.environment_now()
    assert "KMP_SET_BY_A_LIBRARY" not in now
    assert now["CROSSCLOUD_HOME"] == "as it is now"
    monkeypatch.setattr("pipelines.warm_interpreter.invocation.LOADED_IN", encoded(started_in | STEPS_HAVE))
    assert loads_alike(encoded(now | STEPS_HAVE))
    assert not loads_alike(encoded(dict(os.environ) | STEPS_HAVE))


def encoded(environment: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
