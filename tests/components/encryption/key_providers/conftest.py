from __future__ import annotations

from pathlib import Path

import pytest

from tests.components.encryption.key_providers.softhsm import SoftHsm

TOKEN = "crosscloud"


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """SoftHSM2 with one token, whose label is `crosscloud`."""
    made = SoftHsm.start(tmp_path / "hsm", monkeypatch)
    made.add_token(TOKEN)
    return made
