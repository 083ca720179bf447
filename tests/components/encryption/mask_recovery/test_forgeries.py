"""What single parties write that is not what it should be: who is named, and what goes on without them."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from components.agreement.dealt_shares import SEALED_SHARE_BYTES, shares_key
from components.agreement.sharers import Sharers, sharers_key
from components.agreement.site_update import read_update
from components.agreement.unmasking import unmasking_key
from components.artifacts.documents import digest
from components.encryption.mask_recovery.unmasking import revealed_keys
from components.encryption.masking.attempt_masks import attempt_names
from components.encryption.masking.pair_keys import self_key
from components.encryption.masking.share_keys import SCALAR, SELF, sealed_shares
from components.errors import CiphertextError, IntegrityError, QuorumNotReachedError, RefusedError
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.encryption.mask_recovery.recoveries import (
    FIVE,
    body,
    commit,
    deal_again,
    drawn,
    publish_unmasking,
    recovered,
    secrets_of,
    sharers,
    unmask_with,
    without,
)
from tests.components.encryption.refusals.walk import nothing_is_open
from tests.components.rounds.walks import Walked, walk

GARBAGE = base64.b64encode(bytes(SEALED_SHARE_BYTES)).decode()


def shared() -> Walked:
    return walk("shared", "smc", sites=FIVE, colluding=0)


def summed(walked: Walked, members: tuple[str, ...] = FIVE) -> str:
    return walked.three.aggregate(walked.three.seal(walked.roster, members)).reference


def shares_of(three: ThreeSites, site: str, kind: Any, secret: bytes) -> dict[str, str]:
    """What a site deals of another secret than its own."""
    names = attempt_names(three.opened.ticket, three.attempt().roster())
    return sealed_shares(secret, kind, names, site, threshold=3, secrets=secrets_of(three, site))


class TestADealer:
    @pytest.mark.parametrize("kind", [SELF, SCALAR])
    def test_that_deals_another_key_than_it_is_bound_to_is_named(self, kind: Any) -> None:
        walked = shared()
        three = walked.three
        name = "selves" if kind == SELF else "scalars"
        deal_again(three, "gamma", **{name: shares_of(three, "gamma", kind, bytes(range(32)))})
        total = summed(walked, FIVE if kind == SELF else FIVE[:4])
        three.unmask()
        with pytest.raises(CiphertextError, match="the shares that gamma dealt are not of the key") as caught:
            three.open_sum(total)
        assert "leave gamma out and run again" in str(caught.value)
        assert nothing_is_open(three)
        # It costs the attempt, not the federation: the next round starts from the same model.
        assert three.next_attempt().opened.ticket.round_number == 2

    def test_whose_other_shares_are_not_needed_is_not_asked(self) -> None:
        walked = shared()
        three = walked.three
        deal_again(three, "gamma", scalars=dict.fromkeys(FIVE, GARBAGE))
        total = summed(walked)
        three.unmask()
        commit(three, total, FIVE)

    def test_that_deals_what_nobody_can_open_is_named(self) -> None:
        walked = shared()
        three = walked.three
        deal_again(three, "gamma", selves=dict.fromkeys(FIVE, GARBAGE))
        total = summed(walked)
        three.unmask()
        with pytest.raises(CiphertextError, match="0 of the shares that gamma dealt can be opened, 3 are"):
            three.open_sum(total)

    def test_that_deals_wrongly_to_some_is_told_and_costs_nothing(self) -> None:
        walked = shared()
        three = walked.three
        honest = body(three, shares_key(three.opened.ticket, "gamma"))["selves"]
        deal_again(three, "gamma", selves=honest | {"alpha": GARBAGE, "beta": honest["delta"]})
        total = summed(walked)
        three.unmask()
        assert recovered(three).remarks == (
            "what alpha gave does not open its share of what gamma dealt",
            "what beta gave does not open its share of what gamma dealt",
        )
        commit(three, total, FIVE)

    @pytest.mark.parametrize(
        "change", [{"selves": {}}, {"self_digest": "x"}, {"roster": "00" * 32}, {"ticket": "00" * 32}]
    )
    def test_whose_document_is_of_another_form_or_occasion_is_no_sharer(self, change: dict[str, Any]) -> None:
        walked = shared()
        three = walked.three
        deal_again(three, "gamma", **change)
        total = summed(walked, FIVE[:4])
        assert sharers(three).sites == FIVE[:4]
        assert sharers(three).left_out["gamma"].startswith("refused: the shares of gamma")
        with pytest.raises(RefusedError, match="do not hold the shares this site has dealt"):
            three.seal(walked.roster, ["gamma"])
        three.unmask()
        commit(three, total, FIVE[:4])

    def test_in_whose_place_anothers_or_an_old_document_lies_is_no_sharer(self) -> None:
        first = walk("shared", "smc", sites=FIVE, colluding=0)
        old = first.three.exchange.read(shares_key(first.three.opened.ticket, "gamma"))
        first.three.exchange.create(f"{first.three.opened.ticket.folder}/shortfall.json", b"{}")
        three = first.three.next_attempt()
        assert three.opened.ticket.attempt == 2
        roster = three.roster(three.train())
        three.share(roster)
        ticket = three.opened.ticket
        folder = three.exchange_folder / f"{ticket.folder}/shares"
        (folder / "gamma.json").write_bytes(old)
        (folder / "epsilon.json").write_bytes((folder / "delta.json").read_bytes())
        total = three.aggregate(three.seal(roster, FIVE[:3])).reference
        assert sharers(three).left_out == {
            "epsilon": "refused: a document that should be epsilon's names another signer",
            "gamma": "refused: the shares of gamma were dealt for another ticket",
        }
        three.unmask()
        commit(three, total, FIVE[:3])

    def test_that_shows_another_dealing_later_changes_nothing(self) -> None:
        """What the sharers were fixed with is the dealing: another document in its place is refused."""
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        deal_again(three, "gamma", selves=shares_of(three, "gamma", SELF, bytes(range(32))))
        with pytest.raises(IntegrityError, match="shares of gamma are not those that the sharers were fixed"):
            three.open_sum(total)


class TestAMember:
    def wrong_keys(self, three: ThreeSites, site: str, dealer: str) -> dict[str, bytes]:
        attempt = three.attempt()
        roster = attempt.roster()
        names, fixed = attempt_names(attempt.ticket, roster), sharers(three)
        given = revealed_keys(names, attempt.cutoff(roster), site, secrets_of(three, site), fixed)
        return given | {dealer: bytes(32)}

    def test_that_reveals_a_wrong_key_is_told_and_costs_nothing(self) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        unmask_with(three, "beta", self.wrong_keys(three, "beta", "gamma"))
        found = recovered(three)
        assert found.remarks == ("what beta gave does not open its share of what gamma dealt",)
        assert found.unmasked == FIVE
        commit(three, total, FIVE)

    def test_that_reveals_a_wrong_key_where_all_are_needed_is_named(self) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask(FIVE[:3])
        unmask_with(three, "beta", self.wrong_keys(three, "beta", "gamma"))
        text = "2 of the shares that gamma dealt can be opened, 3 are needed: .* what beta gave does not open"
        with pytest.raises(CiphertextError, match=text):
            three.open_sum(total)

    @pytest.mark.parametrize(
        "change",
        [
            {"locked": GARBAGE},
            {"own_share": GARBAGE},
            {"tokens": {}},
            {"lock_shares": dict.fromkeys(FIVE, GARBAGE)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_that_locks_wrongly_holds_up_nobody(self, change: dict[str, Any]) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        publish_unmasking(three, "beta", **change)
        found = recovered(three)
        if "tokens" in change:  # It keeps back what opens the others' locks, and theirs opens all the same.
            assert found.remarks == ()
        else:
            assert found.remarks == ("beta has not unmasked: refused: its lock does not open",)
            assert found.unmasked == tuple(without(FIVE, ["beta"]))
        commit(three, total, FIVE)

    def test_that_signs_for_another_set_is_left_out(self) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        publish_unmasking(three, "beta", cutoff="00" * 32)
        publish_unmasking(three, "delta", sharers="00" * 32)
        assert recovered(three).remarks == (
            "beta has not unmasked: refused: the unmasking of beta was made for another cutoff",
            "delta has not unmasked: refused: the unmasking of delta was made for another sharers",
        )
        commit(three, total, FIVE)

    def test_in_whose_place_anothers_lies_is_left_out(self) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        folder = three.exchange_folder / f"{three.opened.ticket.folder}/unmasked"
        (folder / "beta.json").write_bytes((folder / "alpha.json").read_bytes())
        assert recovered(three).unmasked == tuple(without(FIVE, ["beta"]))
        commit(three, total, FIVE)

    def test_three_that_lie_are_too_many(self) -> None:
        walked = shared()
        three = walked.three
        total = summed(walked)
        three.unmask()
        for site in FIVE[:3]:
            publish_unmasking(three, site, locked=GARBAGE)
        with pytest.raises(QuorumNotReachedError, match=r"2 of 5 sites .* alpha has not unmasked: refused"):
            three.open_sum(total)


class TestTheSharers:
    def put(self, three: ThreeSites, **changes: Any) -> None:
        roster = three.attempt().roster()
        documents = {site: three.exchange.read(shares_key(three.opened.ticket, site)) for site in FIVE}
        fixed = Sharers(
            roster=roster.digest,
            shares={site: digest(document) for site, document in documents.items()},
            left_out={},
        )
        path = three.exchange_folder / sharers_key(three.opened.ticket)
        path.write_bytes(replace(fixed, **changes).to_json())

    @pytest.mark.parametrize(
        ("sites", "rule"),
        [
            (FIVE[:2], "2 sites have dealt their shares for round 1, the charter asks for 3"),
            (FIVE[1:], "do not hold the shares this site has dealt"),
        ],
    )
    def test_too_few_or_without_this_site_are_refused(self, sites: tuple[str, ...], rule: str) -> None:
        walked = shared()
        self.put(walked.three)
        named = dict(sharers(walked.three).shares)
        self.put(walked.three, shares={site: named[site] for site in sites})
        with pytest.raises(RefusedError, match=rule) as caught:
            walked.three.seal(walked.roster, ["alpha"])
        assert caught.value.disclosed
        assert walked.three.place("alpha").store.keys("sharers") == []
        assert walked.three.place("alpha").store.keys("sealed") == []

    def test_with_other_shares_than_this_site_has_dealt_are_refused(self) -> None:
        walked = shared()
        self.put(walked.three)
        named = dict(sharers(walked.three).shares)
        self.put(walked.three, shares=named | {"alpha": named["beta"]})
        with pytest.raises(RefusedError, match="do not hold the shares this site has dealt"):
            walked.three.seal(walked.roster, ["alpha"])

    def test_with_shares_that_are_not_there_are_refused(self) -> None:
        walked = shared()
        self.put(walked.three)
        (walked.three.exchange_folder / shares_key(walked.three.opened.ticket, "gamma")).unlink()
        with pytest.raises(IntegrityError, match="gamma is one of the sharers, but its shares are not there"):
            walked.three.seal(walked.roster, ["alpha"])

    def test_without_a_peer_the_site_insists_on_are_refused(self) -> None:
        walked = shared()
        three = walked.three
        (three.exchange_folder / shares_key(three.opened.ticket, "gamma")).unlink()
        set_policy("small", "alpha", charter=three.charter.digest, protections=("smc",), peers=("gamma",))
        with pytest.raises(RefusedError, match="insists on gamma, which does not take part"):
            three.seal(walked.roster, ["alpha"])
        assert three.seal(walked.roster, ["beta"])

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"roster": 1}'])
    def test_of_no_form_are_refused(self, content: bytes) -> None:
        walked = shared()
        (walked.three.exchange_folder / sharers_key(walked.three.opened.ticket)).write_bytes(content)
        with pytest.raises(IntegrityError, match="are not in the form this version knows"):
            walked.three.seal(walked.roster, ["alpha"])

    def test_a_sealed_update_of_another_site_is_not_added(self) -> None:
        """Its pads with the others cannot be put together: it has dealt nothing."""
        walked = shared()
        three = walked.three
        sealed = three.seal(walked.roster)
        named = dict(sharers(three).shares)
        del named["gamma"]
        self.put(three, shares=named)
        assert three.aggregate(sealed).manifest["sites"] == list(FIVE[:4])
        fixed = three.attempt().cutoff(three.attempt().roster())
        assert fixed.left_out == {"gamma": "refused: it sealed without having dealt its shares"}


def spelled(secret: bytes) -> list[bytes]:
    return [secret, secret.hex().encode(), base64.b64encode(secret), base64.b64encode(secret).rstrip(b"=")]


def test_the_exchange_holds_nothing_secret_in_clear() -> None:
    """All files of an attempt with two lost sites; what a quorum reveals lies there under locks."""
    walked = walk("called", "smc", sites=FIVE, colluding=0)
    three = walked.three
    three.share(walked.roster, FIVE[:4])
    total = three.aggregate(three.seal(walked.roster, FIVE[:3])).reference
    secrets = {site: drawn(three, site) for site in FIVE}
    pair_secrets = {site: secrets_of(three, site) for site in FIVE}
    three.unmask()
    names = attempt_names(three.opened.ticket, three.attempt().roster())
    wanted = []
    for site, each in secrets.items():
        wanted += [each.salt, each.seed, each.ephemeral.private_bytes_raw(), each.sharing.private_bytes_raw()]
        wanted += [self_key(each.seed, names, site), *pair_secrets[site].values()]
        vector = read_update(three.place(site).store, three.opened.ticket)
        wanted += [vector[start : start + 2].tobytes() for start in range(0, vector.size - 1, 2)]
    files = {path: path.read_bytes() for path in three.exchange_folder.rglob("*") if path.is_file()}
    found = [
        (path.name, secret.hex())
        for (path, content), secret in itertools.product(files.items(), wanted)
        if len(set(secret)) > 2 and any(form in content for form in spelled(secret))
    ]
    assert found == []
    public = secrets["alpha"].sharing.public_key().public_bytes_raw()
    assert any(base64.b64encode(public) in content for content in files.values()), "the search does find"
    assert json.loads(files[three.exchange_folder / unmasking_key(three.opened.ticket, "alpha")])
    commit(three, total, FIVE[:3])
