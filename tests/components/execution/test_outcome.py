from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import (
    BadDataError,
    CiphertextError,
    CrosscloudError,
    DeadlineExceededError,
    DigestMismatchError,
    EncoderError,
    IntegrityError,
    ObjectMissingError,
    QuorumNotReachedError,
    RefusedError,
    SignatureError,
    SiteError,
    SourceUnreachableError,
    StoreError,
)
from components.execution.outcome import MAX_REASON, Outcome, disclosed_reason, plain

SECRET = "Ottilie Quastenberg"


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SourceUnreachableError(SECRET, disclosed="warehouse"), "unreachable: warehouse"),
        (SourceUnreachableError(SECRET), "unreachable"),
        (BadDataError(SECRET, disclosed="a label is unknown"), "bad_data: a label is unknown"),
        (BadDataError(SECRET), "bad_data"),
        (RefusedError(SECRET), "refused"),
        (EncoderError(SECRET), "bad_encoder"),
        (DeadlineExceededError(SECRET), "timeout"),
        (SiteError(SECRET), "failed"),
        (StoreError(SECRET), "unreachable: a store (StoreError)"),
        (ObjectMissingError(SECRET), "unreachable: a store (ObjectMissingError)"),
        (MemoryError(SECRET), "oom"),
        (OutOfMemoryError(SECRET), "oom"),
        (ValueError(SECRET), "failed: ValueError"),
        (KeyError(SECRET), "failed: KeyError"),
        (KeyboardInterrupt(SECRET), "failed: KeyboardInterrupt"),
        (SystemExit(SECRET), "failed: SystemExit"),
        (OSError(2, SECRET), "failed: FileNotFoundError"),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), "failed: UnicodeDecodeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_reason_is_a_word_and_what_was_meant_to_be_read(error: BaseException, reason: str) -> None:
    assert disclosed_reason(error) == reason


@pytest.mark.parametrize("kind", [IntegrityError, SignatureError, DigestMismatchError, CiphertextError])
def test_what_came_from_others_is_refused_in_full(kind: type[IntegrityError]) -> None:
    assert disclosed_reason(kind("the roster of round 3 is altered")) == (
        "refused: the roster of round 3 is altered"
    )


@pytest.mark.parametrize("kind", [CrosscloudError, QuorumNotReachedError])
def test_other_errors_of_our_own_give_their_name_only(kind: type[CrosscloudError]) -> None:
    assert disclosed_reason(kind("no private key at /a/folder")) == f"failed: {kind.__name__}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("a\n b\t\tc\r\n", "a b c"),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f", "a b c d e f"),
        ("""say "no", don't""", "say no, dont"),
        ("C:\\temp\\x", "C:/temp/x"),
        ("\x00\x1b[31mred\x7f", "[31mred"),
        ("a\u200bb\ufeffc\ue000d", "abcd"),
        ("\ud800x", "x"),
        ("Zürich – naïve 10 µs", "Zürich – naïve 10 µs"),
    ],
)
def test_plain(text: str, line: str) -> None:
    assert plain(text) == line


@pytest.mark.parametrize("length", [MAX_REASON - 1, MAX_REASON, MAX_REASON + 1, 10 * MAX_REASON])
def test_plain_is_short(length: int) -> None:
    line = plain("x" * length)
    assert len(line) == min(length, MAX_REASON)
    assert line.endswith("…") == (length > MAX_REASON)


@given(text=st.text())
def test_plain_is_safe_inside_json(text: str) -> None:
    line = plain(text)
    assert json.loads(f'{{"reason": "{line}"}}') == {"reason": line}
    assert "'" not in line
    assert len(line.splitlines()) <= 1
    assert len(line) <= MAX_REASON
    assert line.isprintable()


texts = st.text(st.characters(codec="utf-8"))
outcomes = st.builds(
    Outcome,
    reference=texts,
    reason=texts,
    manifest=st.dictionaries(texts, texts | st.integers() | st.lists(texts)),
    metrics=st.dictionaries(texts, st.floats(allow_nan=False)),
    bytes_sent=st.integers(min_value=0),
)


@given(outcome=outcomes)
def test_passes_through_the_pipe_unchanged(outcome: Outcome) -> None:
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_manifest_is_written_for_kubeflow_to_upload(tmp_path: Path) -> None:
    path = tmp_path / "deep/manifest"
    Outcome(manifest={"sites": ["b", "a"], "bytes": 3}).write_manifest(str(path))
    assert json.loads(path.read_text()) == {"sites": ["b", "a"], "bytes": 3}


def test_nothing_is_written_for_a_site_left_out(tmp_path: Path) -> None:
    Outcome(reason="oom").write_manifest(str(tmp_path / "deep/manifest"))
    assert list(tmp_path.iterdir()) == []
