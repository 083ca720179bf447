"""The `open` step: the key holder opens the sum of one agreed set, added by himself, and signs for it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from components.agreement.cutoff import Cutoff, cutoff_key, shortfall_key, sum_key
from components.agreement.key_certificate import certified_keys
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.released import read_release, release_key
from components.agreement.roster import roster_key
from components.agreement.sealed_manifest import blob_key
from components.artifacts import tensors
from components.artifacts.stores import key_of
from components.encryption.ciphertext_sum import attempt_summer
from components.encryption.keys import certify_key
from components.errors import (
    CiphertextError,
    CrosscloudError,
    DigestMismatchError,
    IntegrityError,
    ObjectMissingError,
    QuorumNotReachedError,
    SignatureError,
    UsageError,
)
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.rounds.walks import FOUR, Walked, content, walk

SITES = ("alpha", "beta", "gamma")
COUNTS = {"alpha": 26, "beta": 16, "delta": 22, "gamma": 40}  # training rows: two of three of 40, 25, 33, 61
protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


def aggregate_of(three: ThreeSites) -> NDArray[np.float64]:
    found = tensors.decode_any(three.exchange.read(aggregate_key(three.opened.ticket.folder)))
    assert found.keys() == {"aggregate"}
    return found["aggregate"].astype(np.float64)


def nothing_is_opened(three: ThreeSites) -> bool:
    folder = three.opened.ticket.folder
    return not any(three.exchange.exists(key(folder)) for key in (aggregate_key, receipt_key))


def receipt(three: ThreeSites) -> Path:
    return three.exchange_folder / receipt_key(three.opened.ticket.folder)


def body(three: ThreeSites) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(receipt(three).read_bytes())["body"]
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fix(three: ThreeSites, members: Sequence[str]) -> None:
    """Another set of sites in the place of the one that was fixed."""
    cutoff = Cutoff(roster=three.attempt().roster().digest, members=tuple(members), left_out={})
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.unlink(missing_ok=True)
    three.exchange.create(cutoff_key(three.opened.ticket), cutoff.to_json())


class TestWhatIsOpened:
    @protections
    @pytest.mark.parametrize("lost", ["", "delta"])
    def test_is_the_sum_of_the_members_alone(self, protection: str, lost: str) -> None:
        walked = walk("released", protection, sites=FOUR, lost=lost)
        three = walked.three
        outcome = three.open_sum(walked.total)
        members = [site for site in FOUR if site != lost]
        vectors = [three.weighted(site) for site in members]
        found = aggregate_of(three)
        if protection == "none":
            total = np.zeros(len(vectors[0]))
            for vector in vectors:  # in the order of the names, as float64 addition is not associative
                total = total + vector
            assert np.array_equal(found, total)
        # `he`: half of 2^-14 and the noise. `sealed`: whole numbers, that of a site is what it stored.
        tolerance = 1e-4 if protection == "he" else 1e-9
        np.testing.assert_allclose(found, np.sum(vectors, axis=0), rtol=0, atol=tolerance)
        assert np.abs(found[:-1]).max() > 1  # the bound is small beside what is summed
        assert found[-1] == sum(COUNTS[site] for site in members)
        assert outcome.manifest["sites"] == members
        assert outcome.metrics == {"sites": float(len(members))}

    def test_under_sealed_is_the_mean_update_to_within_half_a_step_a_site(self) -> None:
        """Against what the same rows give under `none`: fixed point costs 0.004 of n times the update."""
        sums = {}
        for protection in ("none", "sealed"):
            walked = walk("released", protection)
            walked.three.open_sum(walked.total)
            sums[protection] = aggregate_of(walked.three)
            shutil.rmtree(walked.three.exchange_folder.parent)
        step = 1000 * 10.0 / 1398101  # max_examples times largest_value by (2^22 - 1) // 3
        error = np.abs(sums["sealed"] - sums["none"]).max()
        assert 0 < error <= 3 * step / 2 * 1.001


class TestTheReceipt:
    @protections
    def test_says_what_was_opened_of_whom_and_under_which_key(self, protection: str) -> None:
        walked = walk("released", protection, sites=FOUR, lost="delta")
        three, ticket = walked.three, walked.three.opened.ticket
        outcome = three.open_sum(walked.total)
        attempt, exchange = three.attempt(), three.exchange
        certified = attempt.certificate()
        fixed = json.loads(exchange.read(cutoff_key(ticket)))
        assert fixed["members"] == list(SITES)
        ud = f'{{"members":["alpha","beta","gamma"],"roster":"{attempt.roster().digest}"}}'
        assert body(three) == {
            "charter": three.charter.digest,
            "ticket": ticket.digest,
            "roster": attempt.roster().digest,
            "cutoff": sha256(ud.encode()),
            "purpose": "update",
            "certificate": certified.digest if certified else "",
            "ciphertexts": {site: sha256(exchange.read(blob_key(ticket, site))) for site in SITES},
            "sealed_sum": sha256(exchange.read(sum_key(ticket))),
            "aggregate": sha256(exchange.read(aggregate_key(ticket.folder))),
            "previous": "",
        }
        assert bool(certified) == (protection != "none")
        assert key_of(exchange, outcome.reference) == receipt_key(ticket.folder)

    @protections
    def test_is_signed_with_the_key_that_the_charter_names(self, protection: str) -> None:
        walked = walk("opened", protection)
        document = json.loads(receipt(walked.three).read_bytes())
        assert document["signer"] == "key-holder"
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(walked.three.charter.key_holder))
        canonical = json.dumps(document["body"], sort_keys=True, separators=(",", ":")).encode()
        message = b"crosscloud receipt\0" + hashlib.sha256(canonical).digest()
        public.verify(base64.b64decode(document["signature"]), message)

    @protections
    def test_follows_from_the_one_before(self, protection: str) -> None:
        three = walk("committed", protection).three
        first = receipt(three).read_bytes()
        later = three.next_round()
        later.committed()
        assert body(later)["previous"] == sha256(first)

    def test_names_the_key_of_its_round(self) -> None:
        three = walk("committed", "sealed").three
        certify_key(three.charter, keys_uri=three.keys_uri, first_round=2)
        later = three.next_round()
        later.committed()
        names = [each.digest for each in certified_keys(three.keys_uri, three.charter, "sealed")]
        assert [body(each)["certificate"] for each in (three, later)] == names
        assert len(set(names)) == 2


class TestASecondRun:
    @protections
    def test_returns_the_stored_receipt_and_needs_no_key(self, protection: str) -> None:
        walked = walk("released", protection)
        three = walked.three
        first = three.open_sum(walked.total)
        before = content(three.exchange_uri)
        for path in (three.keys_folder / "key-holder").iterdir():
            if path.name != "policy.yaml":
                path.unlink()
        assert three.open_sum(walked.total) == first
        assert content(three.exchange_uri) == before

    @protections
    def test_that_was_killed_before_the_receipt_gives_the_same_one(self, protection: str) -> None:
        walked = walk("opened", protection)
        document = receipt(walked.three).read_bytes()
        receipt(walked.three).unlink()
        walked.three.open_sum(walked.total)
        assert receipt(walked.three).read_bytes() == document

    def test_finds_a_receipt_of_somebody_else(self) -> None:
        walked = walk("opened", "none")
        document = json.loads(receipt(walked.three).read_bytes())
        document["body"]["aggregate"] = "0" * 64
        receipt(walked.three).write_bytes(
            json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        )
        with pytest.raises(SignatureError):
            walked.three.open_sum(walked.total)

    def test_finds_other_values_beside_its_receipt(self) -> None:
        walked = walk("opened", "none")
        path = walked.three.exchange_folder / aggregate_key(walked.three.opened.ticket.folder)
        path.write_bytes(tensors.encode({"aggregate": np.ones(29)}))
        with pytest.raises(DigestMismatchError, match="is not the one its receipt signs"):
            walked.three.open_sum(walked.total)


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

    def test_is_remembered_before_anything_is_decrypted(self) -> None:
        walked = walk("released", "sealed")
        three = walked.three
        next(iter((three.keys_folder / "key-holder").glob("*.secret"))).unlink()
        with pytest.raises(UsageError, match="no private key at"):
            three.open_sum(walked.total)
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


class TestTheKeyHolder:
    def test_opens_under_no_charter_but_the_one_he_has_pinned(self) -> None:
        walked = walk("released", "sealed")
        set_policy("small", "key-holder", charter="0" * 64)
        with pytest.raises(SignatureError, match=r"foreign charter, .*: key-holder has not signed it"):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    def test_without_a_policy_opens_nothing(self) -> None:
        walked = walk("released", "none")
        (walked.three.keys_folder / "key-holder/policy.yaml").unlink()
        with pytest.raises(CrosscloudError, match=r"key-holder has no policy\.yaml"):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    def test_does_not_sign_for_other_values_in_the_place_of_the_aggregate(self) -> None:
        walked = walk("released", "none")
        folder = walked.three.opened.ticket.folder
        walked.three.exchange.create(aggregate_key(folder), b"something else")
        with pytest.raises(DigestMismatchError, match="other values lie in the exchange"):
            walked.three.open_sum(walked.total)
        assert not receipt(walked.three).exists()

    @pytest.mark.parametrize("mode", [0o644, 0o640])
    @pytest.mark.parametrize("pattern", ["*.secret", "signing.key"])
    def test_does_not_use_a_key_that_others_can_read(self, pattern: str, mode: int) -> None:
        walked = walk("released", "sealed")
        [path] = (walked.three.keys_folder / "key-holder").glob(pattern)
        path.chmod(mode)
        with pytest.raises(UsageError, match="may be read by others"):
            walked.three.open_sum(walked.total)
        assert not receipt(walked.three).exists()

    @pytest.mark.parametrize("protection", ["he", "sealed"])
    def test_opens_nothing_with_the_key_of_another_federation(self, protection: str) -> None:
        walked = walk("released", protection)
        other = ThreeSites.start("other", protection=protection)
        [own] = (walked.three.keys_folder / "key-holder").glob("*.secret")
        [foreign] = (other.keys_folder / "key-holder").glob("*.secret")
        own.write_bytes(foreign.read_bytes())
        with pytest.raises(CrosscloudError):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    def test_of_a_round_that_his_key_no_longer_serves_opens_nothing(self) -> None:
        three = ThreeSites.start(protection="sealed", rotation_rounds=1)
        three.committed()
        with pytest.raises(UsageError, match="may serve 1 rounds and round 2 is not among them"):
            three.next_round().committed()

    def test_without_a_cut_off_opens_nothing(self) -> None:
        walked = walk("sealed", "none")
        with pytest.raises(ObjectMissingError):
            walked.three.open_sum(f"{walked.three.exchange_uri}/{sum_key(walked.three.opened.ticket)}")
        assert nothing_is_opened(walked.three)
