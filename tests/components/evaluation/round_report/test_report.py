"""The `report` step: what it says of a round, and what a site can and cannot make it say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.sealed_manifest import blob_key
from components.artifacts import tensors
from components.artifacts.documents import sign
from components.artifacts.stores import create_or_read, open_store, reference
from components.errors import QuorumNotReachedError
from components.evaluation.model_evaluation.evaluation import DOMAIN, evaluate, figures_key
from components.evaluation.round_report.figures import RoundFigures
from components.evaluation.round_report.report import Story, write_report
from components.execution.journal import Entry, record
from components.rounds.state import round_key
from tests.components.aggregation.three_sites import CLASSES, FEATURES, SITES, ThreeSites, set_policy
from tests.components.evaluation.audit.audit_records import record as audit_record
from tests.components.evaluation.audit.audit_records import trial
from tests.components.rounds.walks import FOUR, walk

STORY = Story(
    title="Three <sites>",
    method="fedavg",
    classes=("heart", "lung", "skin", "bone"),
    clouds={"alpha": "gcp", "beta": "aws"},
)
GOOD = {"num_examples": 2, "log_loss": 0.5, "confusion": np.diag([1, 1, 0, 0]).tolist()}


class Reported:
    """A federation whose rounds are evaluated and reported."""

    def __init__(self, three: ThreeSites, page: Path) -> None:
        self.three, self.page = three, page
        charter, protections = three.charter, (three.request.protection,)
        for site in three.sites:
            set_policy("small", site, charter=charter.digest, protections=protections, evaluation="per_site")
        self.committed: Any = None

    def commit(
        self, sealed: Mapping[str, str] | None = None, reasons: Mapping[str, str] | None = None
    ) -> None:
        three = self.three
        total = three.aggregate(sealed or three.sealed(), reasons).reference
        if three.request.protection == "sealed":
            three.release()
        self.committed = three.commit(three.open_sum(total).reference)

    def evaluate(self, site: str, release: str = "per_site") -> str:
        place = self.three.place(site)
        delta = {
            "output.weight": np.full((CLASSES, FEATURES), 0.1, np.float32),
            "output.bias": np.zeros(CLASSES, np.float32),
        }
        create_or_read(place.store, "adaptations/a", tensors.encode(delta))
        return evaluate(
            place,
            model=self.committed.manifest["model"],
            features=self.three.features(site),
            adaptation=reference(place.store, "adaptations/a"),
            release=release,
        ).reference

    def forge(self, site: str, figures: object, *, signer: str = "") -> str:
        """Figures of the test's making, signed as the site would."""
        three, key = self.three, figures_key(self.three.opened.ticket, site)
        body = {"ticket": three.opened.ticket.digest, "site": site, "model": "", "evaluation": figures}
        document = sign(three.place(signer or site).key, domain=DOMAIN, signer=site, body=body)
        three.exchange.create(key, document)
        return reference(three.exchange, key)

    def report(self, figures: Mapping[str, str], reasons: Mapping[str, str] | None = None) -> dict[str, Any]:
        three = self.three
        outcome = write_report(
            STORY,
            figures,
            reasons or {},
            committed=self.committed.reference,
            ticket=three.opened.reference,
            state_uri=three.state_uri,
            exchange_uri=three.exchange_uri,
            keys_uri=three.keys_uri,
            page=str(self.page),
        )
        number = three.opened.ticket.round_number
        assert outcome.reference == f"{three.state_uri}/{round_key(number, 'report.html')}"
        return self.document(number)

    def document(self, number: int) -> dict[str, Any]:
        path = self.three.exchange_folder.parent / "state" / round_key(number, "report.json")
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found


@pytest.fixture(params=["none"])
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Reported:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return Reported(walk("open", request.param).three, tmp_path / "ui/page.html")


def site(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["sites"] if each["name"] == name)
    return found


@pytest.mark.parametrize("reported", ["none", "he", "sealed"], indirect=True)
def test_the_document_says_who_took_part_and_how_well_the_model_does(reported: Reported) -> None:
    reported.commit()
    document = reported.report({name: reported.evaluate(name) for name in SITES})
    record = reported.committed.manifest
    assert (document["round_number"], document["attempt"], document["federation"]) == (1, 1, "small")
    assert document["model_digest"] == record["model"]
    assert document["protection"] == reported.three.request.protection
    assert document["parameters"] == {"local_epochs": 2, "learning_rate": 0.1, "batch_size": 16}
    assert [each["name"] for each in document["sites"]] == list(SITES)
    assert all(each["took_part"] and not each["reason"] for each in document["sites"])
    assert [each["cloud"] for each in document["sites"]] == ["gcp", "aws", ""]

    published = [site(document, name)["evaluation"] for name in SITES]
    figures = RoundFigures.from_dict(document)
    for kind, pooled in (("global", figures.pooled_global), ("adapted", figures.pooled_adapted)):
        assert pooled is not None
        matrices = np.array([each[kind]["confusion"] for each in published])
        rows = matrices.sum(axis=(1, 2))
        assert rows.tolist() == [14, 9, 21]  # every third of 40, 25 and 61 rows
        assert pooled.num_examples == 44
        assert pooled.accuracy == matrices.trace(axis1=1, axis2=2).sum() / 44
        losses = [each[kind]["log_loss"] for each in published]
        assert pooled.log_loss == pytest.approx(np.average(losses, weights=rows))


def test_the_page_is_the_same_for_kubeflow_and_in_the_state(reported: Reported) -> None:
    reported.commit()
    reported.report({name: reported.evaluate(name) for name in SITES})
    page = reported.page.read_bytes()
    state = reported.three.exchange_folder.parent / "state"
    assert page == (state / round_key(1, "report.html")).read_bytes()
    assert b"Three &lt;sites&gt;" in page
    assert b"Three <sites>" not in page


def test_a_site_that_keeps_its_figures_has_none_and_no_reason(reported: Reported) -> None:
    reported.commit()
    figures = {"alpha": reported.evaluate("alpha"), "beta": reported.evaluate("beta", "none"), "gamma": ""}
    document = reported.report(figures, {"gamma": "timeout: evaluate did not end within 5 s"})
    assert site(document, "alpha")["evaluation"]["global"]["num_examples"] == 14
    assert (site(document, "beta")["evaluation"], site(document, "beta")["reason"]) == (None, "")
    assert site(document, "gamma")["reason"] == "timeout: evaluate did not end within 5 s"
    pooled = RoundFigures.from_dict(document).pooled_global
    assert pooled is not None
    assert pooled.num_examples == 14


@pytest.mark.parametrize("protection", ["none", "he"])
def test_who_was_left_out_and_why_comes_from_roster_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protection: str
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    reported = Reported(walk("open", protection, sites=FOUR).three, tmp_path / "ui/page.html")
    three = reported.three
    commitments = three.train()
    roster = three.roster(commitments | {"alpha": ""}, {"alpha": "bad_data: there are no training rows"})
    sealed = three.seal(roster, ("beta", "delta", "gamma"))
    path = three.exchange_folder / blob_key(three.opened.ticket, "beta")
    altered = bytearray(path.read_bytes())
    altered[-2] ^= 1
    path.write_bytes(altered)
    reported.committed = three.commit(three.open_sum(three.summed(sealed)).reference)
    document = reported.report({name: reported.evaluate(name) for name in FOUR})
    assert [site(document, name)["took_part"] for name in FOUR] == [False, False, True, True]
    assert site(document, "alpha")["reason"] == "bad_data: there are no training rows"
    assert site(document, "beta")["reason"].startswith("refused: the sealed update of beta is not the one")
    # The committed model is measured at a site that was left out too.
    assert site(document, "alpha")["evaluation"]["global"]["num_examples"] == 14


BROKEN = {
    "a list": [],
    "one model": {"global": GOOD},
    "no figures": {"global": {}, "adapted": {}},
    "lists": {"global": [1], "adapted": [1]},
    "nothing": {"global": None, "adapted": None},
    "text": {"global": GOOD | {"confusion": "many"}, "adapted": GOOD},
    "ragged": {"global": GOOD | {"confusion": [[1], [0, 1]]}, "adapted": GOOD},
    "halves": {"global": GOOD | {"confusion": [[0.5, 1.5], [0, 0]]}, "adapted": GOOD},
    "negative": {"global": GOOD | {"confusion": np.diag([3, -1, 0, 0]).tolist()}, "adapted": GOOD},
    "another sum": {"global": GOOD | {"num_examples": 3}, "adapted": GOOD},
    "no rows": {
        "global": GOOD | {"num_examples": 0, "confusion": np.zeros((4, 4), int).tolist()},
        "adapted": GOOD,
    },
    "below zero": {"global": GOOD, "adapted": GOOD | {"log_loss": -1.0}},
    "no number": {"global": GOOD, "adapted": GOOD | {"log_loss": "low"}},
    "three classes": {"global": GOOD | {"confusion": np.diag([1, 1, 0]).tolist()}, "adapted": GOOD},
    "too large": {"global": GOOD, "adapted": GOOD, "padding": "x" * (5 << 20)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_malformed_figures_are_the_reason_of_the_site_that_signed_them(reported: Reported, name: str) -> None:
    reported.commit()
    figures = {"alpha": reported.evaluate("alpha"), "beta": reported.forge("beta", BROKEN[name])}
    document = reported.report(figures)
    assert site(document, "beta")["evaluation"] is None
    assert site(document, "beta")["reason"].startswith("refused: ")
    assert site(document, "beta")["took_part"]
    pooled = RoundFigures.from_dict(document).pooled_global
    assert pooled is not None
    assert pooled.num_examples == 14


def test_figures_that_another_signed_or_that_lie_elsewhere_are_not_shown(reported: Reported) -> None:
    reported.commit()
    both = {"global": GOOD, "adapted": GOOD}
    forged = reported.forge("beta", both, signer="alpha")
    document = reported.report(
        {"alpha": "elsewhere/figures.json", "beta": forged, "gamma": f"{reported.three.exchange_uri}/nothing"}
    )
    assert all(site(document, name)["evaluation"] is None for name in SITES)
    assert site(document, "alpha")["reason"].startswith("refused")
    assert site(document, "beta")["reason"].startswith("refused: the signature of beta")
    assert site(document, "gamma")["reason"].startswith("unreachable")
    assert RoundFigures.from_dict(document).pooled_global is None


def test_a_second_report_does_not_change_the_first(reported: Reported) -> None:
    reported.commit()
    figures = {name: reported.evaluate(name) for name in SITES}
    first = reported.report(figures)
    state = reported.three.exchange_folder.parent / "state"
    page = (state / round_key(1, "report.html")).read_bytes()
    assert reported.report({}) == first
    assert (state / round_key(1, "report.html")).read_bytes() == page


@pytest.mark.parametrize("kept", ["ours", "another federation's", "no audit at all"])
def test_the_newest_audit_in_the_state_is_told(reported: Reported, kept: str) -> None:
    reported.commit()
    state = open_store(reported.three.state_uri)
    made = replace(audit_record(trial()), federation=reported.three.charter.federation)
    state.create("audits/20261128T000000-a.json", replace(made, version="older").to_json())
    newest = {"ours": made, "another federation's": replace(made, federation="other")}.get(kept)
    state.create("audits/20261129T000000-a.json", newest.to_json() if newest else b"no record")
    document = reported.report({})
    assert document["audit"] == (json.loads(made.to_json()) if kept == "ours" else None)
    assert RoundFigures.from_dict(document).audit == (made if kept == "ours" else None)


def test_bytes_and_seconds_come_from_the_journal(reported: Reported) -> None:
    three = reported.three
    told = Entry(step="ingest", site="beta", seconds=0.0, bytes_read=2048, findings=("row count",))
    record(three.exchange_uri, three.opened.reference, told)
    for step, name, seconds, size in (
        ("train", "alpha", 1.5, 400),
        ("seal", "alpha", 0.5, 600),
        ("open", "", 2.0, 7),
    ):
        entry = Entry(step=step, site=name, seconds=seconds, bytes=size)
        record(three.exchange_uri, three.opened.reference, entry)
    reported.commit()
    document = reported.report({})
    assert [site(document, name)["bytes_sent"] for name in SITES] == [1000, 0, 0]
    assert [site(document, name)["bytes_read"] for name in SITES] == [0, 2048, 0]
    assert [site(document, name)["findings"] for name in SITES] == [[], ["row count"], []]
    steps = {(step["step"], step["site"]): step["seconds"] for step in document["steps"]}
    assert steps == {
        ("ingest", "beta"): 0.0,
        ("train", "alpha"): 1.5,
        ("seal", "alpha"): 0.5,
        ("open", ""): 2.0,
    }
    assert RoundFigures.from_dict(document).seconds == 4.0


def test_the_page_tells_of_the_rounds_before(reported: Reported) -> None:
    reported.commit()
    first = reported.report({name: reported.evaluate(name) for name in SITES})
    again = Reported(reported.three.next_round(), reported.page)
    again.commit()
    second = again.report({name: again.evaluate(name) for name in SITES})
    assert (first["round_number"], second["round_number"]) == (1, 2)
    assert again.document(1) == first
    accuracies = [RoundFigures.from_dict(each).pooled_global for each in (first, second)]
    page = reported.page.read_text()
    for pooled in accuracies:
        assert pooled is not None
        assert f"{pooled.accuracy:.1%}".removesuffix("%") in page


def test_the_page_goes_on_after_a_round_that_came_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is used up: the report is of rounds 1 and 3."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    first = Reported(walk("open", "sealed").three, tmp_path / "ui/page.html")
    first.commit()
    first.report({name: first.evaluate(name) for name in SITES})
    void = first.three.next_round()
    total = void.aggregate(void.sealed()).reference
    with pytest.raises(QuorumNotReachedError):
        void.open_sum(total)
    third = Reported(void.next_attempt(), first.page)
    third.commit()
    document = third.report({name: third.evaluate(name) for name in SITES})
    assert document["round_number"] == 3
    page = first.page.read_text()
    for each in (first.document(1), document):
        pooled = RoundFigures.from_dict(each).pooled_global
        assert pooled is not None
        assert f"{pooled.accuracy:.1%}".removesuffix("%") in page
