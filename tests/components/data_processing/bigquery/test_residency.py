from __future__ import annotations

import itertools

import pytest

from components.data_processing.bigquery.residency import DataResidency, check_locations, check_reader
from components.errors import RefusedError, UsageError

INSIDE = DataResidency(warehouse="EU", reader="gcp:europe-west3")
AWS = DataResidency(warehouse="EU", reader="aws:eu-central-1", may_leave=True)
READERS = ("gcp:europe-west3", "aws:eu-central-1")


def allowed(declared: DataResidency | None, *, in_google_cloud: bool) -> bool:
    try:
        check_reader(declared, identity="an identity", in_google_cloud=in_google_cloud)
    except RefusedError:
        return False
    return True


def test_rows_leave_google_cloud_only_where_every_word_says_so() -> None:
    """The whole truth table: rows stay, or the declaration names a reader outside and lets them leave."""
    for in_google_cloud in (True, False):
        assert allowed(None, in_google_cloud=in_google_cloud) is in_google_cloud
    for reader, may_leave, in_google_cloud in itertools.product(READERS, (True, False), (True, False)):
        declared = DataResidency(warehouse="EU", reader=reader, may_leave=may_leave)
        stays = in_google_cloud and reader == READERS[0]
        leaves_as_declared = reader == READERS[1] and may_leave
        assert allowed(declared, in_google_cloud=in_google_cloud) is (stays or leaves_as_declared)


def test_an_undeclared_federated_reader_is_told_what_to_declare() -> None:
    with pytest.raises(RefusedError, match="may_leave: true") as caught:
        check_reader(None, identity="workload identity federation", in_google_cloud=False)
    assert "with workload identity federation moves rows out of Google Cloud" in str(caught.value)
    assert caught.value.disclosed == "rows would leave the warehouse's cloud, which the site has not declared"


def test_an_identity_from_outside_is_no_proof_of_a_reader_inside() -> None:
    with pytest.raises(RefusedError, match="is no proof of being inside Google Cloud"):
        check_reader(INSIDE, identity="a person's own credentials", in_google_cloud=False)


@pytest.mark.parametrize("declared", [INSIDE, AWS])
def test_tables_lie_where_declared(declared: DataResidency) -> None:
    check_locations(declared, {"demo.clinic.visits": "eu", "demo.clinic.wards": "EU"})
    with pytest.raises(RefusedError, match=r"demo\.clinic\.wards lies in US, .* declares EU") as caught:
        check_locations(declared, {"demo.clinic.visits": "EU", "demo.clinic.wards": "US"})
    assert "clinic" not in caught.value.disclosed


def test_a_table_of_unknown_location_is_not_taken_for_the_declared_one() -> None:
    with pytest.raises(RefusedError, match="lies in no known location"):
        check_locations(INSIDE, {"demo.clinic.visits": ""})


def test_without_a_declaration_locations_are_bigquerys_own_matter() -> None:
    check_locations(None, {"demo.clinic.visits": "US"})


@pytest.mark.parametrize("reader", ["", "aws", "AWS:eu", "aws:", ":eu"])
def test_a_reader_is_cloud_and_region(reader: str) -> None:
    with pytest.raises(UsageError, match="must be cloud:region"):
        DataResidency(warehouse="EU", reader=reader)
