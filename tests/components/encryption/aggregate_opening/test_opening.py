"""The `open` step: the key holder opens the sum of one agreed set, added by himself, and signs for it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.agreement.cutoff import cutoff_key, sum_key
from components.agreement.key_certificate import certificate_key, certified_keys
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.sealed_manifest import blob_key
from components.artifacts import tensors
from components.artifacts.stores import key_of
from components.encryption.keys import certify_key
from components.errors import (
    CrosscloudError,
    DigestMismatchError,
    ObjectMissingError,
    SignatureError,
    UsageError,
)
from tests.components.aggregation.three_sites import ThreeSites, put_in_force, set_policy
from tests.components.encryption.aggregate_opening.opened import (
    SITES,
    aggregate_of,
    body,
    next_edition,
    nothing_is_opened,
    protections,
    receipt,
    sha256,
)
from tests.components.rounds.walks import FOUR, content, walk

COUNTS = {"alpha": 26, "beta": 16, "delta": 22, "gamma": 40}  # training rows: two of three of 40, 25, 33, 61


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

    @protections
    def test_passes_the_receipt_on_under_a_later_charter(self, protection: str) -> None:
        """The sum is known: who has changed the charter meanwhile must be able to commit it."""
        walked = walk("opened", protection)
        three, before = walked.three, content(walked.three.exchange_uri)
        put_in_force("small", next_edition(three))
        outcome = three.open_sum(walked.total)
        assert outcome.reference == walked.receipt
        assert outcome.manifest["sites"] == list(SITES)
        assert content(three.exchange_uri) == before

    def test_under_a_later_charter_finds_a_receipt_of_somebody_else(self) -> None:
        walked = walk("released", "sealed")
        three = walked.three
        put_in_force("small", next_edition(three))
        three.exchange.create(receipt_key(three.opened.ticket.folder), b"{}")
        with pytest.raises(SignatureError):
            three.open_sum(walked.total)
        assert content("small/key-holder") == {}

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


class TestTheKeyHolder:
    def test_opens_under_no_charter_but_the_one_he_has_pinned(self) -> None:
        walked = walk("released", "sealed")
        set_policy("small", "key-holder", charter="0" * 64)
        with pytest.raises(SignatureError, match=r"foreign charter, .*: key-holder has not signed it"):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)

    @protections
    def test_opens_nothing_new_under_the_charter_before(self, protection: str) -> None:
        walked = walk("released", protection)
        put_in_force("small", next_edition(walked.three))
        with pytest.raises(SignatureError, match=r"foreign charter, .* or a later one is in force"):
            walked.three.open_sum(walked.total)
        assert nothing_is_opened(walked.three)
        assert content("small/key-holder") == {}

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
        # The next key, which he has certified by himself, is withheld.
        (three.keys_folder / certificate_key(three.charter, "sealed", 2)).unlink()
        with pytest.raises(UsageError, match="may serve 1 rounds and round 2 is not among them"):
            three.next_round().committed()

    def test_without_a_cut_off_opens_nothing(self) -> None:
        walked = walk("sealed", "none")
        with pytest.raises(ObjectMissingError):
            walked.three.open_sum(f"{walked.three.exchange_uri}/{sum_key(walked.three.opened.ticket)}")
        assert nothing_is_opened(walked.three)
