"""What commands have in common: their arguments, and how they print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pipelines.federation import Federation

FederationFile = Annotated[Path, typer.Argument(metavar="FEDERATION.yaml", help="The federation file.")]
Method = Annotated[
    str | None, typer.Option(help="ours, sealed, he-fl, dp-fl or fedavg, instead of what the file says.")
]
Owners = Annotated[
    list[str] | None,
    typer.Option("--as", metavar="OWNER", help="A site, coordinator or key-holder; may stand several times."),
]


def load(path: Path, method: str | None = None) -> Federation:
    """The federation file, under a method of its own where one is named."""
    from pipelines.federation import load_federation

    federation = load_federation(path)
    return federation.with_method(method) if method else federation


def relative(path: Path) -> str:
    """A path as a person in this folder would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def print_rows(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Prints columns that are as wide as their longest entry; the header is bold on a terminal."""
    table = [header, *rows] if header else rows
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for row in table:
        line = "  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip()
        console.print(line, style="bold" if row is header else None)
