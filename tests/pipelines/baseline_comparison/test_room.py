"""Room on the disk, before and while something is written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from components.errors import StoreError, UsageError
from pipelines.baseline_comparison.room import require_room, telling_no_room


def test_what_does_not_fit_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "not/there/yet"
    require_room(folder, shutil.disk_usage(tmp_path).free // 2)
    with pytest.raises(
        UsageError, match=r"has room for \d+ MB and this comparison may need 10000000000 MB: make"
    ):
        require_room(folder, 10**16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_write_that_finds_no_room_is_told_with_what_to_do(number: int) -> None:
    refused = StoreError("cannot write")
    refused.__cause__ = OSError(number, os.strerror(number))
    told = r"^no room is left in build/compare: make room there and type"
    with pytest.raises(UsageError, match=told), telling_no_room(Path("build/compare")):
        raise refused


def test_other_faults_pass() -> None:
    with pytest.raises(PermissionError), telling_no_room(Path("build")):
        raise PermissionError(errno.EACCES, "denied")
