"""Reading `results.json`: what is not of its format is refused in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from components.errors import IntegrityError
from components.evaluation.comparison_report.records import label, method_order, read_results

if TYPE_CHECKING:
    from tests.components.evaluation.comparison_report.conftest import Results


def test_records_are_found_by_kind_and_configuration(results: Results) -> None:
    records = results.protections("ours", 1.0, [0.9, 0.8]) + results.protections("fedavg", None, [0.3])
    measured = results.data_set(records)
    assert [one.seed for one in measured.of_kind("protection", method="ours")] == [1, 2]
    assert [one.epsilon for one in measured.of_kind("protection", seed=1)] == [1.0, None]
    assert measured.name == "sample"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format 2"),
        (("datasets",), [], "datasets must be of type dict"),
        (("datasets", "sample"), 3, "must be an object"),
        (("datasets", "sample", "quick"), 1, "quick must be of type bool"),
        (("datasets", "sample", "seconds"), True, "seconds must be of type int or float"),
        (("datasets", "sample", "records"), [{"outcome": {}}], "configuration must be of type dict"),
        (("datasets", "sample", "records"), [3], "a record must be an object"),
        (("datasets", "a --><b>"), {}, "printable line without markup"),
    ],
)
def test_what_is_malformed_is_refused(
    results: Results, path: tuple[str, ...], value: object, message: str
) -> None:
    document: dict[str, Any] = results.document(sample=[])
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    results.path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=message):
        read_results(results.path)


def test_a_file_that_is_no_json_is_refused(results: Results) -> None:
    results.path.write_text("{")
    with pytest.raises(IntegrityError, match=r"results\.json is not JSON"):
        read_results(results.path)
    results.path.write_text("[]")
    with pytest.raises(IntegrityError, match="format None"):
        read_results(results.path)


def test_methods_have_one_order_and_names() -> None:
    assert sorted(["ours", "new", "fedavg", "dp-fl"], key=method_order) == ["fedavg", "dp-fl", "ours", "new"]
    assert (label("he-fl"), label("dp-fl", 0.5), label("new")) == ("HE-FL", "DP-FL, ε = 0.5", "new")
