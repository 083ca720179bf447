"""Whatever a site's work does, the run of the others goes on and its secrets stay at home."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from components.artifacts.stores import Store, open_store
from components.errors import (
    BadDataError,
    EncoderError,
    IntegrityError,
    ObjectMissingError,
    RefusedError,
    SignatureError,
    SiteError,
    SourceUnreachableError,
    StoreError,
)
from components.execution.departures import read_departures
from components.execution.forking import fork
from components.execution.journal import entries
from components.execution.notes import read_notes
from components.execution.outcome import Outcome
from components.execution.site_step import SiteStep
from components.execution.suspicion import suspected
from tests.components.execution.conftest import TICKET

FOLDER = "rounds/00001-1"
SECRET = "Ottilie Quastenberg, born 1961"
STEP = SiteStep(
    name="train", site="alpha", store_uri="store", exchange_uri="exchange", ticket=TICKET, deadline_s=20
)


def raising(error: BaseException) -> Callable[[], Outcome]:
    def work() -> Outcome:
        raise error

    return work


def ending(how: Callable[[], object]) -> Callable[[], Outcome]:
    def work() -> Outcome:
        how()
        return Outcome(reference="survived")

    return work


def notes() -> list[dict[str, Any]]:
    store = open_store("store")
    return [json.loads(store.read(key)) for key in store.keys("notes")]


def everything_below(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class TestAResult:
    def test_passes_unchanged(self, exchange: Store) -> None:
        made = Outcome(
            reference="store/ü",
            manifest={"rows": [1, None]},
            metrics={"seconds": 0.5},
            bytes_sent=2**40,
            bytes_read=2**41,
            findings=("a class is gone",),
        )
        assert STEP.run(lambda: made) == made
        assert not open_store("store").exists("notes")

    def test_larger_than_a_pipe_passes(self, exchange: Store) -> None:
        made = Outcome(manifest={"text": "x" * 3_000_000})
        assert STEP.run(lambda: made) == made

    def test_is_made_in_another_process(self, exchange: Store) -> None:
        changed: list[int] = []

        def work() -> Outcome:
            changed.append(1)
            return Outcome(manifest={"process": os.getpid(), "parent": os.getppid()})

        found = STEP.run(work).manifest
        assert (found["parent"], changed) == (os.getpid(), [])
        assert found["process"] != os.getpid()

    def test_leaves_no_process_and_no_descriptor(self, exchange: Store) -> None:
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        child = STEP.run(lambda: Outcome(manifest={"process": os.getpid()})).manifest["process"]
        assert not is_running(child)
        STEP.run(raising(ValueError()))
        STEP.run(ending(lambda: os.kill(os.getpid(), signal.SIGKILL)))
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208

    def test_is_journalled_once(self, exchange: Store) -> None:
        def slow() -> Outcome:
            time.sleep(0.2)
            return Outcome(bytes_sent=300, bytes_read=64, findings=("a class is 'gone'",))

        assert STEP.run(slow).bytes_sent == 300
        (entry,) = entries(exchange, FOLDER)
        assert (entry.step, entry.site, entry.bytes) == ("train", "alpha", 300)
        assert (entry.bytes_read, entry.findings) == (64, ("a class is gone",))
        assert 0.2 <= entry.seconds < 5
        # A resumed round finds the work done and sends nothing.
        assert STEP.run(lambda: Outcome(reference="found")) == Outcome(reference="found")
        assert entries(exchange, FOLDER) == [entry]

    def test_that_cannot_be_handed_on_is_a_failure_with_a_note(self, exchange: Store) -> None:
        outcome = STEP.run(lambda: Outcome(metrics={"loss": object()}))  # type: ignore[dict-item]
        assert outcome == Outcome(reason="failed: TypeError")
        assert [note["error"] for note in notes()] == ["TypeError"]


class TestASiteLeftOut:
    def test_does_nothing_and_passes_its_reason_on(
        self, exchange: Store, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def must_not_run() -> NoReturn:
            open_store("store").create("ran", b"")
            raise AssertionError

        assert STEP.run(must_not_run, reason="oom") == Outcome(reason="oom")
        assert open_store("store").keys() == []
        assert entries(exchange, FOLDER) == []
        assert capfd.readouterr() == ("", "")

    def test_passes_on_nothing_but_a_plain_line(self, exchange: Store) -> None:
        outcome = STEP.run(raising(AssertionError()), reason='failed: "a"\n{}' + "x" * 500)
        assert outcome.reason.startswith("failed: a {}xxx")
        assert len(outcome.reason) == 200


ERRORS: list[tuple[BaseException, str]] = [
    (BadDataError(SECRET, disclosed="a label is not in classes"), "bad_data: a label is not in classes"),
    (BadDataError(SECRET), "bad_data"),
    (SourceUnreachableError(SECRET, disclosed="gs://bucket"), "unreachable: gs://bucket"),
    (RefusedError(SECRET, disclosed="not today"), "refused: not today"),
    (EncoderError(SECRET), "bad_encoder"),
    (SiteError(SECRET), "failed"),
    (StoreError(SECRET), "unreachable: a store (StoreError)"),
    (ObjectMissingError(SECRET), "unreachable: a store (ObjectMissingError)"),
    (MemoryError(SECRET), "oom"),
    (ValueError(SECRET), "failed: ValueError"),
    (KeyError(SECRET, 1), "failed: KeyError"),
    (AssertionError(SECRET), "failed: AssertionError"),
    (SystemExit(SECRET), "failed: SystemExit"),
    (KeyboardInterrupt(SECRET), "failed: KeyboardInterrupt"),
    (ExceptionGroup(SECRET, [ValueError(SECRET)]), "failed: ExceptionGroup"),
]


class TestAnError:
    @pytest.mark.parametrize(
        ("error", "reason"), ERRORS, ids=[f"{type(error).__name__}-{reason}" for error, reason in ERRORS]
    )
    def test_becomes_its_reason_and_its_message_stays_at_the_site(
        self,
        exchange: Store,
        home: Path,
        capfd: pytest.CaptureFixture[str],
        error: BaseException,
        reason: str,
    ) -> None:
        outcome = STEP.run(raising(error))
        assert outcome == Outcome(reason=reason)
        (note,) = notes()
        assert (note["step"], note["error"], note["ticket"]) == ("train", type(error).__name__, TICKET)
        assert note["reason"] == reason
        assert SECRET in note["message"]
        assert any(SECRET in line for line in note["trace"])
        printed = capfd.readouterr()
        assert printed.err == f"crosscloud-progress: left out: {reason}\n"
        seen_by_others = [outcome.to_json(), printed.out.encode(), printed.err.encode()]
        for seen in (*seen_by_others, everything_below(home / "exchange")):
            for part in (SECRET, "Ottilie", "Quastenberg", "1961"):
                assert part.encode() not in seen

    def test_is_not_journalled(self, exchange: Store) -> None:
        STEP.run(raising(ValueError()))
        assert entries(exchange, FOLDER) == []

    def test_a_secret_in_cause_and_context_stays_at_the_site_too(
        self, exchange: Store, home: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def work() -> Outcome:
            failure = RuntimeError("a library failed")
            failure.add_note(SECRET)
            raise failure from KeyError(SECRET)

        outcome = STEP.run(work)
        assert outcome.reason == "failed: RuntimeError"
        assert SECRET in "".join(notes()[0]["trace"])
        assert SECRET.encode() not in outcome.to_json() + everything_below(home / "exchange")
        assert SECRET not in "".join(capfd.readouterr())

    @pytest.mark.parametrize("kind", [IntegrityError, SignatureError])
    def test_of_integrity_is_refused_in_full(self, exchange: Store, kind: type[IntegrityError]) -> None:
        assert STEP.run(raising(kind("the ticket is 'altered'"))).reason == "refused: the ticket is altered"

    def test_two_have_two_notes(self, exchange: Store) -> None:
        STEP.run(raising(ValueError("first")))
        STEP.run(raising(ValueError("second")))
        assert [note["message"] for note in notes()] == ["first", "second"]

    @pytest.mark.parametrize("error", [ValueError(SECRET), SourceUnreachableError(SECRET)])
    def test_of_a_site_whose_store_is_gone_is_still_a_reason(
        self, exchange: Store, home: Path, capfd: pytest.CaptureFixture[str], error: Exception
    ) -> None:
        (home / "store").write_text("no folder")
        assert STEP.run(raising(error)).reason in {"failed: ValueError", "unreachable"}
        printed = capfd.readouterr().err
        assert "no note could be kept at alpha (StoreError)" in printed
        assert SECRET not in printed

    def test_of_a_site_whose_store_has_no_driver_is_still_a_reason(self, exchange: Store) -> None:
        """The scheme's package is missing in the site's image: opening the store fails twice."""
        step = replace(STEP, store_uri="ftp://nowhere/store")
        assert step.run(raising(ValueError(SECRET))).reason == "failed: ValueError"

    def test_of_python_that_cannot_even_be_told_is_a_reason(self, exchange: Store) -> None:
        class UntoldError(Exception):
            def __str__(self) -> str:
                raise RuntimeError(SECRET)

        assert STEP.run(raising(UntoldError())).reason.startswith("failed")


def by_signal(number: signal.Signals) -> Callable[[], Outcome]:
    def die() -> None:
        faulthandler.disable()
        os.kill(os.getpid(), number)
        time.sleep(30)

    return ending(die)


class TestASuddenEnd:
    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (signal.SIGKILL, "oom"),
            (signal.SIGSEGV, f"failed: ended by signal {signal.SIGSEGV.value}"),
            (signal.SIGABRT, f"failed: ended by signal {signal.SIGABRT.value}"),
            (signal.SIGTERM, f"failed: ended by signal {signal.SIGTERM.value}"),
        ],
    )
    def test_by_a_signal(
        self, exchange: Store, capfd: pytest.CaptureFixture[str], number: signal.Signals, reason: str
    ) -> None:
        assert STEP.run(by_signal(number)) == Outcome(reason=reason)
        assert f"left out: {reason}\n" in capfd.readouterr().err
        assert entries(exchange, FOLDER) == []

    def test_on_what_another_party_wrote_is_a_refusal_that_names_it(self, exchange: Store) -> None:
        def work() -> Outcome:
            with suspected(b"the 'public' context"):
                return by_signal(signal.SIGSEGV)()

        assert STEP.run(work).reason == "refused: the public context ended the process by signal 11"

    def test_after_it_was_done_with_is_not_put_down_to_it(self, exchange: Store) -> None:
        def work() -> Outcome:
            with contextlib.suppress(ValueError), suspected(b"the public context"):
                raise ValueError
            return by_signal(signal.SIGSEGV)()

        assert STEP.run(work).reason == "failed: ended by signal 11"

    def test_an_error_while_something_is_suspected_is_told_as_an_error(self, exchange: Store) -> None:
        def work() -> Outcome:
            with suspected(b"the public context"):
                raise RefusedError(SECRET, disclosed="not today")

        assert STEP.run(work).reason == "refused: not today"

    def test_by_the_system_for_memory_is_nobodys_fault(self, exchange: Store) -> None:
        def work() -> Outcome:
            with suspected(b"the public context"):
                return by_signal(signal.SIGKILL)()

        assert STEP.run(work).reason == "oom"

    def test_leaves_no_core(self, exchange: Store) -> None:
        """Cores that go through a pipe are written whatever the limit is, unless it is one byte."""
        found = STEP.run(lambda: Outcome(manifest={"core": resource.getrlimit(resource.RLIMIT_CORE)}))
        assert found.manifest == {"core": [1, 1]}

    @pytest.mark.parametrize("code", [0, 3])
    def test_without_an_answer_names_no_signal_that_was_not_sent(self, exchange: Store, code: int) -> None:
        reason = STEP.run(ending(lambda: os._exit(code))).reason
        assert reason.startswith("failed")
        assert "signal" not in reason

    def test_past_the_deadline_is_killed(
        self, exchange: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def work() -> Outcome:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            (tmp_path / "process").write_text(str(os.getpid()))
            with contextlib.suppress(BaseException):
                time.sleep(60)
            return Outcome(reference="too late")

        start = time.monotonic()
        outcome = replace(STEP, deadline_s=1).run(work)
        assert outcome == Outcome(reason="timeout: train did not end within 1 s")
        assert 1 <= time.monotonic() - start < 50
        assert not is_running(int((tmp_path / "process").read_text()))
        assert entries(exchange, FOLDER) == []
        assert "left out: timeout: train did not end within 1 s" in capfd.readouterr().err

    def test_has_a_note_of_what_the_others_were_told(self, exchange: Store) -> None:
        STEP.run(by_signal(signal.SIGKILL))
        replace(STEP, deadline_s=1).run(ending(lambda: time.sleep(30)))
        assert [(note.error, note.reason, note.message) for note in read_notes(open_store("store"))] == [
            ("", "oom", "oom"),
            ("", "timeout: train did not end within 1 s", "timeout: train did not end within 1 s"),
        ]


class TestWhatLeaves:
    def test_is_written_down_the_outcome_and_the_journals_entry(self, exchange: Store) -> None:
        STEP.run(lambda: Outcome(reference="there", metrics={"loss": 0.5}, ticket="ab" * 32))
        told, journalled = read_departures(open_store("store"))
        assert (told.state, told.told, told.fields) == ("told", "there", ("metric loss",))
        assert (journalled.state, journalled.key) == ("sent", f"{FOLDER}/journal/train-alpha.json")
        assert journalled.size == exchange.size(journalled.key)
        for each in (told, journalled):
            occasion = each.occasion
            assert (occasion.step, occasion.round_number, occasion.ticket) == ("train", 1, "ab" * 32)

    def test_of_a_step_that_fails_is_its_reason_alone(self, exchange: Store) -> None:
        STEP.run(raising(BadDataError(SECRET, disclosed="a label is not in classes")))
        (told,) = read_departures(open_store("store"))
        assert (told.reason, told.told, told.fields) == ("bad_data: a label is not in classes", "", ())
        store = open_store("store")
        assert not any(SECRET.encode() in store.read(key) for key in store.keys("left"))

    def test_is_no_more_than_a_reason_where_it_cannot_be_written_down(
        self, exchange: Store, home: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (home / "store").write_text("no folder")
        outcome = STEP.run(lambda: Outcome(reference="there", manifest={"rows": 3}))
        assert outcome == Outcome(reason="unreachable: a store (StoreError)")
        assert entries(exchange, FOLDER) == []
        assert "nothing can be written down at alpha (StoreError)" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_work_ends_with_its_guard(exchange: Store, tmp_path: Path) -> None:
    """The guard is killed, so that nothing of it can end anything."""

    def work() -> Outcome:
        (tmp_path / "starting").write_text(str(os.getpid()))
        (tmp_path / "starting").rename(tmp_path / "process")
        time.sleep(60)
        return Outcome()

    guard = fork()
    if guard == 0:
        try:
            STEP.run(work)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while not (tmp_path / "process").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process = int((tmp_path / "process").read_text())
    os.kill(guard, signal.SIGKILL)
    os.waitpid(guard, 0)
    while _works(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _works(process)


def _works(process: int) -> bool:
    """Whether it is there and no zombie that its new parent has yet to wait for."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_the_caller_goes_on_in_its_own_stack(exchange: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """The child must not come back: nothing after the step happens twice, nothing buffered is said twice."""
    sys.stdout.write("before ")
    STEP.run(raising(ValueError()))
    STEP.run(ending(lambda: sys.stdout.write("during ")))
    sys.stdout.write("after")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before during after"
