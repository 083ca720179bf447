"""The quick start's rounds in containers, each step in its own image; `make test-images` runs it.

Under the method `sealed`, which is deterministic, the round that containers commit must be the one that
processes of this machine commit from the same keys and records: the same bytes. Under `ours`, which draws
noise, the containers' round must stand up to verification. And a step in the image of another role must fail.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components import images
from components.agreement.charter_book import charter_in_force
from components.artifacts.stores import open_store
from components.rounds.state import newest_record, read_checkpoint, round_key
from components.rounds.verification import verify_state
from pipelines.chartering import ensure_charter
from pipelines.compile import compile_round
from pipelines.console import closing_table, round_figures
from pipelines.federation import Federation, load_federation
from pipelines.federation_run import make_sample_data, run_federation
from tests.images.container_run import ContainerRunError, EndedStep, run_in_containers

FEDERATION = Path("manifests/federations/quickstart.yaml")
FOLDER = Path("build/images")
ARGUMENTS = {"device": "cpu"}
"""Of both kinds of run: a GPU that only processes could see would add in another order."""


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What a round left in the state."""

    model: str
    checkpoint: bytes
    members: tuple[str, ...]


def main() -> None:
    """Runs all rounds; ends with an assertion that names what is not as it should be."""
    folder = FOLDER.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    console = Console(soft_wrap=True, highlight=False)
    quick_start = load_federation(FEDERATION)

    sealed = quick_start.with_method("sealed")
    processes, containers = folder / "sealed-in-processes", folder / "sealed-in-containers"
    prepare(sealed, processes, console)
    shutil.copytree(processes, containers)
    foreign_role_fails(sealed, containers, console)
    there = in_containers(sealed, containers, console)
    here = in_processes(sealed, processes, console)
    assert there.members == here.members == tuple(sorted(sealed.site_names))
    assert there.checkpoint == here.checkpoint, (
        f"containers committed model {there.model}, processes {here.model}, from the same keys and records"
    )
    console.print(f"sealed: the same {len(there.checkpoint)} bytes from both, model {there.model}")

    noised = folder / "ours-in-containers"
    prepare(quick_start, noised, console)
    ours = in_containers(quick_start, noised, console)
    console.print(f"ours: committed model {ours.model} of {', '.join(ours.members)}")


def prepare(federation: Federation, home: Path, console: Console) -> None:
    """Makes keys, charter and the sites' records below a new home."""
    home.mkdir(parents=True, mode=0o700)
    os.environ["CROSSCLOUD_HOME"] = str(home)
    ensure_charter(federation)
    make_sample_data(federation, console)


def in_processes(federation: Federation, home: Path, console: Console) -> Committed:
    """One round as `crosscloud run` does it."""
    os.environ["CROSSCLOUD_HOME"] = str(home)
    run_federation(federation, rounds=1, arguments=ARGUMENTS, warm=True, console=console)
    return committed(federation)


def in_containers(federation: Federation, home: Path, console: Console) -> Committed:
    """One round of the compiled pipeline, each step in a container of its own image."""
    os.environ["CROSSCLOUD_HOME"] = str(home)
    began = time.perf_counter()
    spec = compile_round(federation, home / "round.yaml")
    steps = run_in_containers(
        spec, ARGUMENTS, home=home, pipeline_root=home / "pipeline-root", log=home.with_suffix(".log")
    )
    seconds = time.perf_counter() - began
    console.print(table(federation.method, steps, seconds))
    told = json.loads(open_store(federation.state_uri).read(round_key(1, "report.json")))
    console.print(closing_table([round_figures(told, seconds)]))
    found = verify_state(federation.state_uri, keys_uri=federation.keys_uri)
    assert not found.problems, "\n".join(found.problems)
    return committed(federation)


def foreign_role_fails(federation: Federation, home: Path, console: Console) -> None:
    """The key holder's image opens no round, and a step that fails at once is told with its exit code."""
    os.environ["CROSSCLOUD_HOME"] = str(home)
    spec = compile_round(federation, home / "foreign.yaml")
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace(images.AGGREGATOR, images.KEY_HOLDER), encoding="utf-8")
    try:
        run_in_containers(
            spec, ARGUMENTS, home=home, pipeline_root=home / "foreign", log=home.with_suffix(".log")
        )
    except ContainerRunError as error:
        refusal = str(error).splitlines()[0]
    else:
        raise AssertionError("a round was opened in the key holder's image")
    assert refusal.startswith(f"open round ended with 1 in {images.KEY_HOLDER}"), refusal
    console.print(f"in the key holder's image, as it must: {refusal.partition(',')[0]}")


def committed(federation: Federation) -> Committed:
    """The newest round, which must be the first."""
    state = open_store(federation.state_uri)
    charter = charter_in_force(federation.keys_uri)
    record = newest_record(state, federation.keys_uri, charter)
    assert record is not None, "no round was committed"
    assert record.round_number == 1
    return Committed(
        model=record.model, checkpoint=read_checkpoint(state, record), members=tuple(sorted(record.members))
    )


def table(method: str, steps: list[EndedStep], seconds: float) -> Table:
    """What ran where."""
    rows = Table(title=f"{method}: {len(steps)} containers, {seconds:.0f} s", title_justify="left")
    for column in ("step", "image", "exit code", "seconds"):
        rows.add_column(column, justify="right" if column == "seconds" else "left")
    for step in steps:
        rows.add_row(step.title, step.image, str(step.exit_code), f"{step.seconds:.1f}")
    return rows


if __name__ == "__main__":
    main()
