"""What counts as drift, what of it leaves the site, and what a round is compared with."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.ticket import Ticket
from components.artifacts.stores import Store, open_store
from components.data_processing.declared_columns import TableField
from components.data_processing.drift import (
    ACTIONS,
    DriftPolicy,
    Finding,
    Kind,
    compare,
    last_accepted,
    remember,
    settle,
)
from components.data_processing.row_statistics import RowCounter, RowStatistics
from components.errors import BadDataError, IntegrityError, RefusedError, UsageError

NAMED_COLUMNS = ("ward", "Notes")
NAMED_CLASSES = ("heart", "lung")
SECRETS = ("Ada", "1815", "Lovelace")
POLICY = DriftPolicy()
# Every sentence that may be disclosed, of whatever statistics.
SUBJECTS = ["a column", *(f"column {name!r}" for name in NAMED_COLUMNS)]
CLASS_SUBJECTS = ["a class", "a label that is in no class", *(f"class {name!r}" for name in NAMED_CLASSES)]
DISCLOSED = {
    *(f"{subject} {ending}" for subject in SUBJECTS for ending in ("is new", "is gone", "has another type")),
    *(f"the share of NULL in {subject} has changed" for subject in SUBJECTS),
    *(
        f"{name} {ending}"
        for name in CLASS_SUBJECTS
        for ending in ("has rows and had none", "has no rows any more")
    ),
    "the number of rows has changed",
}


def statistics(rows: int = 100, **changes: Any) -> RowStatistics:
    usual = RowStatistics(
        columns={"ward": "STRING", "notes": "STRING", "patient_name": "STRING"},
        training_rows=rows - rows // 5,
        test_rows=rows // 5,
        rows_by_class={"heart": rows - rows // 2, "lung": rows // 2, "skin": 0},
        unlisted_rows=0,
        null_counts={"ward": 0},
    )
    return replace(usual, **changes)


def found(
    previous: RowStatistics, current: RowStatistics, policy: DriftPolicy = POLICY
) -> tuple[Finding, ...]:
    return compare(previous, current, policy, named_columns=NAMED_COLUMNS, named_classes=NAMED_CLASSES)


def told(previous: RowStatistics, current: RowStatistics) -> list[tuple[str, str, str]]:
    return [(each.kind, each.message, each.disclosed) for each in found(previous, current)]


class TestFindings:
    def test_columns(self) -> None:
        now = {"WARD": "STRING", "notes": "JSON", "id": "INT64", "patient_name": "BYTES"}
        assert told(statistics(), statistics(columns=now)) == [
            ("new_column", "column 'id' (INT64) is new", "a column is new"),
            ("type_changed", "column 'notes' was STRING and is JSON", "column 'Notes' has another type"),
            ("type_changed", "column 'patient_name' was STRING and is BYTES", "a column has another type"),
        ]
        assert told(statistics(), statistics(columns={"notes": "STRING"})) == [
            ("column_gone", "column 'patient_name' (STRING) is gone", "a column is gone"),
            ("column_gone", "column 'ward' (STRING) is gone", "column 'ward' is gone"),
        ]

    def test_classes(self) -> None:
        now = statistics(rows_by_class={"heart": 60, "lung": 0, "skin": 33}, unlisted_rows=7)
        assert told(statistics(), now) == [
            ("class_gone", "class 'lung' had 50 rows and has none", "class 'lung' has no rows any more"),
            ("new_class", "class 'skin' had no row and has 33", "a class has rows and had none"),
            (
                "new_class",
                "a label that is in no class had no row and has 7",
                "a label that is in no class has rows and had none",
            ),
        ]

    def test_a_class_that_only_one_round_knows(self) -> None:
        fewer = statistics(rows_by_class={"heart": 100})
        assert [each.kind for each in found(statistics(), fewer)] == ["class_gone"]
        assert [each.kind for each in found(fewer, statistics())] == ["new_class"]

    @pytest.mark.parametrize(
        ("before", "now", "drift"),
        [(0, 5, False), (0, 6, True), (60, 65, False), (60, 66, True), (60, 55, False), (60, 54, True)],
    )
    def test_a_change_of_exactly_the_band_is_within_it(self, before: int, now: int, drift: bool) -> None:
        # 0.65 - 0.6 is above 0.05 in floats.
        kinds = told(statistics(null_counts={"ward": before}), statistics(null_counts={"WARD": now}))
        assert [kind for kind, _, _ in kinds] == ["null_rate"] * drift
        if drift:
            assert kinds[0][1:] == (
                f"column 'WARD' was NULL in {before}.00% of rows and is in {now}.00%: the band is 5.00%",
                "the share of NULL in column 'ward' has changed",
            )

    def test_a_band_is_the_decimal_that_was_written(self) -> None:
        # As floats, 0.3 and 0.7 lie below the decimals, and 0.1 and 1.1 above.
        for band, rows in ((0.3, 30), (0.7, 70), (0.1, 10)):
            policy = DriftPolicy(null_rate_band=band)
            assert found(statistics(), statistics(null_counts={"ward": rows}), policy) == ()
            assert found(statistics(), statistics(null_counts={"ward": rows + 1}), policy) != ()
        policy = DriftPolicy(least_row_ratio=0.1, most_row_ratio=1.1)
        assert found(statistics(100), statistics(10), policy) == ()
        assert found(statistics(100), statistics(110), policy) == ()
        assert [each.kind for each in found(statistics(100), statistics(111), policy)] == ["row_count"]

    def test_nulls_are_compared_where_they_were_counted_both_times(self) -> None:
        assert told(statistics(null_counts={"notes": 50}), statistics(null_counts={"ward": 50})) == []

    @pytest.mark.parametrize(
        ("before", "now", "drift"),
        [(100, 50, False), (100, 49, True), (100, 200, False), (100, 201, True), (0, 0, False)],
    )
    def test_rows(self, before: int, now: int, drift: bool) -> None:
        kinds = told(statistics(before), statistics(now))
        assert [kind for kind, _, _ in kinds] == ["row_count"] * drift
        if drift:
            message = f"there were 100 rows and there are {now}: the band is 0.5 to 2 of them"
            assert kinds[0][1:] == (message, "the number of rows has changed")

    def test_rows_where_there_were_none(self) -> None:
        assert {kind for kind, _, _ in told(statistics(0), statistics(1))} == {"row_count", "new_class"}

    def test_wider_bands_find_less(self) -> None:
        policy = DriftPolicy(null_rate_band=1, least_row_ratio=0, most_row_ratio=100)
        assert found(statistics(), statistics(10_000, null_counts={"ward": 10_000}), policy) == ()


NAMES = st.sampled_from(["ward", "WARD", "notes", *SECRETS])
COUNTS = st.integers(0, 40)


@st.composite
def any_statistics(draw: st.DrawFn) -> RowStatistics:
    """Statistics that hold together, with names of the federation file and others."""
    by_class = draw(st.dictionaries(st.sampled_from(["heart", "lung", *SECRETS]), COUNTS, max_size=4))
    unlisted = draw(COUNTS)
    rows = sum(by_class.values()) + unlisted
    tests = draw(st.integers(0, rows))
    columns = draw(st.dictionaries(NAMES, st.sampled_from(["STRING", "INT64"]), max_size=4))
    counted = draw(st.lists(st.sampled_from(["ward", *SECRETS]), unique=True))
    return RowStatistics(
        columns=columns,
        training_rows=rows - tests,
        test_rows=tests,
        rows_by_class=by_class,
        unlisted_rows=unlisted,
        null_counts={name: draw(st.integers(0, rows)) for name in counted},
    )


@given(st.lists(any_statistics(), max_size=4))
def test_a_history_does_not_drift_from_itself(history: list[RowStatistics]) -> None:
    assert [found(each, each) for each in history] == [()] * len(history)


@given(any_statistics(), any_statistics())
def test_the_way_back_has_the_mirrored_findings(before: RowStatistics, after: RowStatistics) -> None:
    mirror = {"new_column": "column_gone", "column_gone": "new_column", "new_class": "class_gone"}
    mirror |= {"class_gone": "new_class"}
    # The default row band is its own mirror: half as many, twice as many.
    there = Counter(mirror.get(each.kind, each.kind) for each in found(before, after))
    assert there == Counter(each.kind for each in found(after, before))


@given(any_statistics(), any_statistics())
def test_nothing_is_disclosed_but_sentences_with_the_federation_files_names(
    before: RowStatistics, after: RowStatistics
) -> None:
    for finding in found(before, after):
        assert finding.disclosed in DISCLOSED
        assert finding.kind in get_args(Kind)
        assert "\n" not in finding.message


VALUES = st.sampled_from([*SECRETS, None])
RAW = st.lists(
    st.tuples(VALUES, st.sampled_from(["heart", "lung", *SECRETS, None]), st.booleans()), max_size=12
)


def counted(rows: Sequence[tuple[str | None, str | None, bool]], fields: list[TableField]) -> RowStatistics:
    counter = RowCounter(fields, classes=NAMED_CLASSES, label_column="chapter", counted=["ward"])
    wards, labels, tests = ([row[at] for row in rows] for at in range(3))
    counter.add(
        pa.record_batch(
            {
                "ward": pa.array(wards, pa.string()),
                "chapter": pa.array(labels, pa.string()),
                "is_test": pa.array(tests, pa.bool_()),
            }
        )
    )
    return counter.statistics()


@given(RAW, RAW, st.sampled_from(["STRING", "INT64"]))
def test_no_value_and_no_number_of_the_rows_is_disclosed(
    before: list[tuple[str | None, str | None, bool]],
    after: list[tuple[str | None, str | None, bool]],
    kind: str,
) -> None:
    old = [TableField("ward", "STRING", ""), TableField(SECRETS[0], "STRING", "")]
    new = [TableField("ward", kind, ""), TableField(SECRETS[2], "STRING", "")]
    findings = found(counted(before, old), counted(after, new))
    assert findings
    for each in findings:
        assert not any(secret in each.disclosed + each.kind for secret in SECRETS)
        assert not re.search(r"\d", each.disclosed)
    with pytest.raises(BadDataError) as caught:
        settle(findings, DriftPolicy(action="stop"), differentially_private=False)
    assert not any(secret in caught.value.disclosed for secret in SECRETS)
    assert not re.search(r"\d", caught.value.disclosed)


FINDINGS = found(statistics(), statistics(500, columns={"ward": "INT64"}, null_counts={"ward": 300}))


class TestPolicy:
    def test_without_findings_nothing_happens(self) -> None:
        for action in ACTIONS:
            for private in (False, True):
                assert settle((), DriftPolicy(action=action), differentially_private=private) == ()

    def test_tell_reports_kinds_and_keep_does_not(self) -> None:
        assert DriftPolicy().action == "keep"
        assert settle(FINDINGS, DriftPolicy(action="keep"), differentially_private=False) == ()
        assert settle(FINDINGS, DriftPolicy(action="tell"), differentially_private=False) == (
            "column_gone",
            "null_rate",
            "row_count",
            "type_changed",
        )

    def test_stop_leaves_the_site_out_with_words_for_its_own_people(self) -> None:
        with pytest.raises(BadDataError) as caught:
            settle(FINDINGS, DriftPolicy(action="stop"), differentially_private=False)
        message = str(caught.value)
        assert "there were 100 rows and there are 500" in message
        assert "set the drift action of the site's policy to tell or keep for one round" in message
        assert "\n" not in message
        assert caught.value.disclosed == (
            "column 'Notes' is gone; a column is gone; column 'ward' has another type; the share of NULL "
            "in column 'ward' has changed; the number of rows has changed"
        )

    @pytest.mark.parametrize("findings", [FINDINGS, FINDINGS[:1], FINDINGS[-1:]])
    def test_under_differential_privacy_no_word_depends_on_what_was_found(
        self, findings: tuple[Finding, ...]
    ) -> None:
        for action in ("tell", "keep"):
            assert settle(findings, DriftPolicy(action=action), differentially_private=True) == ()
        with pytest.raises(BadDataError, match="the records differ") as caught:
            settle(findings, DriftPolicy(action="stop"), differentially_private=True)
        assert caught.value.disclosed == "the site's policy stops this round"

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"action": "ignore"}, "action must be tell, stop, keep, got 'ignore'"),
            ({"null_rate_band": 5}, "null_rate_band must be from 0 to 1, got 5"),
            ({"null_rate_band": float("nan")}, "null_rate_band must be from 0 to 1, got nan"),
            ({"least_row_ratio": 1.5}, "least_row_ratio must be from 0 to 1, got 1.5"),
            ({"most_row_ratio": 0.9}, "most_row_ratio must be 1 or more, got 0.9"),
            ({"most_row_ratio": float("inf")}, "most_row_ratio must be 1 or more, got inf"),
        ],
    )
    def test_a_policy_that_cannot_be_followed(self, changes: dict[str, Any], complaint: str) -> None:
        policy = DriftPolicy(**changes)
        assert [complaint in problem for problem in policy.problems()] == [True]
        with pytest.raises(UsageError, match=re.escape(complaint)):
            found(statistics(), statistics(), policy)
        with pytest.raises(UsageError, match=re.escape(complaint)):
            settle(FINDINGS, policy, differentially_private=False)


def ticket(round_number: int, attempt: int = 1, **changes: Any) -> Ticket:
    first = Ticket(
        charter="c4" * 32,
        federation="paper",
        round_number=round_number,
        attempt=attempt,
        void="",
        purpose="update",
        model="0d" * 32,
        previous="",
        previous_folder="",
        snapshot="2026-11-22T10:00:00+00:00",
        local_epochs=1,
        learning_rate=0.1,
        batch_size=8,
        seed=1,
    )
    return replace(first, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


class TestMemory:
    def test_a_round_is_compared_with_the_newest_one_before_it(self, store: Store) -> None:
        assert last_accepted(store, ticket(1)) is None
        for number in (1, 3, 9, 10):
            assert remember(store, ticket(number), statistics(number)) == statistics(number)
        answers = {number: last_accepted(store, ticket(number)) for number in (2, 3, 4, 10, 11, 1_000_000)}
        assert {number: answer and answer.rows for number, answer in answers.items()} == {
            2: 1,
            3: 1,
            4: 3,
            10: 9,
            11: 10,
            1_000_000: 10,
        }

    def test_the_last_attempt_of_a_round_counts_and_no_attempt_of_the_same_round(self, store: Store) -> None:
        remember(store, ticket(1, 2), statistics(12))
        remember(store, ticket(1, 1), statistics(11))
        remember(store, ticket(2, 1), statistics(21))
        for asked in (ticket(2, 1), ticket(2, 2)):
            answer = last_accepted(store, asked)
            assert answer is not None
            assert answer.rows == 12

    def test_a_retry_compares_with_the_same_predecessor(self, store: Store) -> None:
        assert last_accepted(store, ticket(2)) is None
        remember(store, ticket(1), statistics(10))
        assert last_accepted(store, ticket(2)) is None
        assert last_accepted(store, ticket(2, 2)) == statistics(10)
        remember(store, ticket(1, 2), statistics(20))
        assert last_accepted(store, ticket(2, 2)) == statistics(10)
        remember(store, ticket(2, 2), statistics(30))
        assert last_accepted(store, ticket(2, 2)) == statistics(10)

    def test_the_first_statistics_of_a_ticket_stay(self, store: Store) -> None:
        assert remember(store, ticket(1), statistics(10)) == statistics(10)
        assert remember(store, ticket(1), statistics(99)) == statistics(10)
        assert store.keys() == ["statistics/000000001-000001.json"]

    def test_another_ticket_of_the_attempt_is_refused(self, store: Store) -> None:
        remember(store, ticket(1), statistics(10))
        with pytest.raises(RefusedError, match="round 1 was ingested under another ticket") as caught:
            remember(store, ticket(1, seed=2), statistics(10))
        assert caught.value.disclosed == str(caught.value)

    def test_of_all_that_remember_at_once_one_is_kept(self, store: Store) -> None:
        kept: list[RowStatistics] = []
        threads = [
            threading.Thread(
                target=lambda rows=rows: kept.append(remember(store, ticket(1), statistics(rows)))
            )
            for rows in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(kept) == 8
        assert {each.rows for each in kept} == {kept[0].rows}
        assert last_accepted(store, ticket(2)) == kept[0]

    @pytest.mark.parametrize(
        "document", [b"", b"{}", b"[]", b'{"statistics":{},"ticket":"a"}', b"[" * 100_000]
    )
    def test_a_record_that_was_altered(self, store: Store, document: bytes) -> None:
        store.create("statistics/000000001-000001.json", document)
        with pytest.raises(IntegrityError):
            last_accepted(store, ticket(2))
        with pytest.raises(IntegrityError):
            remember(store, ticket(1), statistics())

    def test_a_predecessor_that_is_gone(self, store: Store) -> None:
        remember(store, ticket(1), statistics())
        last_accepted(store, ticket(2))
        store.remove("statistics/000000001-000001.json")
        with pytest.raises(IntegrityError, match="is gone: restore the site's store"):
            last_accepted(store, ticket(2))
