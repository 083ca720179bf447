"""The keys of an attempt come from charter, commitments and the site's own secrets, and from nothing else."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from components.agreement.commitment import Commitment
from components.agreement.private_keys import load_agreement_key
from components.agreement.roster import Roster, read_commitments
from components.agreement.round_secrets import read_secrets
from components.encryption.masking.attempt_masks import (
    SHARING,
    attempt_names,
    private_half,
    private_sharing_half,
    public_halves,
    sharing_halves,
    unusable_keys,
)
from components.encryption.masking.pair_keys import pad_key, shared_secret, site_masks
from components.errors import SignatureError, UsageError
from tests.components.aggregation.three_sites import AGREEMENT_KEY, SITES, ThreeSites
from tests.components.rounds.walks import walk


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return walk("called", "sealed").three


def commitments(three: ThreeSites) -> dict[str, Commitment]:
    attempt = three.attempt()
    return read_commitments(three.exchange, attempt.ticket, attempt.roster(), attempt.charter)


def test_keys_are_for_this_charter_ticket_purpose_and_roster(three: ThreeSites) -> None:
    ticket, roster = three.opened.ticket, three.attempt().roster()
    names = attempt_names(ticket, roster)
    assert (names.charter, names.ticket) == (three.charter.digest, ticket.digest)
    assert (names.purpose, names.roster) == ("update", roster.digest)


def test_left_out_sites_and_their_reasons_change_no_key(three: ThreeSites) -> None:
    """They are for people; what binds is who takes part, with which commitment."""
    ticket, roster = three.opened.ticket, three.attempt().roster()
    names = attempt_names(ticket, roster)
    assert names == attempt_names(ticket, replace(roster, left_out={"delta": "oom"}))
    fewer = {site: roster.commitments[site] for site in SITES[:2]}
    other = dict.fromkeys(SITES, "0" * 64)
    for changed in (fewer, other):
        called = Roster(charter=roster.charter, ticket=roster.ticket, commitments=changed, left_out={})
        assert attempt_names(ticket, called) != names


def test_public_keys_are_the_charters_and_the_commitments(three: ThreeSites) -> None:
    halves = public_halves(three.charter, commitments(three))
    assert [half.name for half in halves] == list(SITES)
    for half in halves:
        static = load_agreement_key(three.keys_uri, half.name).public_key().public_bytes_raw()
        assert half.static == static == base64.b64decode(three.charter.sites[half.name].agreement)
        assert half.ephemeral == base64.b64decode(commitments(three)[half.name].ephemeral)


def test_what_a_site_holds_belongs_to_what_the_others_see(three: ThreeSites) -> None:
    halves = {half.name: half for half in public_halves(three.charter, commitments(three))}
    private, seeds = {}, {}
    for site in SITES:
        place = three.place(site)
        secrets = read_secrets(place.store, place.key, place.ticket.digest)
        private[site], seeds[site] = private_half(place, secrets), secrets.seed
        assert private[site].public() == halves[site]
    names = attempt_names(three.opened.ticket, three.attempt().roster())
    masks = {site: site_masks(names, private[site], list(halves.values()), seeds[site]) for site in SITES}
    for one, other in combinations(SITES, 2):
        z = shared_secret(private[one], halves[other])
        assert z == shared_secret(private[other], halves[one])
        pad = pad_key(z, names, halves[one], halves[other])
        assert pad in masks[one].added
        assert pad in masks[other].subtracted
    assert len({key for each in masks.values() for key in each.added}) == 3 + 3


@pytest.mark.parametrize("ephemeral", ["", "AAAA", base64.b64encode(bytes(31)).decode(), "?" * 44])
def test_a_commitment_without_an_ephemeral_key_is_refused(three: ThreeSites, ephemeral: str) -> None:
    found = commitments(three)
    found["beta"] = replace(found["beta"], ephemeral=ephemeral)
    with pytest.raises(SignatureError, match="32 bytes"):
        public_halves(three.charter, found)


def test_two_sites_with_one_ephemeral_key_are_refused(three: ThreeSites) -> None:
    found = commitments(three)
    found["beta"] = replace(found["beta"], ephemeral=found["gamma"].ephemeral)
    with pytest.raises(SignatureError, match=r"two sites .* same ephemeral key"):
        public_halves(three.charter, found)


class TestUnusableKeys:
    def test_are_none_of_honest_sites(self, three: ThreeSites) -> None:
        assert unusable_keys(commitments(three)) == {}

    @pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(32), (1).to_bytes(32, "little")])
    def test_are_no_keys_and_those_of_low_order(self, three: ThreeSites, key: bytes) -> None:
        found = commitments(three)
        found["beta"] = replace(found["beta"], ephemeral=base64.b64encode(key).decode())
        assert unusable_keys(found) == {"beta": "refused: its ephemeral key is unusable"}

    def test_are_those_of_two_sites_however_they_are_spelled(self, three: ThreeSites) -> None:
        found = commitments(three)
        text = found["gamma"].ephemeral
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        # 32 bytes leave the last letter two bits that say nothing.
        other = f"{text[:42]}{letters[letters.index(text[42]) + 3]}="
        for spelled in (text, other):
            found["beta"] = replace(found["beta"], ephemeral=spelled)
            reason = "refused: two sites have committed with the same ephemeral key"
            assert unusable_keys(found) == {"beta": reason, "gamma": reason}
            with pytest.raises(SignatureError, match=r"two sites .* same ephemeral key"):
                public_halves(three.charter, found)


def test_a_site_without_its_agreement_key_is_told_where_it_belongs(three: ThreeSites) -> None:
    place = three.place("alpha")
    secrets = read_secrets(place.store, place.key, place.ticket.digest)
    (three.keys_folder / "alpha" / AGREEMENT_KEY).unlink()
    with pytest.raises(UsageError, match=r"no private key at .*alpha/agreement\.key"):
        private_half(place, secrets)


class TestSharingKeys:
    """Under `smc` a second key of the attempt, to which the same rules apply."""

    @pytest.fixture
    def smc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
        monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "smc"))
        made = ThreeSites.start(protection="smc")
        made.roster(made.train())
        return made

    def test_stand_in_the_place_of_ephemeral_ones(self, smc: ThreeSites) -> None:
        halves = sharing_halves(smc.charter, commitments(smc))
        for half, other in zip(halves, public_halves(smc.charter, commitments(smc)), strict=True):
            assert (half.name, half.static) == (other.name, other.static)
            assert half.ephemeral == base64.b64decode(commitments(smc)[half.name].sharing) != other.ephemeral
            place = smc.place(half.name)
            drawn = read_secrets(place.store, place.key, place.ticket.digest)
            assert private_sharing_half(place, drawn).public() == half
            assert private_half(place, drawn).public() == other

    def test_are_usable_of_honest_sites_and_unusable_where_there_are_none(self, smc: ThreeSites) -> None:
        found = commitments(smc)
        assert unusable_keys(found, SHARING) == {}
        found["beta"] = replace(found["beta"], sharing="")
        assert unusable_keys(found, SHARING) == {"beta": "refused: its sharing key is unusable"}
        assert unusable_keys(found) == {}
        with pytest.raises(SignatureError, match="32 bytes"):
            sharing_halves(smc.charter, found)

    def test_are_unusable_of_low_order_and_twice(self, smc: ThreeSites) -> None:
        found = commitments(smc)
        found["alpha"] = replace(found["alpha"], sharing=base64.b64encode(bytes(32)).decode())
        found["beta"] = replace(found["beta"], sharing=found["gamma"].sharing)
        twice = "refused: two sites have committed with the same sharing key"
        assert unusable_keys(found, SHARING) == {
            "alpha": "refused: its sharing key is unusable",
            "beta": twice,
            "gamma": twice,
        }
        with pytest.raises(SignatureError, match=r"two sites .* same sharing key"):
            sharing_halves(smc.charter, found)
