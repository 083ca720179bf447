"""Compiled pipelines run by kfp's own local runner, through the process that hosts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.local import LocalRunner, RunOutcome, StepEvent
from tests.pipelines.local.conftest import MODULES


class Place:
    """A runner, and the folders it works in; their names have spaces."""

    def __init__(self, folder: Path, specs: Path, *, warm: bool, modules: tuple[str, ...] = MODULES) -> None:
        self.home = folder / "the home of it"
        self.log = folder / "logs of it" / "run.log"
        self.specs = specs
        self.runner = LocalRunner(home=self.home, log_path=self.log, warm=warm, modules=modules)
        self.root = folder / "pipeline roots"
        self.runs = 0
        self.events: list[StepEvent] = []

    def run(
        self, pipeline: str, on_event: Callable[[StepEvent], None] | None = None, **arguments: object
    ) -> RunOutcome:
        self.runs += 1
        self.events = []
        return self.runner.run(
            self.specs / f"{pipeline}.yaml",
            arguments,
            pipeline_root=self.root / f"run {self.runs}",
            on_event=on_event or self.events.append,
        )


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "warm"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, specs: Path
) -> Iterator[Place]:
    """One runner for all rounds of this module, without and with the warm interpreter."""
    place = Place(tmp_path_factory.mktemp("a place"), specs, warm=request.param)
    with place.runner:
        yield place


@pytest.fixture
def plain_place(tmp_path: Path, specs: Path) -> Iterator[Place]:
    """A runner of the test's own."""
    place = Place(tmp_path, specs, warm=False)
    with place.runner:
        yield place


def test_a_pipeline_runs_and_its_outputs_stay(place: Place) -> None:
    for name in ("anna", "bo"):
        outcome = place.run("greetings", name=name)

        assert outcome.succeeded, outcome.error
        assert (outcome.error, outcome.error_type) == ("", "")
        assert outcome.parameters == {
            "greet · gcp": {"text": f"hello {name}", "size": len(name)},
            "greet · aws": {"text": f"hello hello {name}", "size": len(name) + 6},
        }
        assert list(outcome.steps) == ["greet · gcp", "greet · aws"]
        assert 0 < sum(outcome.steps.values()) < outcome.seconds
        (written,) = (place.root / f"run {place.runs}").glob("*/greet-2/letter")
        assert written.read_text() == f"dear hello {name}"


def test_defaults_of_the_pipeline_hold(place: Place) -> None:
    assert place.run("greetings").parameters["greet · gcp"]["text"] == "hello world"


def test_events_come_in_order_under_the_titles_people_gave(place: Place) -> None:
    outcome = place.run("greetings")

    assert [(event.task, event.title, event.status) for event in place.events] == [
        ("greet", "greet · gcp", "started"),
        ("greet", "greet · gcp", "succeeded"),
        ("greet-2", "greet · aws", "started"),
        ("greet-2", "greet · aws", "succeeded"),
    ]
    assert place.events[0].seconds is None
    assert place.events[3].seconds == pytest.approx(outcome.steps["greet · aws"], abs=0.05)


def test_progress_arrives_while_the_step_runs(place: Place, tmp_path: Path) -> None:
    """The step goes on when what it said has arrived."""
    arrived: list[StepEvent] = []

    def answer(event: StepEvent) -> None:
        arrived.append(event)
        if event.status == "progress":
            (tmp_path / {"begun": "pid.seen", "half way": "pid.over"}[event.message]).touch()

    began = time.monotonic()
    place.run("working", on_event=answer, pid_file=str(tmp_path / "pid"), seconds=100.0)

    assert time.monotonic() - began < 90, "it went on without having been heard"
    assert [event.message for event in arrived if event.status == "progress"] == ["begun", "half way"]
    assert all(event.title == "work" for event in arrived)


def test_a_step_s_surroundings(place: Place) -> None:
    outcome = place.run("surroundings")
    seen = json.loads(outcome.parameters["look"]["Output"])
    environment = seen["environment"]

    assert environment["CROSSCLOUD_HOME"] == str(place.home)
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment.get("HF_HUB_OFFLINE") == os.environ.get("HF_HUB_OFFLINE")
    ours = {"CROSSCLOUD_HOME", "PYTHONUNBUFFERED", "PYTHONSAFEPATH", "TMPDIR", "_KFP_RUNTIME"}
    shell_s = {"PWD", "OLDPWD", "SHLVL", "_", "PATH", "PYTEST_CURRENT_TEST"}
    for name in environment.keys() ^ os.environ.keys():
        assert name in ours | shell_s
    assert seen["cwd"] == str(Path.cwd())
    assert seen["cwd"] not in seen["path"]
    assert seen["stdin"] == ""
    assert seen["executable"] == sys.executable
    assert seen["session"] != os.getsid(0)
    assert Path(seen["temporary"]).parent == place.home
    assert list(place.home.glob("tmp-*/*")) == []


def test_a_step_sees_the_same_with_and_without_the_warm_interpreter(tmp_path: Path, specs: Path) -> None:
    seen = []
    for warm in (False, True):
        place = Place(tmp_path / str(warm), specs, warm=warm)
        with place.runner:
            output = place.run("surroundings").parameters["look"]["Output"]
            greeting = place.run("greetings").parameters
        output = output.replace(str(tmp_path / str(warm)), "PLACE")
        for changing in (r"surroundings-[-0-9]+", r"tmp-\w+", r"tmp\.\w+", r'"session": \d+'):
            output = re.sub(changing, "CHANGING", output)
        seen.append((output, greeting))

    assert seen[0] == seen[1]


def test_a_failing_step_s_own_words_are_the_error(place: Place) -> None:
    lines = [
        "crosscloud-error: StoreError: not this one",
        "crosscloud-error: QuorumNotReachedError: 2 of 4 sites took part, min_sites is 3; see the reasons",
        "some library's last words",
    ]
    outcome = place.run("failing", lines=lines)

    assert not outcome.succeeded
    assert outcome.error_type == "QuorumNotReachedError"
    assert outcome.error == "2 of 4 sites took part, min_sites is 3; see the reasons"
    assert list(outcome.steps) == ["before", "train · aws"]
    assert [(event.title, event.status) for event in place.events[-2:]] == [
        ("train · aws", "started"),
        ("train · aws", "failed"),
    ]
    assert "some library's last words" in place.log.read_text(encoding="utf-8")


def test_an_error_of_an_earlier_run_is_not_this_run_s(place: Place) -> None:
    place.run("failing", lines=["crosscloud-error: StoreError: of the run before"])
    outcome = place.run("failing", lines=["Traceback"], status=3)

    assert outcome.error == f"step 'train · aws' failed; see {place.log}"
    assert outcome.error_type == ""


def test_a_runner_goes_on_after_a_failed_run(place: Place) -> None:
    assert not place.run("failing", lines=[]).succeeded
    assert place.run("greetings").succeeded


def test_an_output_that_was_never_written_fails_the_run_where_it_is_needed(place: Place) -> None:
    outcome = place.run("forgetting")

    assert not outcome.succeeded
    assert outcome.error.startswith("ValueError: ")
    assert "'forget'" in outcome.error
    assert outcome.error.endswith(f"; see {place.log}")
    assert list(outcome.steps) == ["forget"]


def test_arguments_that_do_not_fit_are_one_line(place: Place) -> None:
    for name, value in (("nome", "x"), ("name", 3)):
        outcome = place.run("greetings", **{name: value})  # type: ignore[arg-type]
        assert not outcome.succeeded
        assert outcome.error.count("\n") == 0
        assert name in outcome.error
        assert outcome.error.endswith(f"; see {place.log}")
        assert outcome.steps == {}


def test_a_spec_that_cannot_be_read_does_not_end_the_runner(plain_place: Place, tmp_path: Path) -> None:
    for content in ("pipelineInfo: [", "hello", "root: {dag: {tasks: {}}}\nnonsense: 1\n"):
        broken = tmp_path / "broken.yaml"
        broken.write_text(content, encoding="utf-8")
        outcome = plain_place.runner.run(broken, {}, pipeline_root=tmp_path / f"root {len(content)}")
        assert not outcome.succeeded
        assert str(plain_place.log) in outcome.error
    assert plain_place.run("greetings").succeeded


def test_files_that_a_person_can_get_wrong(plain_place: Place, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        plain_place.runner.run(tmp_path / "missing.yaml", {}, pipeline_root=tmp_path / "root")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(UsageError, match="need an empty folder"):
        plain_place.runner.run(plain_place.specs / "greetings.yaml", {}, pipeline_root=tmp_path / "used")


def test_two_runners_at_once(tmp_path: Path, specs: Path) -> None:
    places = [Place(tmp_path / name, specs, warm=False) for name in ("one", "two")]

    def rounds(place: Place) -> list[RunOutcome]:
        with place.runner:
            return [place.run("greetings", name=f"{place.home.parent.name} {i}") for i in range(2)]

    with ThreadPoolExecutor() as pool:
        for place, outcomes in zip(places, pool.map(rounds, places), strict=True):
            for number, outcome in enumerate(outcomes):
                greeting = outcome.parameters["greet · gcp"]["text"]
                assert greeting == f"hello {place.home.parent.name} {number}"


def test_a_step_whose_process_is_killed_fails(place: Place, tmp_path: Path) -> None:
    def kill_the_step(event: StepEvent) -> None:
        if event.message == "begun":
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    outcome = place.run("working", on_event=kill_the_step, pid_file=str(tmp_path / "pid"))

    assert outcome.error == f"step 'work' failed; see {place.log}"


def test_an_interpreter_in_a_folder_with_spaces_runs_and_does_not_import_kfp(
    tmp_path: Path, specs: Path
) -> None:
    environment = tmp_path / "python3 of a person" / "venv"
    venv.create(environment, symlinks=True, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    script = f"""
        import sys
        from pathlib import Path
        from pipelines.local import LocalRunner

        folder = Path({str(tmp_path)!r})
        for warm in (False, True):
            places = {{"home": folder / "a home", "log_path": folder / "a log"}}
            with LocalRunner(**places, warm=warm, modules={MODULES}) as runner:
                spec = Path({str(specs / "surroundings.yaml")!r})
                outcome = runner.run(spec, {{}}, pipeline_root=folder / f"root {{warm}}")
                assert outcome.succeeded, outcome.error
                assert sys.executable in outcome.parameters["look"]["Output"]
        assert "kfp" not in sys.modules
    """
    interpreter = environment / "bin" / "python"

    completed = subprocess.run(
        [interpreter, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )

    assert completed.returncode == 0, completed.stderr


def test_folders_named_like_ours_where_the_command_is_typed_do_not_matter(
    tmp_path: Path, specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("components", "pipelines", "kfp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not the right one')")
    monkeypatch.chdir(tmp_path)

    for warm in (False, True):
        place = Place(tmp_path / str(warm), specs, warm=warm, modules=(*MODULES, "components.errors"))
        with place.runner:
            assert place.run("greetings").succeeded
