"""What may go of the exchange: of rounds that have ended, the oldest first, and never what is still asked."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from components.agreement.private_keys import load_signing_key
from components.agreement.pruned import pruned_keys, publish_pruned
from components.artifacts.erasing import erase, measured
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, SignatureError
from components.rounds.exchange_retention import exchange_retention
from components.rounds.verification import verify_state
from tests.components.aggregation.three_sites import ThreeSites, put_in_force
from tests.components.artifacts.test_object_store import S3Server, running_server, server, uri

__all__ = ["running_server", "server", "uri"]
SOON = timedelta(minutes=5)


def committed(rounds: int) -> ThreeSites:
    """A federation after so many rounds, the next of which is open."""
    three = ThreeSites.start(protection="sealed")
    for _ in range(rounds):
        three.committed()
        three = three.next_round()
    return three


def going(
    three: ThreeSites, *, exchange: Store | None = None, keep_for: timedelta = timedelta()
) -> list[str]:
    found = exchange_retention(
        open_store(three.state_uri),
        exchange or three.exchange,
        three.keys_uri,
        three.charter,
        keep_for=keep_for,
        now=datetime.now(UTC) + SOON,
    )
    return [each.key for each in found]


def ask(exchange: Store, name: str, ticket: object, *, answered: str = "") -> None:
    exchange.create(f"requests/alpha/{name * 64}.json", json.dumps({"body": {"ticket": ticket}}).encode())
    if answered:
        exchange.create(f"{answered}/alpha/{name * 64}.json", b"{}")


class TestRounds:
    def test_that_are_open_keep_everything(self) -> None:
        three = ThreeSites.start(protection="sealed")
        three.sealed()
        assert going(three) == []

    def test_without_a_report_keep_everything_as_all_that_follow(self) -> None:
        three = committed(3)
        open_store(three.state_uri).remove("rounds/00002/report.json")
        assert {key.split("/")[1] for key in going(three) if key.startswith("rounds/")} == {"00001-1"}

    def test_go_from_the_oldest_on(self) -> None:
        """A receipt that stays is never older than one that is gone."""
        three = committed(4)
        gone = [key.split("/")[1] for key in going(three) if key.startswith("rounds/")]
        assert gone == sorted(gone)
        assert set(gone) == {"00001-1", "00002-1", "00003-1", "00004-1"}
        assert not any(
            key.endswith(("ticket.json", "receipt.json", "roster.json", "cutoff.json"))
            for key in going(three)
        )

    def test_of_the_newest_two_the_lineage_stays(self) -> None:
        gone = going(committed(3))
        assert "rounds/00001-1/aggregate.safetensors" in gone
        assert not {f"rounds/0000{n}-1/aggregate.safetensors" for n in (2, 3)} & set(gone)
        assert not {f"rounds/0000{n}-1/commitments/alpha.json" for n in (2, 3)} & set(gone)

    def test_younger_than_asked_stay(self) -> None:
        three = committed(2)
        assert going(three, keep_for=timedelta(days=1)) == []
        assert going(three, keep_for=SOON / 2)

    def test_whose_commit_was_altered_are_not_judged(self) -> None:
        three = committed(2)
        state = open_store(three.state_uri)
        record = state.read("rounds/00001/round.json")
        state.remove("rounds/00001/round.json")
        state.create("rounds/00001/round.json", record.replace(b'"attempt":1', b'"attempt":2'))
        with pytest.raises(IntegrityError):
            going(three)


class TestModels:
    def test_only_of_rounds_that_are_over_and_not_what_a_later_one_needs(self) -> None:
        three = committed(4)
        records = [
            json.loads(open_store(three.state_uri).read(f"rounds/{n:05d}/round.json"))["body"]
            for n in (1, 2, 3, 4)
        ]
        gone = {key for key in going(three) if key.startswith("models/")}
        assert gone == {
            f"models/{records[0]['parent']}.safetensors",
            f"models/{records[0]['model']}.safetensors",
        }

    def test_that_the_charter_goes_back_to_stay(self) -> None:
        three = committed(4)
        first = json.loads(open_store(three.state_uri).read("rounds/00001/round.json"))["body"]["model"]
        before = three.charter
        back = replace(before, edition=2, previous=before.digest, restart=first)
        put_in_force(three.name, back)
        assert three.charter.restart == first
        assert f"models/{first}.safetensors" not in going(three)

    def test_that_nobody_has_committed_stay(self) -> None:
        """It may be that of a commit which is being made."""
        three = committed(4)
        three.exchange.create(f"models/{'ab' * 32}.safetensors", b"new")
        assert f"models/{'ab' * 32}.safetensors" not in going(three)

    def test_are_enough_for_the_next_round_and_the_chain(self) -> None:
        three = committed(4)
        exchange = three.exchange
        found = exchange_retention(
            open_store(three.state_uri),
            exchange,
            three.keys_uri,
            three.charter,
            keep_for=timedelta(),
            now=datetime.now(UTC) + SOON,
        )
        erase(exchange, measured(exchange, found))
        assert going(three) == []
        three.committed()
        verified = verify_state(three.state_uri, keys_uri=three.keys_uri)
        assert (verified.problems, verified.rounds) == ((), 5)


class TestRequests:
    def test_of_rounds_that_are_over_go_before_their_answers(self) -> None:
        three = committed(1)
        exchange, folder = three.exchange, f"{three.exchange_uri}/rounds"
        ask(exchange, "a", f"{folder}/00001-1/ticket.json", answered="outcomes")
        ask(exchange, "b", f"{folder}/00001-1/ticket.json", answered="notices")
        ask(exchange, "c", f"{folder}/00002-1/ticket.json", answered="outcomes")
        ask(exchange, "d", f"{folder}/00001-1/ticket.json")
        exchange.create(f"outcomes/alpha/{'e' * 64}.json", b"{}")
        asked = [key.split("/")[0][0] + key.split("/")[2][0] for key in going(three) if "/alpha/" in key]
        assert asked == ["ra", "rb", "rd", "oa", "oe", "nb"]

    @pytest.mark.parametrize(
        "ticket", ["elsewhere", "", None, 1, ["rounds/00001-1/ticket.json"], "rounds/1-1/ticket.json"]
    )
    def test_that_name_no_round_stay_with_their_answers(self, ticket: object) -> None:
        three = committed(1)
        ask(three.exchange, "a", ticket, answered="outcomes")
        assert not [key for key in going(three) if key.startswith(("requests", "outcomes"))]


def test_a_bucket_is_let_go_of_as_a_folder_is(server: S3Server, uri: str) -> None:
    three = committed(3)
    files, bucket = three.exchange, open_store(uri)
    for key in files.keys(""):
        bucket.create(key, files.read(key))
    assert going(three, exchange=bucket) == going(three)
    found = exchange_retention(
        open_store(three.state_uri),
        bucket,
        three.keys_uri,
        three.charter,
        keep_for=timedelta(),
        now=datetime.now(UTC) + SOON,
    )
    objects = measured(bucket, found)
    assert [size for _, size in objects] == [files.size(each.key) for each, _ in objects]
    erase(bucket, objects)
    assert set(bucket.keys()) == set(files.keys("")) - {each.key for each in found}


class TestWhatIsSaidToBeErased:
    def test_is_read_back_whole_from_many_documents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("components.agreement.pruned.MOST_KEYS", 3)
        three = committed(0)
        keys = [f"rounds/00001-1/sealed/{n}.bin" for n in range(8)]
        key = load_signing_key(three.keys_uri, "coordinator")
        for some in (keys[:7], keys[7:]):
            publish_pruned(three.exchange, some, charter=three.charter, key=key, now=datetime.now(UTC))
        assert len(three.exchange.keys("pruned")) == 4
        assert pruned_keys(three.exchange, three.keys_uri, three.charter) == set(keys)

    @pytest.mark.parametrize("signer", ["alpha", "key-holder"])
    def test_by_another_than_the_coordinator_is_refused(self, signer: str) -> None:
        three = committed(0)
        key = load_signing_key(three.keys_uri, signer)
        publish_pruned(three.exchange, ["a"], charter=three.charter, key=key, now=datetime.now(UTC))
        with pytest.raises(SignatureError):
            pruned_keys(three.exchange, three.keys_uri, three.charter)

    @pytest.mark.parametrize("document", [b"", b"{}", b'{"body": {"charter": "00"}}', b"[" * 20_000])
    def test_in_another_form_is_refused(self, document: bytes) -> None:
        three = committed(0)
        three.exchange.create("pruned/x.json", document)
        with pytest.raises(SignatureError):
            pruned_keys(three.exchange, three.keys_uri, three.charter)
