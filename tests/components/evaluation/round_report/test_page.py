"""The page: its figures, its escaping, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.evaluation.round_report.charts import percent
from components.evaluation.round_report.figures import RoundFigures
from components.evaluation.round_report.page import amount, duration, moment, points, render
from components.evaluation.sealed_counts import SealedCounts
from tests.components.evaluation.audit.audit_records import record, trial

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)> & '{{ 7*7 }}"
CLASSES = ["heart", "lung", "skin"]


class Tables(HTMLParser):
    """Text of every cell of every table, by the table's class, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.captions = 0
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.rows = self.tables[dict(attrs).get("class") or ""] = []
        elif tag == "caption":
            self.captions += 1
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"tr", "table"}:
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] = " ".join([*self.rows[-1][-1].split(), *data.split()])


def evaluation(confusion: NDArray[np.int64]) -> dict[str, Any]:
    return {"num_examples": int(confusion.sum()), "log_loss": 0.7, "confusion": confusion.tolist()}


def site(name: str, confusion: NDArray[np.int64] | None, **changes: Any) -> dict[str, Any]:
    published = None
    if confusion is not None:
        right = np.diag(confusion.sum(axis=1))
        published = {"global": evaluation(confusion), "adapted": evaluation(right)}
    usual = {"cloud": name, "took_part": True, "reason": "", "bytes_sent": 264_000}
    return {"name": name, **usual, "evaluation": published, **changes}


def figures(number: int, sites: list[dict[str, Any]], **changes: Any) -> RoundFigures:
    document = {
        "format": 1,
        "federation": "hospitals",
        "title": "Diagnosis coding across four hospitals",
        "method": "he-fl",
        "protection": "he",
        "round_number": number,
        "attempt": 1,
        "committed_at": f"2026-11-{number:02d}T10:00:00Z",
        "classes": CLASSES,
        "sites": sites,
        "steps": [
            {"step": "train", "site": "aws", "seconds": 1.5, "bytes": 0},
            {"step": "train", "site": "gcp", "seconds": 2.5, "bytes": 0},
            {"step": "aggregate", "site": "", "seconds": 0.25, "bytes": 264_000},
        ],
        "model_digest": "ab" * 32,
        "parameters": {"local_epochs": 2},
    }
    return RoundFigures.from_dict(document | changes)


def counts(seed: int, classes: int = len(CLASSES)) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 30, (classes, classes))


def test_shows_the_pooled_figures_of_the_newest_round() -> None:
    aws, gcp = counts(1), counts(2)
    page = render([figures(1, [site("aws", counts(3))]), figures(2, [site("aws", aws), site("gcp", gcp)])])
    pooled = aws + gcp
    accuracy = sum(pooled[i, i] for i in range(3)) / pooled.sum()
    headline = re.search(r'<h2>Global accuracy</h2>\s*<p class="figure">([^<]*)</p>', page)
    assert headline is not None
    assert headline[1] == percent(accuracy)
    assert f"{pooled.sum():,} test rows" in page

    tables = Tables(page).tables
    assert tables["matrix"][0][1:] == [*CLASSES, "rows"]
    for name, row, shown in zip(CLASSES, pooled.tolist(), tables["matrix"][1:], strict=True):
        assert shown == [name, *(str(count) if count else "" for count in row), str(sum(row))]
    assert tables["sites"][-1][0] == "All sites"
    assert tables["sites"][-1][2] == " ".join(f"{percent(accuracy)} → {percent(1.0)}".split())


def test_shows_every_site_before_and_after_adaptation() -> None:
    aws = np.array([[6, 2, 0], [0, 8, 0], [4, 0, 0]])
    rows = Tables(render([figures(1, [site("aws", aws)])])).tables["sites"]
    assert rows[1][:3] == ["aws took part", "20", " ".join(f"{percent(0.7)} → {percent(1.0)}".split())]
    # F1: 12/18, 16/18, 0.
    assert rows[1][3] == f"{(12 / 18 + 16 / 18) / 3:.3f} → 1.000"


def test_shows_recall_and_precision_and_the_commonest_mistake() -> None:
    confusion = np.array([[6, 2, 0], [0, 8, 0], [4, 0, 0]])
    rows = {
        row[0]: row[1:] for row in Tables(render([figures(1, [site("aws", confusion)])])).tables["classes"]
    }
    assert rows["heart"][0] == "8"
    assert rows["heart"][1].startswith(" ".join(percent(0.75).split()))
    assert rows["heart"][2].startswith(" ".join(percent(0.6).split()))
    assert rows["heart"][3] == "lung 2 of 8"
    assert rows["lung"][3] == "–"
    assert rows["skin"][2].startswith("–")  # the global model never says skin: it has no precision


def test_adds_up_steps_and_rounds() -> None:
    page = render(
        [figures(1, [site("aws", counts(1))]), figures(2, [site("aws", counts(1)), site("gcp", None)])]
    )
    tables = Tables(page).tables
    train, aggregate = tables["steps"][1:3]
    assert train[0] == f"train 2 sites, longest gcp {' '.join(duration(2.5).split())}"
    assert train[1] == " ".join(duration(4.0).split())
    assert (aggregate[0], aggregate[3]) == ("aggregate", " ".join(amount(264_000).split()))
    newest, oldest = tables["rounds"][1:]
    assert newest[:2] == ["2", "2 of 2"]
    assert newest[4] == " ".join(amount(528_000).split())
    assert newest[5] == "–"
    assert newest[6] == " ".join(duration(4.25).split())
    assert oldest[0] == "1"


def test_says_what_was_spent_where_sums_are_noised() -> None:
    spent = {"epsilon_spent": 2.3456, "epsilon_left": 5.6544, "delta": 1e-5, "releases": 1, "rounds_left": 2}
    page = render([figures(1, [site("aws", None)], privacy=spent)])
    assert "<li>privacy <b>ε 2.35</b> at δ 1e-05, 5.65 left</li>" in page
    of = "patient with at most 8 rows at a site"
    page = render([figures(1, [site("aws", None)], privacy={**spent, "unit": of})])
    assert f"<li>privacy <b>ε 2.35</b> at δ 1e-05 of one {of}, 5.65 left</li>" in page
    assert "<li>privacy" not in render([figures(1, [site("aws", None)], privacy=None)])


def test_says_what_a_projection_spares_where_there_is_one() -> None:
    told = {
        "features": 192,
        "encoder_features": 384,
        "sealed_bytes": 262_224,
        "sealed_bytes_before": 524_368,
    }
    page = render([figures(1, [site("aws", None)], compression=told)])
    line = "a sealed update has 262 kB; on all 384 features and not 192 it would have 524 kB, 2 times as many"
    assert line in page.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert 'title="262,224 bytes, 524,368 before"' in page
    page = render([figures(1, [site("aws", None)], compression=told | {"sealed_bytes_before": 262_224})])
    assert "not 192 it would have as many, as a seal has whole ciphertexts</p>" in page
    assert "a sealed update has" not in render([figures(1, [site("aws", None)])])


def test_a_months_allowance_is_told_with_what_all_months_cost() -> None:
    spent = {
        "epsilon_spent": 2.0,
        "epsilon_left": 1.0,
        "delta": 1e-5,
        "month": "2026-11",
        "epsilon_ever": 4.25,
    }
    page = render([figures(1, [site("aws", None)], privacy=spent)])
    told = "<li>privacy <b>ε 2.00</b> at δ 1e-05, 1.00 left in 2026-11; all months together ε 4.25</li>"
    assert told in page


def test_shows_the_norm_of_every_round_where_it_adapts() -> None:
    rounds = [
        figures(number, [site("aws", None)], parameters=parameters)
        for number, parameters in (
            (1, {"local_epochs": 2}),
            (2, {"clipping_norm": 1.5}),
            (3, {"clipping_norm": 1.25 / 3}),
        )
    ]
    newest, adapted, plain = Tables(render(rounds)).tables["rounds"][1:]
    assert "0.4167" in newest
    assert "1.5" in adapted
    assert "–" in plain
    assert "Clipping norm" in render(rounds)
    assert "Clipping norm" not in render(rounds[:1])


def test_escapes_everything_that_comes_from_outside() -> None:
    left_out = site(HOSTILE, None, cloud=HOSTILE, took_part=False, reason=HOSTILE)
    steps = [{"step": HOSTILE, "site": HOSTILE, "seconds": 1, "bytes": 1}] * 2
    named = {"title": HOSTILE, "federation": HOSTILE, "method": HOSTILE, "protection": HOSTILE}
    others = {"model_digest": HOSTILE, "parameters": {HOSTILE: HOSTILE}, "classes": [HOSTILE, *CLASSES[1:]]}
    one = {"steps": steps, **named, **others}
    hostile_but_present = site(HOSTILE + "2", counts(1), reason=HOSTILE)
    page = render([figures(number, [left_out, hostile_but_present], **one) for number in (1, 2)])
    assert "<script" not in page
    assert "<img" not in page
    assert "alert(1)" in page
    assert page.count("{{ 7*7 }}") > 10
    rows = Tables(page).tables["sites"]
    assert " ".join(HOSTILE.split()) in rows[1][1]
    # Every attribute that holds such text is quoted: nothing but our own attributes ever opens.
    assert not re.search(r"<[^>\"]*(?:\"[^\"]*\"[^>\"]*)*\sonerror=", page)


def test_the_newest_audit_is_a_section_and_nothing_where_there_is_none() -> None:
    made = record(trial(), trial(HOSTILE, 0.75, says=HOSTILE))
    one = [site("aws", counts(1))]
    page = render([figures(1, one, audit=json.loads(made.to_json()))])
    told = " ".join(unescape(page).split())
    assert "with 99.9 % confidence its ε is at least the lower bound" in told
    assert "it proves nothing safe" in told
    assert "7,680 canaries a training, 10 of them guessed, at δ 1e-05; crosscloud 0.1.0" in told
    header, intact, broken = Tables(page).tables["audit"]
    assert header == ["Mechanism", "Trainings", "ε claimed", "Lower bound", "Verdict"]
    assert intact == ["intact", "2", "1.00", "0.70", "below the claim"]
    assert broken[1:] == ["2", "1.00", "0.75", "NOT FOUND"]
    assert "<script" not in page
    assert "audit" not in Tables(render([figures(1, one)])).tables


def test_needs_nothing_but_itself() -> None:
    page = render(
        [figures(number, [site("aws", counts(number)), site("gcp", counts(9))]) for number in (1, 2, 3)]
    )
    for forbidden in (
        "http://",
        "https://",
        "//www",
        "<script",
        "<link",
        "<iframe",
        "@import",
        "url(",
        "src=",
        "href=",
    ):
        assert forbidden not in page


def test_is_accessible() -> None:
    page = render([figures(number, [site("aws", counts(number))]) for number in (1, 2)])
    parsed = Tables(page)
    assert parsed.captions == len(parsed.tables) == 5
    images = re.findall(r'<svg role="img" aria-labelledby="(\S+) (\S+)">(.*?)<desc', page, re.DOTALL)
    assert len(images) == 2
    for title, description, _ in images:
        assert page.count(f'<title id="{title}">') == page.count(f'<desc id="{description}">') == 1
    assert '<html lang="en">' in page
    assert "prefers-color-scheme: dark" in page


def test_a_site_that_keeps_its_figures_is_told_from_one_that_failed() -> None:
    failed = site(
        "onprem", None, took_part=False, reason="bad_data: the query returned no rows", bytes_sent=0
    )
    unmeasured = site("azure", None, reason="timeout: evaluation did not end")
    page = render([figures(1, [site("aws", counts(1)), site("gcp", None), failed, unmeasured])])
    rows = {row[0]: row[1] for row in Tables(page).tables["sites"][1:]}
    assert rows["gcp took part"] == "kept at the site"
    assert rows["onprem left out"] == "no figures bad_data: the query returned no rows"
    assert rows["azure took part"] == "no figures timeout: evaluation did not end"
    assert "left out: onprem" in page


def test_what_was_read_and_how_records_drifted_is_told_where_sites_tell_it() -> None:
    told = {"bytes_read": 2**24, "findings": ["class gone", "<b>rows</b>"]}
    page = render([figures(1, [site("aws", counts(1))]), figures(2, [site("aws", counts(1), **told)])])
    (row,) = Tables(page).tables["sites"][1:-1]
    assert row[0].endswith("its records have drifted: class gone, <b>rows</b> up to 16.8 MB read")
    assert "&lt;b&gt;rows" in page
    rounds = {row[0]: row[5] for row in Tables(page).tables["rounds"][1:]}
    assert rounds == {"2": "16.8 MB", "1": "–"}


def test_renders_where_no_site_publishes_and_none_took_part() -> None:
    kept = render([figures(number, [site("aws", None), site("gcp", None)]) for number in (1, 2)])
    assert "figures are kept at the sites" in kept
    assert "matrix" not in Tables(kept).tables
    assert "<figure" not in kept
    nobody = render([figures(1, [site("aws", None, took_part=False, reason="refused: x")], steps=[])])
    assert "no site took part" in nobody
    assert "steps" not in Tables(nobody).tables


def test_a_site_without_figures_in_one_round_leaves_a_gap_in_its_line() -> None:
    rounds = [
        figures(number, [site("aws", counts(1)), site("gcp", None if number == 2 else counts(2))])
        for number in (1, 2, 3)
    ]
    paths = dict(re.findall(r'<path class="line \S+" d="([^"]*)"><title>(\w+)', render(rounds)))
    by_name = {name: path for path, name in paths.items()}
    assert by_name["gcp"].count("M") == 2
    assert by_name["aws"].count("M") == 1


@pytest.mark.parametrize(("classes", "sites", "rounds"), [(77, 4, 3), (21, 4, 15), (21, 20, 30)])
def test_stays_small(classes: int, sites: int, rounds: int) -> None:
    names = [f"intent {index} of a customer" for index in range(classes)]
    generator = np.random.default_rng(0)
    every = [
        figures(
            number + 1,
            [
                site(
                    f"site-{s}", generator.poisson(0.3, (classes, classes)) + np.eye(classes, dtype=np.int64)
                )
                for s in range(sites)
            ],
            classes=names,
            committed_at="2026-11-22T10:00:00Z",
        )
        for number in range(rounds)
    ]
    page = render(every)
    assert len(page.encode()) < 150_000
    matrix = Tables(page).tables["matrix"]
    assert len(matrix) == classes + 1
    assert {len(row) for row in matrix} == {classes + 2}
    assert all(name in unescape(page) for name in names)


def test_the_same_rounds_give_the_same_page() -> None:
    rounds = [figures(1, [site("aws", counts(1))]), figures(2, [site("aws", counts(2))])]
    assert render(rounds) == render(rounds)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (33_040, "33.0 kB"),
        (264_000, "264 kB"),
        (999_600, "1.0 MB"),
        (2**50, "1126 TB"),
    ],
)
def test_bytes_as_people_read_them(num_bytes: int, text: str) -> None:
    assert amount(num_bytes).split() == text.split()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (1.25, "1.2 s"),
        (99.9, "99.9 s"),
        (99.97, "1 min 40 s"),
        (3599.6, "1 h 00 min"),
        (11_400, "3 h 10 min"),
    ],
)
def test_seconds_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds).split() == text.split()


@pytest.mark.parametrize(
    ("change", "text"), [(0.0042, "+0.4"), (-0.012, "−1.2"), (0.0, "±0.0"), (-0.0001, "±0.0")]
)
def test_points_have_a_sign(change: float, text: str) -> None:
    assert points(change) == text


def test_times_name_their_zone() -> None:
    assert moment(datetime(2026, 11, 2, 9, 5, tzinfo=UTC)).split() == ["2", "Nov", "2026,", "09:05", "UTC"]


def sealed(*, deviation: float, rows: float = 90.0, adapted: float | None = None) -> dict[str, Any]:
    """A round's sealed counts as `report.json` has them."""
    told = SealedCounts(
        members=("aws", "gcp"),
        rows=rows,
        correct=0.7 * rows,
        adapted_correct=adapted,
        confusion=np.full((3, 3), rows / 9) - deviation,
        deviation=deviation,
    )
    return {"aggregate": {**told.to_dict(), "epsilon": 0.1 if deviation else 0.0, "unit": "row"}}


KINDS: dict[str, dict[str, Any]] = {
    "published": {},
    "exact": sealed(deviation=0.0, adapted=80.0),
    "noisy": sealed(deviation=3.5),
    "drowned": sealed(deviation=40.0),
    "failed": {"aggregate": {"reason": "too few sites took part"}},
    "kept": {},
}


@pytest.mark.parametrize("earlier", [(), *((kind,) for kind in KINDS), ("noisy", "kept")], ids="+".join)
@pytest.mark.parametrize("newest", KINDS)
def test_rounds_whose_figures_are_told_in_different_ways_follow_each_other(
    earlier: tuple[str, ...], newest: str
) -> None:
    """The schedule names the rounds that have metrics, and a federation may change what it tells."""
    kinds = [*earlier, newest]
    rounds = [
        figures(number, [site("aws", counts(number) if kind == "published" else None)], **KINDS[kind])
        for number, kind in enumerate(kinds, 1)
    ]
    page = render(rounds)
    several = len(kinds) > 1
    known, adapted = ({"published", "exact", "noisy"}, {"published", "exact"})
    assert page.count("<figcaption>Global model</figcaption>") == (several and bool(known & {*kinds}))
    assert page.count("<figcaption>After adaptation") == (several and bool(adapted & {*kinds}))
    assert [row[0] for row in Tables(page).tables["rounds"][1:]] == [
        str(number) for number in range(len(kinds), 0, -1)
    ]
