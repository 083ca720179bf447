"""What is read off the local runner's records and lines: the wording is kfp 2.17's."""

from __future__ import annotations

import io
import logging
import threading

import pytest

from pipelines.local.events import StepEvent
from pipelines.local.observer import LineTap, RunObserver
from pipelines.local.tasks import Task

TASKS = {"train-2": Task(name="train-2", title="train · aws"), "roster": Task(name="roster", title="roster")}
GREEN, RED, CYAN, RESET = "\033[92m", "\033[91m", "\033[96m", "\033[0m"


class Run:
    """An observer with the events it told and a clock that moves a second a look."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self.now = 0.0
        self.observer = RunObserver(TASKS, self.events.append, clock=self._tick)

    def _tick(self) -> float:
        self.now += 1.0
        return self.now

    def log(self, text: str) -> None:
        assert self.observer.filter(logging.LogRecord("root", logging.INFO, "", 0, text, (), None))

    def start(self, name: str) -> None:
        self.log(f"Executing task {CYAN}'{name}'{RESET}")

    def succeed(self, name: str) -> None:
        self.log(f"Task {CYAN}'{name}'{RESET} finished with status {GREEN}SUCCESS{RESET}")
        self.log(f"Task {CYAN}'{name}'{RESET} outputs:\n    Output: 'x'")

    def fail(self, name: str) -> None:
        self.log(f"Task {CYAN}'{name}'{RESET} finished with status {RED}FAILURE{RESET}")

    def seen(self) -> list[tuple[str, str, float | None, str]]:
        return [(event.title, event.status, event.seconds, event.message) for event in self.events]


def test_a_task_is_told_by_its_title_with_its_seconds() -> None:
    run = Run()
    run.log("Running pipeline: 'round'")
    run.start("train-2")
    run.observer.read("    crosscloud-progress: 250 of 600 rows, 41 rows/s  ")
    run.succeed("train-2")
    run.start("roster")
    run.log("Task 'roster' has no outputs")

    assert run.events[0].task == "train-2"
    assert run.seen() == [
        ("train · aws", "started", None, ""),
        ("train · aws", "progress", 1.0, "250 of 600 rows, 41 rows/s"),
        ("train · aws", "succeeded", 3.0, ""),
        ("roster", "started", None, ""),
        ("roster", "succeeded", 2.0, ""),
    ]
    assert run.observer.seconds == {"train · aws": 2.0, "roster": 1.0}
    assert run.observer.failure is None


def test_the_last_error_that_the_failing_task_names_is_kept() -> None:
    run = Run()
    run.start("roster")
    run.observer.read("    crosscloud-error: BadDataError: not of the task that fails")
    run.succeed("roster")
    run.start("train-2")
    run.observer.read("crosscloud-error: StoreError: an earlier one")
    run.observer.read("    crosscloud-error: QuorumNotReachedError: 2 of 3 sites, at least 3: wait\n")
    run.observer.read("nanobind: leaked 3 instances")
    run.fail("train-2")

    failure = run.observer.failure
    assert failure is not None
    assert failure.title == "train · aws"
    assert failure.error_type == "QuorumNotReachedError"
    assert failure.message == "2 of 3 sites, at least 3: wait"


def test_a_retry_begins_without_the_errors_of_the_attempt_before() -> None:
    run = Run()
    run.start("train-2")
    run.observer.read("crosscloud-error: StoreError: gone")
    run.fail("train-2")
    run.start("train-2")
    run.fail("train-2")

    assert [failure and failure.error_type for failure in (run.observer.failure,)] == [""]
    run.start("train-2")
    run.succeed("train-2")
    assert run.observer.failure is None
    assert [event.status for event in run.events] == ["started", "failed"] * 2 + ["started", "succeeded"]


def test_a_task_without_its_outputs_has_not_succeeded() -> None:
    run = Run()
    run.start("roster")
    run.log("Task 'roster' finished with status SUCCESS")
    run.observer.abort()

    assert [event.status for event in run.events] == ["started", "failed"]
    assert run.observer.failure is not None
    assert run.observer.failure.title == "roster"


def test_lines_belong_to_the_task_of_their_thread() -> None:
    run = Run()
    run.start("roster")

    def other() -> None:
        run.observer.read("crosscloud-progress: of no task")
        run.start("train-2")
        run.observer.read("crosscloud-progress: of the other task")
        run.succeed("train-2")

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    run.observer.read("crosscloud-progress: of the first task")

    assert [(event.title, event.message) for event in run.events if event.message] == [
        ("train · aws", "of the other task"),
        ("roster", "of the first task"),
    ]


def test_records_of_unknown_tasks_and_other_lines_say_nothing() -> None:
    run = Run()
    run.start("unknown")
    run.start("roster")
    for line in ("crosscloud-progress:", "a crosscloud-progress: b", "crosscloud-error", ""):
        run.observer.read(line)
    run.fail("roster")

    assert [event.status for event in run.events] == ["started", "failed"]
    assert run.observer.failure is not None
    assert run.observer.failure.error_type == ""


@pytest.mark.parametrize(
    "parts", [["one\ntwo\nthr", "ee\n"], list("one\ntwo\nthree\n"), ["one\ntwo\nthree\n"]]
)
def test_lines_become_whole_however_they_are_written(parts: list[str]) -> None:
    behind, lines = io.StringIO(), list[str]()
    tap = LineTap(behind, lines.append)
    for part in parts:
        assert tap.write(part) == len(part)
    tap.write("unfinished")

    assert lines == ["one", "two", "three"]
    assert behind.getvalue() == "one\ntwo\nthree\nunfinished"
