"""Provider `file`: a key that lies beside what it wraps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.encryption.key_providers.key_file import KeyFile
from components.errors import UsageError
from tests.contracts.key_provider import BOUND, KeyProviderContract, refused


@pytest.fixture
def made(tmp_path: Path) -> KeyFile:
    key = KeyFile(tmp_path / "wrapping.key")
    assert key.make()
    return key


class TestKeyFile(KeyProviderContract):
    @pytest.fixture
    def provider(self, made: KeyFile) -> KeyFile:
        return made

    @pytest.fixture
    def other(self, tmp_path: Path) -> KeyFile:
        key = KeyFile(tmp_path / "other.key")
        key.make()
        return key


def test_it_is_made_once_and_private(made: KeyFile, tmp_path: Path) -> None:
    path = tmp_path / "wrapping.key"
    before = path.read_bytes()
    assert not made.make()
    assert path.read_bytes() == before
    assert (len(before), path.stat().st_mode & 0o777) == (32, 0o600)


def test_a_missing_short_or_readable_one_is_told(made: KeyFile, tmp_path: Path) -> None:
    path = tmp_path / "wrapping.key"
    path.chmod(0o640)
    with pytest.raises(UsageError, match="has mode 0640 and may be read by others"):
        made.wrap(bytes(32), bound=BOUND)
    path.chmod(0o600)
    short = os.urandom(31)
    path.write_bytes(short)
    with refused(short, match=r"wrapping\.key must hold 32 bytes, got 31"):
        made.wrap(bytes(32), bound=BOUND)
    path.unlink()
    with refused(match=r"no wrapping key at .*/wrapping\.key: bring it back"):
        made.wrap(bytes(32), bound=BOUND)
