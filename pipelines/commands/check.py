"""`crosscloud check`: compiled specs, looked through offline before anything runs them."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from components.errors import UsageError


class Format(StrEnum):
    """What the findings are printed as."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def check(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC.yaml…", help="Compiled pipeline specs.")],
    form: Annotated[
        Format, typer.Option("--format", help="For people, programs, code scanning or annotations.")
    ] = Format.TABLE,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for errors.")] = False,
) -> None:
    """Check compiled specs offline: references, images, secrets, placement. Exits with 1 on an error."""
    from pipelines.spec_check import formats
    from pipelines.spec_check.examination import examine_file

    findings, problems = [], []
    for path in dict.fromkeys(specs):
        try:
            findings += examine_file(path)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))
    if strict:
        findings = [replace(each, severity="error") for each in findings]
    write = {
        Format.TABLE: formats.as_table,
        Format.JSON: formats.as_json,
        Format.SARIF: formats.as_sarif,
        Format.GITHUB: formats.as_github,
    }[form]
    text = write(findings, list(dict.fromkeys(specs)))
    if text:
        typer.echo(text)
    if any(each.severity == "error" for each in findings):
        raise typer.Exit(1)
