"""What a site deals, that it deals once, and what it refuses to deal for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.dealt_shares import DealtShares, shares_key, verified_shares
from components.agreement.roster import Roster
from components.encryption.key_sharing.sharing import share_keys
from components.encryption.masking import shamir
from components.encryption.masking.attempt_masks import attempt_names
from components.encryption.masking.pair_keys import self_key
from components.encryption.masking.share_keys import SCALAR, SELF, Kind, opened_share, points_of, share_key
from components.errors import QuorumNotReachedError, RefusedError, SignatureError
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.encryption.mask_recovery.recoveries import drawn, secrets_of
from tests.components.rounds.walks import FOUR, Walked, walk


def called() -> Walked:
    return walk("called", "smc", sites=FOUR)


def dealt(three: ThreeSites, site: str = "alpha") -> DealtShares:
    ticket = three.opened.ticket
    document = three.exchange.read(shares_key(ticket, site))
    return verified_shares(document, ticket, three.attempt().roster(), site, three.charter)


def combined(three: ThreeSites, kind: Kind, receivers: tuple[str, ...]) -> bytes:
    """What these receivers of alpha's shares know together, each by its own keys."""
    names, points = attempt_names(three.opened.ticket, three.attempt().roster()), points_of(FOUR)
    shares = {}
    for site in receivers:
        key = share_key(secrets_of(three, site)["alpha"], kind, names, dealer="alpha", receiver=site)
        shares[points[site]] = opened_share(key, kind, names, dealt(three), site)
    return shamir.combine(shares)


@pytest.mark.parametrize("receivers", [("alpha", "beta", "delta"), ("beta", "delta", "gamma"), FOUR])
def test_a_quorum_of_receivers_knows_both_secrets(receivers: tuple[str, ...]) -> None:
    walked = called()
    three = walked.three
    share_keys(three.place("alpha"), roster=walked.roster)
    secrets = drawn(three, "alpha")
    names = attempt_names(three.opened.ticket, three.attempt().roster())
    assert combined(three, SELF, receivers) == self_key(secrets.seed, names, "alpha")
    assert combined(three, SCALAR, receivers) == secrets.ephemeral.private_bytes_raw()


def test_the_threshold_is_the_charters_quorum() -> None:
    walked = called()
    share_keys(walked.three.place("alpha"), roster=walked.roster)
    assert walked.three.charter.min_sum_sites == 3
    secrets = drawn(walked.three, "alpha").ephemeral.private_bytes_raw()
    assert combined(walked.three, SCALAR, ("beta", "gamma")) != secrets


def test_only_smc_commits_with_a_sharing_key() -> None:
    for protection, length in (("smc", 44), ("none", 0)):
        three = ThreeSites.start(protection, protection=protection)
        three.train()
        document = three.exchange.read(commitment_key(three.opened.ticket, "alpha"))
        found = read_commitment(document, three.opened.ticket, "alpha", three.charter)
        assert len(found.sharing) == length
        assert found.sharing != found.ephemeral


class TestARetry:
    def test_sends_the_very_same_shares(self) -> None:
        walked = called()
        three = walked.three
        first = share_keys(three.place("alpha"), roster=walked.roster)
        path = three.exchange_folder / shares_key(three.opened.ticket, "alpha")
        before = path.read_bytes()
        assert share_keys(three.place("alpha"), roster=walked.roster) == first
        path.unlink()
        assert share_keys(three.place("alpha"), roster=walked.roster) == first
        assert path.read_bytes() == before
        assert first.bytes_sent == len(before)

    def test_needs_no_secret_any_more(self) -> None:
        walked = called()
        three = walked.three
        share_keys(three.place("alpha"), roster=walked.roster)
        shutil.rmtree(three.store_folder("alpha") / "secrets")
        assert share_keys(three.place("alpha"), roster=walked.roster).reference

    def test_finds_other_shares_where_its_own_belong(self) -> None:
        walked = called()
        three = walked.three
        share_keys(three.place("beta"), roster=walked.roster)
        folder = three.exchange_folder / shares_key(three.opened.ticket, "beta")
        (folder.parent / "alpha.json").write_bytes(folder.read_bytes())
        with pytest.raises(RefusedError, match="other shares lie where this site's belong") as caught:
            share_keys(three.place("alpha"), roster=walked.roster)
        assert caught.value.disclosed


class TestARoster:
    def test_is_accepted_once(self) -> None:
        """Or shares of two self keys would be out, and of one ephemeral key by two polynomials."""
        walked = called()
        three = walked.three
        share_keys(three.place("alpha"), roster=walked.roster)
        roster = three.attempt().roster()
        fewer = {site: named for site, named in roster.commitments.items() if site != "delta"}
        other = three.sign_roster(replace(roster, commitments=fewer), "second.json")
        with pytest.raises(RefusedError, match="a second roster was called for round 1"):
            share_keys(three.place("alpha"), roster=other)
        assert three.place("alpha").store.keys("shares") == [f"shares/{roster.digest}.json"]

    def test_that_was_shared_under_is_the_one_to_seal_under(self) -> None:
        walked = called()
        three = walked.three
        three.share(walked.roster)
        roster = three.attempt().roster()
        fewer = {site: named for site, named in roster.commitments.items() if site != "delta"}
        other = three.sign_roster(replace(roster, commitments=fewer), "second.json")
        with pytest.raises(RefusedError, match="a second roster was called for round 1"):
            three.seal(other, ["alpha"])

    @pytest.mark.parametrize("fault", ["small", "without this site", "without a peer"])
    def test_that_the_site_would_not_seal_under_is_refused(self, fault: str) -> None:
        walked = called()
        three = walked.three
        roster: Roster = three.attempt().roster()
        left = {"small": ("alpha", "beta"), "without this site": FOUR[1:], "without a peer": FOUR[:3]}[fault]
        if fault == "without a peer":
            set_policy("small", "alpha", charter=three.charter.digest, protections=("smc",), peers=("gamma",))
        kept = {site: roster.commitments[site] for site in left}
        reference = three.sign_roster(replace(roster, commitments=kept), "second.json")
        with pytest.raises(RefusedError, match=r"has 2 sites|this site's commitment|insists on gamma"):
            share_keys(three.place("alpha"), roster=reference)
        assert three.place("alpha").store.keys("shares") == []


@pytest.mark.parametrize("key", ["", "AAAA"])
def test_a_peer_without_a_sharing_key_is_refused(key: str) -> None:
    """The roster leaves it out; a coordinator that calls it all the same gets no shares."""
    walked = walk("trained", "smc", sites=FOUR)
    three, ticket = walked.three, walked.three.opened.ticket
    path = three.exchange_folder / commitment_key(ticket, "delta")
    made = read_commitment(path.read_bytes(), ticket, "delta", three.charter)
    path.write_bytes(replace(made, sharing=key).signed(three.place("delta").key))
    roster = three.roster(walked.commitments)
    assert "delta" in json.loads(three.exchange.read(f"{ticket.folder}/roster.json"))["body"]["left_out"]
    assert share_keys(three.place("alpha"), roster=roster).manifest["sites"] == ["alpha", "beta", "gamma"]


def test_two_sites_with_one_sharing_key_are_left_out() -> None:
    walked = walk("trained", "smc", sites=FOUR)
    three, ticket = walked.three, walked.three.opened.ticket
    paths = {site: three.exchange_folder / commitment_key(ticket, site) for site in ("beta", "delta")}
    made = {
        site: read_commitment(path.read_bytes(), ticket, site, three.charter) for site, path in paths.items()
    }
    copied = replace(made["delta"], sharing=made["beta"].sharing)
    paths["delta"].write_bytes(copied.signed(three.place("delta").key))
    with pytest.raises(QuorumNotReachedError, match="two sites have committed with the same sharing key"):
        three.roster(walked.commitments)


def test_erased_secrets_deal_nothing() -> None:
    walked = called()
    three = walked.three
    shutil.rmtree(three.store_folder("alpha") / "secrets")
    with pytest.raises(RefusedError, match="erased its secrets of attempt 1 of round 1"):
        share_keys(three.place("alpha"), roster=walked.roster)


def test_a_forged_commitment_on_the_roster_is_refused() -> None:
    walked = called()
    three = walked.three
    path = three.exchange_folder / commitment_key(three.opened.ticket, "beta")
    path.write_bytes(path.read_bytes().replace(b'"sharing":"', b'"sharing":"A', 1))
    with pytest.raises(SignatureError, match="commitment of beta is not the one on the roster"):
        share_keys(three.place("alpha"), roster=walked.roster)
