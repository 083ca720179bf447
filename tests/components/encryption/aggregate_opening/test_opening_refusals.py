"""Sums, sets and releases that the key holder does not open."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from typing import Any

import pytest

from components.agreement.cutoff import Cutoff, cutoff_key, shortfall_key, sum_key
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.released import read_release, release_key
from components.agreement.roster import roster_key
from components.agreement.sealed_manifest import blob_key
from components.encryption.bfv.context import BlockDecryptor
from components.encryption.ciphertext_sum import attempt_summer
from components.errors import (
    CiphertextError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
)
from tests.components.encryption.aggregate_opening.opened import (
    SITES,
    fix,
    nothing_is_opened,
    protections,
    sha256,
)
from tests.components.rounds.walks import FOUR, Walked, content, walk


class TestTheAggregatorsSum:
    @protections
    def test_that_was_altered_is_not_opened(self, protection: str) -> None:
        walked = walk("released", protection)
        three = walked.three
        path = three.exchange_folder / sum_key(three.opened.ticket)
        summed = path.read_bytes()
        flipped = bytearray(summed)
        flipped[-1] ^= 1
        own = three.exchange.read(blob_key(three.opened.ticket, "alpha"))
        for altered in (bytes(flipped), summed[:-1], summed + b"\0", own, b""):
            path.write_bytes(altered)
            with pytest.raises(DigestMismatchError, match="the aggregator altered it; it was not opened"):
                three.open_sum(walked.total)
            assert nothing_is_opened(three)
            assert content("small/key-holder") == {}
        path.write_bytes(summed)
        assert three.open_sum(walked.total).reference

    @protections
    def test_that_is_one_sites_update_is_not_opened(self, protection: str) -> None:
        walked = walk("released", protection)
        with pytest.raises(DigestMismatchError):
            walked.three.open_sum(walked.sealed["alpha"].replace(".json", ".bin"))
        assert nothing_is_opened(walked.three)

    @protections
    def test_of_a_member_altered_after_the_cut_off_is_not_opened(self, protection: str) -> None:
        walked = walk("released", protection)
        for position in (3, 200, -1):
            blob = bytearray(walked.blob("beta").read_bytes())
            blob[position] ^= 1
            walked.blob("beta").write_bytes(blob)
            with pytest.raises(IntegrityError):
                walked.three.open_sum(walked.total)
            # Where no ciphertext is left it is given up; that is not what is looked at here.
            ended = walked.three.exchange_folder / shortfall_key(walked.three.opened.ticket)
            ended.unlink(missing_ok=True)
            assert nothing_is_opened(walked.three)
            assert content("small/key-holder") == {}


class TestTheSet:
    def test_of_too_few_is_not_opened(self) -> None:
        walked = walk("released", "none", sites=FOUR)
        fix(walked.three, ("alpha",))
        with pytest.raises(
            QuorumNotReachedError, match="sum of 1 sites is not opened, the charter asks for 2"
        ):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    def test_under_sealed_of_two_of_four_is_not_opened(self) -> None:
        walked = walk("released", "sealed", sites=FOUR)
        fix(walked.three, ("alpha", "beta"))
        with pytest.raises(
            QuorumNotReachedError, match="sum of 2 sites is not opened, the charter asks for 3"
        ):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    def test_of_a_roster_of_too_few_is_not_opened(self) -> None:
        """The coordinator signed it, and no site has looked."""
        walked = walk("released", "sealed", sites=FOUR)
        three = walked.three
        roster = three.attempt().roster()
        fewer = {site: roster.commitments[site] for site in ("alpha", "beta")}
        (three.exchange_folder / roster_key(three.opened.ticket)).unlink()
        three.sign_roster(replace(roster, commitments=fewer), roster_key(three.opened.ticket))
        fix(three, ("alpha", "beta"))
        with pytest.raises(
            QuorumNotReachedError, match="roster of 2 sites is not opened, the charter asks for 3"
        ):
            three.open_sum(walked.total)
        assert nothing_is_opened(three)

    def test_with_a_member_named_twice_is_no_larger(self) -> None:
        walked = walk("released", "sealed", sites=FOUR)
        fix(walked.three, ("alpha", "beta", "beta"))
        with pytest.raises(QuorumNotReachedError):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    @pytest.mark.parametrize("fault", ["a stranger", "another roster", "no cut-off at all"])
    def test_that_does_not_follow_from_the_roster_is_refused(self, fault: str) -> None:
        walked = walk("released", "none")
        three = walked.three
        roster = three.attempt().roster().digest
        path = three.exchange_folder / cutoff_key(three.opened.ticket)
        path.write_bytes(
            {
                "a stranger": Cutoff(roster=roster, members=(*SITES, "mallory"), left_out={}).to_json(),
                "another roster": Cutoff(roster="0" * 64, members=SITES, left_out={}).to_json(),
                "no cut-off at all": b"[]",
            }[fault]
        )
        with pytest.raises(IntegrityError, match="cut-off"):
            three.open_sum(walked.total)
        assert nothing_is_opened(three)

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_that_is_a_second_one_is_refused(self, protection: str) -> None:
        """His own record, not the exchange's, says what he has opened: all may conspire to erase that."""
        walked = walk("opened", protection, sites=FOUR)
        three, folder = walked.three, walked.three.opened.ticket.folder
        for key in (receipt_key(folder), aggregate_key(folder), sum_key(three.opened.ticket)):
            (three.exchange_folder / key).unlink()
        fix(three, SITES)
        total = three.aggregate(walked.sealed).reference
        with pytest.raises(
            IntegrityError, match="another set of sites was opened for round 1 before: refused"
        ):
            three.open_sum(total)
        assert nothing_is_opened(three)

    def test_that_is_a_second_one_is_refused_if_all_sites_release_for_it(self) -> None:
        """Under `sealed` they would have to forget what they have released for; then he still has not."""
        walked = walk("opened", "sealed", sites=FOUR)
        three, folder = walked.three, walked.three.opened.ticket.folder
        for key in (receipt_key(folder), aggregate_key(folder), sum_key(three.opened.ticket)):
            (three.exchange_folder / key).unlink()
        for site in FOUR:
            (three.exchange_folder / release_key(three.opened.ticket, site)).unlink()
            shutil.rmtree(three.store_folder(site) / "cutoffs")
        fix(three, SITES)
        total = three.aggregate(walked.sealed).reference
        three.release()
        with pytest.raises(
            IntegrityError, match="another set of sites was opened for round 1 before: refused"
        ):
            three.open_sum(total)
        assert nothing_is_opened(three)
        shutil.rmtree(three.keys_folder.parent / "key-holder")  # and this is what he would have opened
        assert three.open_sum(total).manifest["sites"] == list(SITES)

    def test_is_remembered_before_anything_is_decrypted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        walked = walk("released", "sealed")
        three = walked.three
        remembered = three.keys_folder.parent / "remembered"

        def note(*_: object) -> None:
            remembered.write_text(str(len(content("small/key-holder"))))
            raise CiphertextError

        monkeypatch.setattr(BlockDecryptor, "decrypt", note)
        with pytest.raises(CiphertextError, match="does not open"):
            three.open_sum(walked.total)
        assert remembered.read_text() == "1"
        [record] = content("small/key-holder").values()
        attempt = three.attempt()
        roster = attempt.roster()
        assert json.loads(record) == {"roster": roster.digest, "cutoff": attempt.cutoff(roster).digest}


class TestReleases:
    @pytest.mark.parametrize("fault", ["missing", "unsigned", "another's", "for another set"])
    def test_one_that_is_missing_ends_the_attempt(self, fault: str) -> None:
        """Nothing is opened, of anybody; the next run goes on with the next number and the same model."""
        walked = walk("released", "sealed", sites=FOUR)
        three, ticket = walked.three, walked.three.opened.ticket
        path = three.exchange_folder / release_key(ticket, "beta")
        if fault == "missing":
            path.unlink()
        elif fault == "unsigned":
            path.write_bytes(path.read_bytes().replace(b'"signature":"', b'"signature":"AAAA'))
        elif fault == "another's":
            path.write_bytes((three.exchange_folder / release_key(ticket, "gamma")).read_bytes())
        else:
            attempt = three.attempt()
            found = read_release(
                three.exchange, ticket, attempt.cutoff(attempt.roster()), "beta", three.charter
            )
            path.write_bytes(replace(found, cutoff="0" * 64).signed(three.place("beta").key))
        with pytest.raises(QuorumNotReachedError) as caught:
            three.open_sum(walked.total)
        message = str(caught.value)
        assert "round 1 is void: beta sealed but did not release" in message
        assert "the next round starts from the same model" in message
        assert "\n" not in message
        assert nothing_is_opened(three)
        assert content("small/key-holder") == {}
        shortfall = json.loads(three.exchange.read(shortfall_key(ticket)))
        assert shortfall["members"] == ["alpha", "delta", "gamma"]
        assert list(shortfall["left_out"]) == ["beta"]
        assert shortfall["left_out"]["beta"].startswith("unreachable" if fault == "missing" else "refused")
        again = three.next_attempt().opened.ticket
        assert (again.round_number, again.attempt, again.model) == (2, 1, ticket.model)

    def test_the_first_shortfall_stands(self) -> None:
        walked = walk("summed", "sealed")
        for expected in (["alpha", "beta", "gamma"], ["alpha", "beta", "gamma"]):
            with pytest.raises(QuorumNotReachedError):
                walked.three.open_sum(walked.total)
            shortfall = json.loads(walked.three.exchange.read(shortfall_key(walked.three.opened.ticket)))
            assert list(shortfall["left_out"]) == expected
            walked.three.release(["alpha"])

    @pytest.mark.parametrize("field", ["locked", "shares"])
    def test_one_that_opens_nothing_is_refused_in_one_bit(self, field: str) -> None:
        """Signed by its site, and not made for this set after all: he does not say which it was."""
        walked = walk("released", "sealed")
        three, attempt = walked.three, walked.three.attempt()
        ticket = three.opened.ticket
        cutoff = attempt.cutoff(attempt.roster())
        found = read_release(three.exchange, ticket, cutoff, "beta", three.charter)
        other = base64.b64encode(bytes(32)).decode()
        altered: dict[str, Any] = {
            "locked": base64.b64encode(bytes(200)).decode(),
            "shares": dict.fromkeys(found.shares, other),
        }
        path = three.exchange_folder / release_key(ticket, "beta")
        path.write_bytes(replace(found, **{field: altered[field]}).signed(three.place("beta").key))
        with pytest.raises(CiphertextError, match="the releases do not open this set: refused") as caught:
            three.open_sum(walked.total)
        assert "beta" not in str(caught.value)
        assert nothing_is_opened(three)

    def test_a_sum_that_is_none_is_refused_in_one_bit(self) -> None:
        """One site sealed something else under its masks: the zero slots tell, and the refusal does not."""
        walked = walk("released", "sealed")
        three = walked.three
        fake_masks(walked)
        with pytest.raises(CiphertextError) as caught:
            three.open_sum(walked.total)
        assert str(caught.value) == "the sum of round 1 does not open: refused"
        assert caught.value.__cause__ is None
        assert nothing_is_opened(three)


def fake_masks(walked: Walked) -> None:
    """Replaces beta's sealed update by a ciphertext of the same value twice: signed, whole, and no update."""
    three, ticket = walked.three, walked.three.opened.ticket
    attempt = three.attempt()
    manifest = attempt.manifest(attempt.roster(), "beta")
    summer = attempt_summer(attempt)
    sources = [walked.blob("beta").open("rb") for _ in range(2)]
    doubled = b"".join(summer.add(list(sources), manifest.length))
    for source in sources:
        source.close()
    walked.blob("beta").write_bytes(doubled)
    signed = replace(manifest, blob=sha256(doubled)).signed(three.place("beta").key)
    walked.manifest("beta").write_bytes(signed)
    (three.exchange_folder / sum_key(ticket)).unlink()
    three.aggregate(walked.sealed)
