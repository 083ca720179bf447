"""Reading the figures of a round, and what is derived from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.errors import IntegrityError
from components.evaluation.round_report.compression import Compression
from components.evaluation.round_report.figures import RoundFigures
from tests.components.evaluation.audit.audit_records import record, trial


def evaluation(confusion: list[list[int]], log_loss: float = 0.5) -> dict[str, Any]:
    return {"num_examples": sum(map(sum, confusion)), "log_loss": log_loss, "confusion": confusion}


def document(**changes: Any) -> dict[str, Any]:
    published = {
        "global": evaluation([[3, 1], [2, 4]], 0.4),
        "adapted": evaluation([[4, 0], [1, 5]], 0.2),
    }
    others = {
        "global": evaluation([[20, 0], [10, 0]], 0.8),
        "adapted": evaluation([[20, 0], [0, 10]], 0.3),
    }
    return {
        "format": 1,
        "federation": "hospitals",
        "title": "Diagnosis coding",
        "method": "he-fl",
        "protection": "he",
        "round_number": 3,
        "attempt": 1,
        "committed_at": "2026-11-22T10:00:00Z",
        "classes": ["heart", "lung"],
        "sites": [
            site("aws", evaluation=published),
            site("gcp", evaluation=others),
            site("azure"),
            site("onprem", took_part=False, reason="bad_data: no rows", bytes_sent=0),
        ],
        "steps": [
            {"step": "train", "site": "aws", "seconds": 1.25, "bytes": 0},
            {"step": "aggregate", "site": "", "seconds": 2, "bytes": 500},
        ],
        "model_digest": "ab" * 32,
        "parameters": {"local_epochs": 2, "learning_rate": 0.05},
        **changes,
    }


def site(name: str, **changes: Any) -> dict[str, Any]:
    usual = {"cloud": name, "took_part": True, "reason": "", "bytes_sent": 1000, "evaluation": None}
    return {"name": name, **usual, **changes}


def test_reads_what_a_projection_spares() -> None:
    told = {
        "features": 192,
        "encoder_features": 384,
        "sealed_bytes": 262_224,
        "sealed_bytes_before": 524_368,
    }
    assert RoundFigures.from_dict(document(compression=told)).compression == Compression(**told)
    assert RoundFigures.from_dict(document(compression=None)).compression is None
    assert RoundFigures.from_dict(document()).compression is None, "as rounds before it have it"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([], "compression must be a mapping"),
        ({"features": 192}, "encoder_features must be of type int, got None"),
        ({"features": "half"}, "features must be of type int, got 'half'"),
    ],
    ids=["a list", "half of it", "text"],
)
def test_a_projection_that_is_told_wrongly_is_refused(told: object, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        RoundFigures.from_dict(document(compression=told))


def test_reads_a_round() -> None:
    figures = RoundFigures.from_dict(document())
    assert (figures.round_number, figures.classes) == (3, ("heart", "lung"))
    assert figures.committed_at.isoformat() == "2026-11-22T10:00:00+00:00"
    assert [one.name for one in figures.participants] == ["aws", "gcp", "azure"]
    assert [(one.name, one.reason) for one in figures.left_out] == [("onprem", "bad_data: no rows")]
    assert figures.bytes_sent == 3000
    assert figures.bytes_read == 0
    assert all(each.findings == () for each in figures.sites)
    assert figures.seconds == 3.25


def test_pools_over_the_rows_of_the_sites_that_publish() -> None:
    figures = RoundFigures.from_dict(document())
    assert figures.pooled_global is not None
    assert figures.pooled_adapted is not None
    # 7 of 10 and 20 of 30 rows: pooled is 27 of 40, not the mean of the two accuracies.
    assert figures.pooled_global.accuracy == pytest.approx(27 / 40)
    assert figures.pooled_adapted.accuracy == pytest.approx(39 / 40)
    assert figures.pooled_global.log_loss == pytest.approx((10 * 0.4 + 30 * 0.8) / 40)


def test_there_is_nothing_to_pool_where_no_site_publishes() -> None:
    figures = RoundFigures.from_dict(document(sites=[site("aws"), site("gcp")]))
    assert figures.pooled_global is None
    assert figures.pooled_adapted is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "only 1 is known"),
        ({"format": True}, "format must be of type int"),
        ({"title": None}, "title must be of type str, got None"),
        ({"round_number": "3"}, "round_number must be of type int, got '3'"),
        ({"committed_at": "yesterday"}, "ISO 8601"),
        ({"sites": [site("aws", took_part=1)]}, "took_part must be of type bool"),
        (
            {"sites": [site("aws", evaluation={"global": evaluation([[1, 0], [0, 1]])})]},
            "adapted must be of type dict",
        ),
        (
            {"sites": [site("aws", evaluation={"global": evaluation([[1]]), "adapted": evaluation([[1]])})]},
            "the global evaluation of aws has 1 classes: the federation has 2",
        ),
        (
            {"steps": [{"step": "train", "site": "", "seconds": "1", "bytes": 0}]},
            "seconds must be of type int or float",
        ),
    ],
)
def test_refuses_what_it_cannot_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        RoundFigures.from_dict(document(**changes))


def test_refuses_a_missing_field() -> None:
    incomplete = document()
    del incomplete["model_digest"]
    with pytest.raises(IntegrityError, match="model_digest"):
        RoundFigures.from_dict(incomplete)


def test_an_audit_is_read_with_the_round_and_checked() -> None:
    made = record(trial())
    assert RoundFigures.from_dict(document()).audit is None
    assert RoundFigures.from_dict(document(audit=json.loads(made.to_json()))).audit == made
    with pytest.raises(IntegrityError, match="not the record of an audit"):
        RoundFigures.from_dict(document(audit={"trials": 1}))
