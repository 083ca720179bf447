"""The `seal` step: a site seals the update it has committed to, once, for one roster."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.key_certificate import context_key
from components.agreement.private_keys import load_signing_key
from components.agreement.roster import Roster, read_commitments
from components.agreement.round_secrets import read_secrets
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.agreement.site_update import keep_update, read_update, update_key
from components.artifacts.documents import digest
from components.artifacts.stores import key_of
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedOpener
from components.encryption.contexts import secret_context
from components.encryption.keys import certify_key
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import site_masks
from components.encryption.protection import opener
from components.encryption.update_sealing.sealing import seal_update
from components.errors import BadDataError, CiphertextError, ObjectMissingError, RefusedError, SignatureError
from components.execution.outcome import Outcome
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.rounds.walks import FOUR, Walked, walk

LENGTH = {"none": 29, "he": 29, "sealed": 30}  # 4 classes of 6 weights and a bias, and the count
protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


def seal(three: ThreeSites, roster: str, site: str = "alpha") -> Outcome:
    return seal_update(three.place(site), roster=roster)


def nothing_is_sealed(three: ThreeSites, site: str = "alpha") -> bool:
    ticket = three.opened.ticket
    return not any(three.exchange.exists(key(ticket, site)) for key in (blob_key, manifest_key))


def published(three: ThreeSites, site: str = "alpha") -> list[Path]:
    return [three.exchange_folder / key(three.opened.ticket, site) for key in (blob_key, manifest_key)]


def changed(three: ThreeSites, **changes: Any) -> str:
    """A roster like the one that was called, with changes, signed by the coordinator."""
    return three.sign_roster(replace(three.attempt().roster(), **changes), "rosters/changed.json")


def masks_of(three: ThreeSites, site: str) -> Masks:
    place, attempt = three.place(site), three.attempt()
    secrets = read_secrets(place.store, place.key, place.ticket.digest)
    roster = attempt.roster()
    halves = public_halves(
        place.charter, read_commitments(place.exchange, place.ticket, roster, place.charter)
    )
    return site_masks(attempt_names(place.ticket, roster), private_half(place, secrets), halves, secrets.seed)


def opened(three: ThreeSites, site: str, masks: Masks | None = None) -> NDArray[Any]:
    """What the key holder reads in one site's sealed update, if he is given its masks."""
    protection, attempt = three.request.protection, three.attempt()
    source = io.BytesIO(three.exchange.read(blob_key(three.opened.ticket, site)))
    secret = secret_context(attempt)
    if protection != "sealed":
        return opener(protection, secret).open(source, LENGTH[protection])
    packing = Packing(values_per_slot=2, sites=len(three.sites))
    taken_off = masks or masks_of(three, site)
    return SealedOpener(secret, packing, taken_off).open(source, LENGTH[protection])


class TestWhatIsSealed:
    @protections
    def test_is_the_committed_vector(self, protection: str) -> None:
        walked = walk("called", protection)
        three = walked.three
        outcome = seal(three, walked.roster)
        found = opened(three, "alpha")
        # `he` keeps values to 1e-4; what is sealed as whole numbers is exact.
        stored = read_update(three.place("alpha").store, three.opened.ticket).astype(np.float64)
        np.testing.assert_allclose(found, stored, rtol=0, atol=1e-4 if protection == "he" else 0)
        assert three.weighted("alpha")[-1] == 26
        attempt, [blob, document] = three.attempt(), published(three)
        manifest = attempt.manifest(attempt.roster(), "alpha")
        size = blob.stat().st_size
        certified = attempt.certificate()
        assert (manifest.length, manifest.size) == (LENGTH[protection], size)
        assert manifest.blob == digest(blob.read_bytes())
        assert manifest.certificate == (certified.digest if certified else "")
        assert outcome.manifest == {"digest": manifest.blob, "bytes": size, "protection": protection}
        assert outcome.reference == f"{three.exchange_uri}/{manifest_key(three.opened.ticket, 'alpha')}"
        assert outcome.bytes_sent == size + document.stat().st_size

    @pytest.mark.parametrize("taken_off", ["nothing", "all but the self-mask", "all but one pad"])
    def test_the_key_holder_reads_nothing_of_one_site(self, taken_off: str) -> None:
        """Not even with the help of the other sites, who know every pad but not the self-mask."""
        walked = walk("sealed", "sealed")
        three = walked.three
        masks = masks_of(three, "alpha")
        known = {
            "nothing": Masks(added=(), subtracted=()),
            "all but the self-mask": replace(masks, added=masks.added[1:]),
            "all but one pad": replace(masks, added=masks.added[:-1]),
        }[taken_off]
        with pytest.raises(CiphertextError, match="does not open to a sum of updates: refused"):
            opened(three, "alpha", known)

    @protections
    def test_no_number_of_the_update_lies_in_the_exchange(self, protection: str) -> None:
        """Under `none` the same search finds all of them, so it is able to."""
        three = walk("sealed", protection).three
        everything = [path.read_bytes() for path in three.exchange_folder.rglob("*") if path.is_file()]
        assert max(map(len, everything)) > (200 if protection == "none" else 100_000)
        found = [
            any(pattern in each for each in everything)
            for site in three.sites
            for pattern in patterns(three, site)
        ]
        assert any(found) == (protection == "none")
        if protection == "none":
            assert sum(found) >= 3 * 29

    def test_under_sealed_two_seals_of_one_update_have_nothing_in_common(self, tmp_path: Path) -> None:
        """A fresh ciphertext each time; that is why a retry sends the first one's bytes."""
        walked = walk("called", "sealed")
        three, contents = walked.three, []
        for _ in range(2):
            seal(three, walked.roster)
            contents.append(published(three)[0].read_bytes())
            shutil.rmtree(three.store_folder("alpha") / "sealed")
            for path in published(three):
                path.unlink()
        words = [np.frombuffer(content[80:], "<u8") for content in contents]
        assert contents[0][:80] == contents[1][:80]
        assert (words[0] == words[1]).sum() < 3  # of 16,384 words of nearly 60 bits


def patterns(three: ThreeSites, site: str) -> list[bytes]:
    """What was stored and what it stands for, value by value and as pairs of narrower numbers."""
    place = three.place(site)
    stored, weighted = read_update(place.store, place.ticket), three.weighted(site)
    found = [value.tobytes() for vector in (weighted, weighted / weighted[-1]) for value in vector if value]
    narrow: list[NDArray[Any]] = [weighted.astype(np.float32), (weighted / weighted[-1]).astype(np.float32)]
    for vector in [*narrow, stored]:
        found += [vector[k : k + 2].tobytes() for k in range(len(vector) - 1) if vector[k : k + 2].all()]
    secrets = read_secrets(place.store, place.key, place.ticket.digest)
    return [*found, secrets.salt, secrets.seed, secrets.ephemeral.private_bytes_raw()]


class TestARetry:
    @protections
    def test_sends_the_very_same_bytes(self, protection: str) -> None:
        """`he` and `sealed` are randomised: two seals of one update differ (see above)."""
        walked = walk("called", protection)
        three = walked.three
        first = seal(three, walked.roster)
        before = [path.read_bytes() for path in published(three)]
        assert seal(three, walked.roster) == first
        for path in published(three):
            path.unlink()
            assert seal(three, walked.roster) == first
            assert [path.read_bytes() for path in published(three)] == before

    def test_needs_no_secret_any_more(self) -> None:
        """Once the receipt is there the secrets are erased; a resumed run still passes here."""
        walked = walk("sealed", "sealed")
        shutil.rmtree(walked.three.store_folder("alpha") / "secrets")
        before = [path.read_bytes() for path in published(walked.three)]
        seal(walked.three, walked.roster)
        assert [path.read_bytes() for path in published(walked.three)] == before

    @protections
    @pytest.mark.parametrize("which", [0, 1], ids=["blob", "manifest"])
    def test_finds_foreign_bytes_where_its_own_belong(self, protection: str, which: int) -> None:
        walked = walk("sealed", protection)
        path = published(walked.three)[which]
        own, others = path.read_bytes(), published(walked.three, "beta")[which].read_bytes()
        rule = "other bytes lie at" if which == 0 else "another manifest lies where this site's belongs"
        for foreign in (bytes(len(own)), own[:-1], own + b"more", others):
            path.write_bytes(foreign)
            with pytest.raises(RefusedError, match=rule) as caught:
                seal(walked.three, walked.roster)
            assert caught.value.disclosed == str(caught.value)
            assert path.read_bytes() == foreign

    def test_that_finds_half_a_blob_in_its_own_store_sends_nothing(self) -> None:
        """It is proved to be ciphertext before it leaves, also if it was sealed before."""
        walked = walk("sealed", "sealed")
        three = walked.three
        own = three.store_folder("alpha") / f"sealed/{three.opened.ticket.digest}.bin"
        update = read_update(three.place("alpha").store, three.opened.ticket)
        for path in published(three):
            path.unlink()
        for content in (
            own.read_bytes()[:-8],
            own.read_bytes()[:80] + update.tobytes().ljust(131_072, b"\xff"),
        ):
            own.write_bytes(content)
            with pytest.raises(CiphertextError):
                seal(three, walked.roster)
            assert nothing_is_sealed(three)


class TestRosters:
    def test_one_without_this_site_is_refused(self) -> None:
        walked = walk("trained", "none")
        roster = walked.three.roster(walked.commitments | {"alpha": ""}, {"alpha": "timeout"})
        with pytest.raises(RefusedError, match="does not hold this site's commitment") as caught:
            seal(walked.three, roster)
        assert caught.value.disclosed
        assert nothing_is_sealed(walked.three)

    @protections
    def test_one_with_another_commitment_of_this_site_is_refused(self, protection: str) -> None:
        walked = walk("called", protection)
        three = walked.three
        commitments = dict(three.attempt().roster().commitments) | {"alpha": "0" * 64}
        with pytest.raises(SignatureError, match="commitment of alpha is not the one on the roster"):
            seal(three, changed(three, commitments=commitments))
        assert nothing_is_sealed(three)

    @pytest.mark.parametrize("protection", ["none", "sealed"])
    def test_a_commitment_of_another_site_is_checked_too(self, protection: str) -> None:
        """Its ephemeral key stands in it: who exchanged it would learn the pad with that site."""
        walked = walk("called", protection)
        three, ticket = walked.three, walked.three.opened.ticket
        key = commitment_key(ticket, "beta")
        document = three.exchange.read(key)
        honest = read_commitment(document, ticket, "beta", three.charter)
        forged = replace(honest, ephemeral=three_other_ephemeral(three))
        path = three.exchange_folder / key
        for content in (forged.signed(three.place("beta").key), forged.signed(three.place("gamma").key)):
            path.write_bytes(content)
            with pytest.raises(SignatureError, match="commitment of beta"):
                seal(three, walked.roster)
        path.unlink()
        with pytest.raises(SignatureError, match="names beta, whose commitment is not there"):
            seal(three, walked.roster)
        assert nothing_is_sealed(three)

    @protections
    def test_a_second_one_for_the_same_ticket_is_refused(self, protection: str) -> None:
        """Two sums of different sets would give away their difference: one site's update."""
        walked = walk("called", protection, sites=FOUR)
        three = walked.three
        seal(three, walked.roster)
        before = [path.read_bytes() for path in published(three)]
        commitments = dict(three.attempt().roster().commitments)
        del commitments["gamma"]
        second = changed(three, commitments=commitments, left_out={"gamma": "timeout"})
        with pytest.raises(RefusedError, match="a second roster was called for round 1"):
            seal(three, second)
        assert [path.read_bytes() for path in published(three)] == before
        # Who has seen the first and not sealed yet refuses as well; who has not may take either.
        beta = three.place("beta")
        beta.store.create(f"rosters/{beta.ticket.digest}.txt", three.attempt().roster().digest.encode())
        with pytest.raises(RefusedError, match="a second roster"):
            seal(three, second, "beta")
        assert nothing_is_sealed(three, "beta")
        assert seal(three, second, "delta").reference
        with pytest.raises(RefusedError, match="a second roster"):
            seal(three, walked.roster, "delta")

    def test_other_reasons_for_those_left_out_make_no_second_one(self) -> None:
        walked = walk("called", "none")
        seal(walked.three, walked.roster)
        assert seal(walked.three, changed(walked.three, left_out={"nobody": "oom"})).reference

    @pytest.mark.parametrize(("protection", "least"), [("none", 3), ("sealed", 4)])
    def test_one_with_too_few_sites_is_refused(self, protection: str, least: int) -> None:
        """The coordinator signed it; the charter's bound is the site's to keep."""
        three = ThreeSites.start(protection=protection, sites=FOUR, min_sites=least)
        three.roster(three.train())
        commitments = dict(three.attempt().roster().commitments)
        for site in ("delta", "gamma"):
            del commitments[site]
        with pytest.raises(RefusedError, match=f"has 2 sites, the charter asks for {least}") as caught:
            seal(three, changed(three, commitments=commitments))
        assert caught.value.disclosed
        assert nothing_is_sealed(three)
        assert three.place("alpha").store.keys("rosters") == []

    def test_one_without_a_peer_the_site_insists_on_is_refused(self) -> None:
        walked = walk("trained", "none")
        three = walked.three
        set_policy(
            "small", "alpha", charter=three.charter.digest, protections=("none",), peers=("beta", "gamma")
        )
        roster = three.roster(walked.commitments | {"gamma": ""}, {"gamma": "timeout"})
        with pytest.raises(RefusedError, match="insists on gamma, which does not take part") as caught:
            seal(three, roster)
        assert caught.value.disclosed
        assert nothing_is_sealed(three)
        assert seal(three, roster, "beta").reference

    def test_one_that_the_coordinator_did_not_sign_is_refused(self) -> None:
        three = walk("called", "none").three
        three.exchange.create("rosters/forged.json", three.attempt().roster().signed(three.place("beta").key))
        with pytest.raises(SignatureError):
            seal(three, f"{three.exchange_uri}/rosters/forged.json")
        assert nothing_is_sealed(three)

    @pytest.mark.parametrize("field", ["ticket", "charter"])
    def test_one_of_another_ticket_or_charter_is_refused(self, field: str) -> None:
        three = walk("called", "none").three
        with pytest.raises(SignatureError, match="another ticket"):
            seal(three, changed(three, **{field: "0" * 64}))
        assert nothing_is_sealed(three)

    def test_one_that_lies_elsewhere_is_refused(self) -> None:
        three = walk("called", "none").three
        with pytest.raises(RefusedError, match="does not lie in store"):
            seal(three, f"{three.state_uri}/roster.json")

    def test_one_that_names_a_stranger_is_refused(self) -> None:
        three = walk("called", "none").three
        commitments = dict(three.attempt().roster().commitments) | {"mallory": "0" * 64}
        with pytest.raises(SignatureError, match="names mallory"):
            seal(three, changed(three, commitments=commitments))


def three_other_ephemeral(three: ThreeSites) -> str:
    return read_commitment(
        three.exchange.read(commitment_key(three.opened.ticket, "gamma")),
        three.opened.ticket,
        "gamma",
        three.charter,
    ).ephemeral


class TestTheCommitment:
    @protections
    def test_an_update_changed_after_it_is_refused(self, protection: str) -> None:
        walked = walk("called", protection)
        three, ticket = walked.three, walked.three.opened.ticket
        store = three.place("alpha").store
        committed = read_update(store, ticket)
        for position in (0, 13, -1):
            vector = committed.copy()
            vector[position] += 1 if protection == "sealed" else 1e-9
            store.remove(update_key(ticket))
            keep_update(store, ticket, vector)
            with pytest.raises(RefusedError, match="does not hold this site's commitment") as caught:
                seal(three, walked.roster)
            assert caught.value.disclosed
            assert nothing_is_sealed(three)
            assert store.keys("sealed") == []

    def test_an_update_of_the_round_before_is_refused(self) -> None:
        three = walk("committed", "none").three.next_round()
        roster = three.roster(three.train())
        store = three.place("alpha").store
        [before] = [key for key in store.keys("updates") if key != update_key(three.opened.ticket)]
        content = store.read(before)
        store.remove(update_key(three.opened.ticket))
        store.create(update_key(three.opened.ticket), content)
        with pytest.raises(RefusedError, match="does not hold this site's commitment"):
            seal(three, roster)
        assert nothing_is_sealed(three)

    @protections
    def test_other_secrets_than_it_was_made_with_are_refused(self, protection: str) -> None:
        """Those of another attempt, in the place of this one's: they are bound to their ticket."""
        walked = walk("called", protection)
        three = walked.three
        secrets = three.store_folder("alpha") / f"secrets/{three.opened.ticket.digest}.bin"
        content = bytearray(secrets.read_bytes())
        content[20] ^= 1
        secrets.write_bytes(content)
        with pytest.raises(Exception, match="secrets of this attempt were altered"):
            seal(three, walked.roster)
        assert nothing_is_sealed(three)

    @pytest.mark.parametrize("lost", ["updates", "secrets"])
    def test_a_site_that_lost_what_it_committed_to_seals_nothing(self, lost: str) -> None:
        walked = walk("called", "sealed")
        shutil.rmtree(walked.three.store_folder("alpha") / lost)
        with pytest.raises(ObjectMissingError, match="is not there"):
            seal(walked.three, walked.roster)
        assert nothing_is_sealed(walked.three)


class TestWhatTheSiteAsksFor:
    def test_a_ticket_that_it_has_not_accepted_is_not_sealed_for(self) -> None:
        walked = walk("called", "none")
        shutil.rmtree(walked.three.store_folder("alpha") / "tickets")
        with pytest.raises(RefusedError, match="has not accepted the ticket of round 1"):
            seal(walked.three, walked.roster)
        assert nothing_is_sealed(walked.three)

    @pytest.mark.parametrize("exchanged", ["removed", "another key"])
    def test_a_context_that_is_not_the_certified_one_is_not_sealed_under(self, exchanged: str) -> None:
        walked = walk("called", "sealed")
        three = walked.three
        certified = three.attempt().certificate()
        assert certified
        path = three.keys_folder / context_key("sealed", certified.certificate.context)
        path.unlink()
        if exchanged == "another key":
            other = certify_key(three.charter, keys_uri=three.keys_uri, first_round=50)
            assert other
            path.write_bytes((three.keys_folder / context_key("sealed", other.context)).read_bytes())
        with pytest.raises(RefusedError, match="the public context for protection sealed is not"):
            seal(three, walked.roster)
        assert nothing_is_sealed(three)

    def test_a_secret_context_in_the_public_ones_place_seals_nothing(self) -> None:
        """Even if the key holder had certified it: who could read the update must not seal it."""
        walked = walk("called", "sealed")
        three = walked.three
        [public] = (three.keys_folder / "contexts").iterdir()
        [secret] = (three.keys_folder / "key-holder").glob("*.secret")
        public.write_bytes(secret.read_bytes())
        with pytest.raises(RefusedError, match="is not the certified one"):
            seal(three, walked.roster)
        assert nothing_is_sealed(three)

    def test_an_update_beyond_the_range_of_he_does_not_leave_the_site(self) -> None:
        three = ThreeSites.start(protection="he")
        place = three.accepted("alpha")
        keep_update(place.store, place.ticket, np.full(29, 1e7))
        commitments = {"alpha": train(place, features="", device="cpu").reference}
        roster = three.roster(commitments | three.train(("beta", "gamma")))
        with pytest.raises(BadDataError, match="is not finite or beyond") as caught:
            seal(three, roster)
        assert "1e+07" not in str(caught.value)
        assert nothing_is_sealed(three)
        assert place.store.keys("sealed") == []

    def test_integers_beyond_the_range_of_sealed_do_not_leave_the_site(self) -> None:
        three = ThreeSites.start(protection="sealed")
        place = three.accepted("alpha")
        keep_update(place.store, place.ticket, np.full(30, 1398102, np.int32))  # (2^22 - 1) // 3 and one
        commitments = {"alpha": train(place, features="", device="cpu").reference}
        roster = three.roster(commitments | three.train(("beta", "gamma")))
        with pytest.raises(BadDataError, match="is beyond 1398101") as caught:
            seal(three, roster)
        assert caught.value.disclosed == "the update is outside the range of sealed"
        assert nothing_is_sealed(three)
        assert place.store.keys("sealed") == []


def test_a_walked_roster_is_the_coordinators() -> None:
    """What the tests above change is the real thing to begin with."""
    walked: Walked = walk("called", "sealed")
    three = walked.three
    document = three.exchange.read(key_of(three.exchange, walked.roster))
    key = load_signing_key(three.keys_uri, "coordinator")
    roster: Roster = three.attempt().roster()
    assert document == roster.signed(key)
