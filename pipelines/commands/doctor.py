"""`crosscloud doctor`: what would stop the next round, told before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.errors import FederationFileError
from pipelines.commands.arguments import FederationFile, Method, load

if TYPE_CHECKING:
    from pipelines.diagnosis.findings import Finding

_CHECK_WIDTH, _STATE_WIDTH = len("charter terms"), len("not checked")


def doctor(
    federation: FederationFile,
    site: Annotated[
        str, typer.Option("--as", metavar="SITE", help="Look at this site alone; its policy must be here.")
    ] = "",
    offline: Annotated[bool, typer.Option(help="Ask no network and no warehouse.")] = False,
    method: Method = None,
) -> None:
    """Look for what would stop the next round; no row is read, nothing is billed. Exits with 1 on a fault."""
    faults, unchecked = _told(_findings(federation, site, method, offline=offline))
    left = f", {unchecked} not checked" if unchecked else ""
    typer.echo(f"{faults} fault{'s' if faults != 1 else ''}{left}")
    if faults:
        raise typer.Exit(1)


def _findings(path: Path, site: str, method: str | None, *, offline: bool) -> Iterable[Finding]:
    from pipelines.diagnosis.examination import FEDERATION, examine
    from pipelines.diagnosis.findings import Finding

    try:
        chosen = load(path, method)
    except FederationFileError as error:
        if not path.is_file():
            raise
        for problem in error.problems:
            yield Finding(party=FEDERATION, check="file", state="fault", text=problem)
        return
    sites = f"{len(chosen.sites)} sites: {', '.join(chosen.site_names)}"
    yield Finding(party=FEDERATION, check="file", state="ok", text=sites)
    yield from examine(chosen, site=site, offline=offline, now=datetime.now(UTC).replace(microsecond=0))


def _told(findings: Iterable[Finding]) -> tuple[int, int]:
    """Prints each finding once it is there; gives the numbers of faults and of checks not made."""
    counts = {"ok": 0, "fault": 0, "not checked": 0}
    for each in findings:
        counts[each.state] += 1
        check, state = each.check.ljust(_CHECK_WIDTH), each.state.ljust(_STATE_WIDTH)
        typer.echo(f"{each.party:<12}  {check}  {state}  {each.text}")
    return counts["fault"], counts["not checked"]
