"""All files together: the page needs nothing but itself, and what was told of other data sets stays."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components.errors import StoreError
from components.evaluation.comparison_report.page import render
from components.evaluation.comparison_report.records import read_results
from components.evaluation.comparison_report.reporting import slug, write_comparison
from components.evaluation.comparison_report.results_page import results_page

if TYPE_CHECKING:
    from tests.components.evaluation.comparison_report.conftest import Records, Results

HOSTILE = "\"></td><script>alert(1)</script> & '{{ 7*7 }} | `x` <!-- end a -->"


class Page(HTMLParser):
    """Tags with their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def some(results: Results) -> Records:
    """Records of two small figures: something that holds, that fails, and much that is missing."""
    clouds = {
        "cloud-1": [(0.8, 0.7, 0.85), (0.8, 0.7, 0.851)],
        "cloud-2": [(0.8, 0.7, 0.7), (0.8, 0.7, 0.7)],
    }
    steps = [{"step": "train", "who": "site", "seconds": 0.5, "bytes": 1000}]
    costs = results.record("costs", {"parameters": 10, "sites": 4, "steps": steps}, method="ours")
    return [*results.migrations(clouds), costs]


def test_everything_is_written_and_written_again_the_same(results: Results, tmp_path: Path) -> None:
    path = results.write(sample=some(results))
    page = tmp_path / "RESULTS.md"
    first = write_comparison(path, output=tmp_path / "out", results_page=page)
    assert [one.name for one in first.figures] == [
        f"sample-{name}.{kind}" for name in ("costs", "migration") for kind in ("png", "svg")
    ]
    assert first.missing == {
        "sample": (
            "Protection against ε",
            "Rounds to the target against hidden units",
            "Training time and rounds against the learning rate",
        )
    }
    files = [first.page, page, *first.figures]
    before = [one.read_bytes() for one in files]
    assert write_comparison(path, output=tmp_path / "out", results_page=page) == first
    assert [one.read_bytes() for one in files] == before
    assert not list(tmp_path.rglob(".*partial"))


def test_the_page_needs_nothing_but_itself(results: Results) -> None:
    measured = read_results(results.write(sample=results.full()))
    page = Page(text := render(measured, {}))
    assert not re.search(r"https?://|//\w|url\((?!#)|@import|<script|\bon\w+=", text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed"}
    assert all(attrs.get("src") is None for _, attrs in page.tags)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for told in ("a processor", "make compare DATA=sample", "numpy 2.4.6", "1, 2, 3", "train rows 8,000"):
        assert told in page.text
    assert page.text.count("Protection falls as ε grows") == 1


def test_drawings_stand_in_the_page(results: Results, tmp_path: Path) -> None:
    written = write_comparison(results.write(sample=some(results)), output=tmp_path)
    assert written.results_page is None
    text = written.page.read_text(encoding="utf-8")
    assert text.count("<svg ") == 3
    assert "http" not in text
    assert "Not measured" in text


def test_what_comes_from_outside_is_escaped(results: Results) -> None:
    clouds = {HOSTILE: [(0.8, 0.7, 0.85), (0.8, 0.7, 0.851)]}
    measured = read_results(results.write(sample=results.migrations(clouds)))
    page = Page(render(measured, {}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    text = results_page(measured)
    assert not re.search(r"(?<!\\)<script", text)
    row = next(line for line in text.splitlines() if "alert" in line and "founder" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    # What a stranger calls an end is none: the part is found whole when it is to be kept.
    assert results_page([], text).count("### How it was measured") == 1


def first_paragraph(page: str) -> str:
    return page.split("\n\n")[1]


def test_the_first_paragraph_says_what_does_not_hold_first(results: Results) -> None:
    page = results_page(read_results(results.write(sample=some(results))))
    told = first_paragraph(page)
    fails, holds = told.index("these do not hold"), told.index("These hold")
    assert fails < told.index("(cloud-2)") < holds < told.index("(cloud-1)")
    assert "These are not measured: ours protects no worse than DP-FL less 0.02;" in told


def test_the_first_paragraph_says_where_nothing_fails(results: Results) -> None:
    told = first_paragraph(results_page(read_results(results.write(sample=results.full()))))
    assert told.startswith("On **sample**, no relation fails to hold. These are ties: ours protects no worse")
    nothing = first_paragraph(results_page(read_results(results.write(sample=[]))))
    assert nothing.startswith("On **sample**, no relation could be judged. These are not measured")


def test_what_was_told_of_another_data_set_is_kept_word_by_word(results: Results) -> None:
    records = some(results)
    both = results_page(read_results(results.write(alpha=records, beta=results.full())))
    alone = results_page(read_results(results.write(alpha=records)))
    beta = results_page(read_results(results.write(beta=results.full())))
    assert results_page(read_results(results.write(alpha=records)), beta) == both
    assert results_page(read_results(results.write(beta=results.full())), alone) == both
    assert results_page([], both) == both
    assert len(first_paragraph(both).splitlines()) == 2
    # Measured again, a data set's own parts are replaced.
    assert results_page(read_results(results.write(alpha=results.full())), alone) == results_page(
        read_results(results.write(alpha=results.full()))
    )


def test_an_audit_is_kept_until_it_is_made_anew(results: Results) -> None:
    alone = results_page(read_results(results.write(alpha=results.full())))
    audited = results_page([], alone, {"sample": "## Audit of sample\n\nfirst"})
    assert audited.count("## Audit of sample") == 1
    assert audited.index("## Audit of sample") < audited.index("## alpha")
    # A comparison that is made later keeps it, and nothing else is changed by it.
    assert results_page(read_results(results.write(alpha=results.full())), audited) == audited
    again = results_page([], audited, {"sample": "## Audit of sample\n\nsomething else"})
    assert again == audited.replace("## Audit of sample\n\nfirst", "## Audit of sample\n\nsomething else")


def test_a_file_that_cannot_be_written_is_told_in_one_line(results: Results, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder is wanted")
    with pytest.raises(StoreError, match=r"report\.html cannot be written: \w+"):
        write_comparison(results.write(sample=[]), output=tmp_path / "out")


def test_names_of_files_come_from_names_of_data_sets() -> None:
    assert (slug("Banking77"), slug("a / b.."), slug("…")) == ("banking77", "a-b", "data")
