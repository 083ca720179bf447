"""Tokens of SoftHSM2, a PKCS #11 module in software, below a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
)
REQUIRED = "CROSSCLOUD_TEST_SOFTHSM"
"""`required` where the module was installed for the tests: that it is missing is a failure then."""
PIN, OFFICER_PIN = "4711-0815", "9999-0000"


def softhsm_module() -> Path:
    """The module; skips the test where there is none."""
    found = next((path for path in MODULES if path.is_file()), None)
    if found is None:
        absent = "SoftHSM2 is not installed: apt-get install softhsm2"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(absent)
        pytest.skip(absent)
    return found


@dataclass(frozen=True, kw_only=True)
class SoftHsm:
    """Tokens in a folder; SOFTHSM2_CONF names its settings."""

    module: Path
    folder: Path

    @classmethod
    def start(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
        module = softhsm_module()
        (folder / "tokens").mkdir(parents=True)
        settings = folder / "softhsm2.conf"
        settings.write_text(
            f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        monkeypatch.setenv("SOFTHSM2_CONF", str(settings))
        return cls(module=module, folder=folder)

    def add_token(self, label: str, *, pin: str = PIN) -> None:
        words = ["--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", OFFICER_PIN]
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)

    def remove_token(self, label: str) -> None:
        subprocess.run(["softhsm2-util", "--delete-token", "--token", label], check=True, capture_output=True)
