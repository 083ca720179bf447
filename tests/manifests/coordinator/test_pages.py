"""What the pages tell people to type and to read is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipelines.cli import app

PAGES = (
    Path("manifests/README.md"),
    Path("manifests/coordinator/README.md"),
    Path("manifests/federations/LIFE.md"),
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def typed(page: Path) -> list[str]:
    """Every command of a page, of blocks and of running text, each on one line."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`(crosscloud [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in [*lines, *inline] if line.startswith("crosscloud ")]


def unknown(line: str) -> list[str]:
    """Commands and options of a line that `crosscloud` does not have."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            return [word]
        command = command.commands[word]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in known]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_and_option_exists(page: Path) -> None:
    lines = typed(page)
    assert len(lines) > 10
    assert {line: missing for line in lines if (missing := unknown(line))} == {}


def test_a_command_that_is_not_there_is_noticed() -> None:
    assert unknown("crosscloud submitt federation.yaml") == ["submitt"]
    assert unknown("crosscloud keys init federation.yaml --at east") == ["--at"]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert links
    for target, anchor in links:
        path = (page.parent / target).resolve() if target else page.resolve()
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"
