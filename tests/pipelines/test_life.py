"""A federation's life: a site joins, has its keys replaced, a round is taken back, a site leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter_book import charter_in_force, read_edition
from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import receipt_key
from components.agreement.released import DOMAIN as RELEASE
from components.agreement.released import release_key
from components.agreement.roster import read_roster
from components.agreement.sealed_manifest import DOMAIN as SEALED_UPDATE
from components.agreement.sealed_manifest import manifest_key, read_manifest
from components.agreement.void import read_void
from components.artifacts.documents import digest, sign
from components.artifacts.stores import open_store
from components.errors import QuorumNotReachedError, RefusedError, SignatureError
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import FinishedRuns, copied
from tests.pipelines.life import (
    EXCHANGE,
    KEYS,
    STATE,
    agree,
    ask,
    at_work,
    committed_records,
    live,
    private,
    problems,
    ticket_of,
)
from tests.pipelines.round_in_process import RoundInProcess

At = Callable[[str], SmallFederation]
FOUR = ("alpha", "beta", "delta", "gamma")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def at(
    small_federation: Callable[..., SmallFederation],
    finished_runs: FinishedRuns,
    say: Say,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> At:
    """A copy of the federation as it was after an event; CROSSCLOUD_HOME is its home."""
    lives = finished_runs.in_process

    def keep(event: str, made: SmallFederation) -> None:
        lives[f"life: {event}"] = copied(made, finished_runs.folder / f"life-{event.replace(': ', '-')}")

    def there(event: str) -> SmallFederation:
        if "life: left" not in lives:
            live(small_federation([40, 50, 60]), say, keep)
        made = copied(lives[f"life: {event}"], tmp_path / event.replace(": ", "-"))
        monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
        return made

    return there


class TestWholeLife:
    def test_verify_accepts_the_chain_across_all_events(self, at: At, say: Say) -> None:
        made = at("left")
        cd = charter_in_force(KEYS).digest
        (line,) = say("verify", STATE, "--charter", cd).lines
        assert line.startswith("in order: 5 rounds committed, 0 void, newest model ")
        assert [record.round_number for record in committed_records()] == [1, 2, 3, 4, 5]
        assert (made.home / KEYS / "charters/00005/charter.json").is_file()

    def test_it_is_in_order_after_every_single_event(self, at: At) -> None:
        at("taken back")
        assert problems() == ()
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_models_follow_each_other_but_for_the_round_that_was_taken_back(self, at: At) -> None:
        at("left")
        first, second, third, fourth, fifth = committed_records()
        parents = [each.parent for each in (second, third, fourth, fifth)]
        assert parents == [first.model, second.model, second.model, fourth.model]
        assert third.model not in {fourth.parent, fourth.model}
        assert [each.members for each in (first, second, third, fourth, fifth)] == [
            ("alpha", "beta", "gamma"), FOUR, FOUR, FOUR, ("alpha", "beta", "delta"),
        ]  # fmt: skip

    def test_receipts_go_on_through_the_round_that_was_taken_back(self, at: At) -> None:
        at("left")
        exchange = open_store(EXCHANGE)
        fourth = ticket_of(4)
        assert fourth.previous_folder == "rounds/00003-2"
        assert fourth.previous == digest(exchange.read(receipt_key("rounds/00003-2")))

    def test_status_tells_which_round_does_not_stand(self, at: At, say: Say) -> None:
        made = at("left")
        rows = [line.split() for line in say("status", made.path).lines]
        marked = {row[0] for row in rows if row[-2:] == ["taken", "back"]}
        assert marked == {"3"}


class TestJoining:
    def test_the_newcomer_takes_part_from_the_next_round_on_and_in_nothing_before(self, at: At) -> None:
        made = at("joined")
        with pytest.raises(RefusedError, match=r"names a foreign charter, .*: delta has pinned "):
            at_work("delta", f"{EXCHANGE}/rounds/00001-1/ticket.json")
        tickets = made.home / "small/sites/delta/store/tickets"
        assert [path.name for path in tickets.iterdir()] == ["000000002-000001.json"]

    def test_what_would_open_an_update_of_before_is_gone_everywhere(self, at: At) -> None:
        """Whoever joins, with whatever keys, can lift no mask of an earlier round."""
        made = at("joined")
        for site in ("alpha", "beta", "gamma"):
            assert open_store(EXCHANGE).exists(f"rounds/00001-1/sealed/{site}.bin")
            drawn = made.home / f"small/sites/{site}/store/secrets"
            assert drawn.is_dir()
            assert list(drawn.iterdir()) == []

    def test_a_store_of_an_earlier_life_is_told(self, at: At) -> None:
        made = at("agreed: joined")
        of_gamma = made.home / "small/sites/gamma/store/tickets/000000001-000001.json"
        record = json.loads(of_gamma.read_bytes())
        folder = made.home / "small/sites/delta/store/tickets"
        folder.mkdir(parents=True)
        old = {"round_number": 9, "federation": "elsewhere", "ticket": "ab" * 32}
        (folder / "000000009-000001.json").write_text(json.dumps(record | old))
        begun = RoundInProcess(made)
        with pytest.raises(RefusedError, match="remembers rounds of elsewhere: give small a store_uri of"):
            begun.learn(["delta"])

    def test_a_quorum_that_no_longer_fits_is_told_with_the_number_that_does(self, at: At, say: Say) -> None:
        made = at("joined")
        for count, name in enumerate(("epsilon", "zeta")):
            made.document["sites"].append(made.site("delta") | {"name": name, "store_uri": f"small/{count}"})
        made.save()
        said = say("charter", "new", made.path)
        (line,) = said.complaints
        assert said.code == 2
        assert "sealed needs at least 4 of 6 sites on a roster when 1 may collude, got 3" in line


class TestReplacedKeys:
    def test_old_keys_are_set_aside_and_old_cards_stay(self, at: At) -> None:
        before, made = at("joined"), at("replaced")
        for name in ("signing", "agreement"):
            old, new = (private(made, "beta", f"{name}{part}.key") for part in (".replaced-1", ""))
            assert (old.stat().st_mode & 0o777, new.stat().st_mode & 0o777) == (0o600, 0o600)
            assert old.read_bytes() == private(before, "beta", f"{name}.key").read_bytes()
            assert old.read_bytes() != new.read_bytes()
        first, second = (made.home / KEYS / f"cards/beta{part}.json" for part in ("", ".2"))
        assert first.read_bytes() == (before.home / KEYS / "cards/beta.json").read_bytes()
        offered = json.loads(second.read_bytes())["body"]
        assert offered["signing"] == charter_in_force(KEYS).sites["beta"].signing

    def test_an_open_attempt_ends_with_the_edition_and_the_next_one_goes_on(self, at: At) -> None:
        at("replaced")
        ended, taken = ticket_of(3, 1), ticket_of(3, 2)
        void = open_store(EXCHANGE).read("rounds/00003-1/void.json")
        assert read_void(void, charter_in_force(KEYS)) == (ended.digest, 3, "the charter was changed")
        assert (taken.attempt, taken.void) == (2, digest(void))
        assert committed_records()[-1].attempt == 2

    def test_until_the_edition_is_in_force_rounds_go_on_under_the_old_keys(self, at: At) -> None:
        made = at("interrupted")
        round_ = RoundInProcess(made)
        round_.finish()
        assert round_.opened.charter == read_edition(open_store(KEYS), 2).digest
        assert set(committed_records()[-1].members) == set(FOUR)
        assert problems() == ()

    def test_secrets_under_the_old_key_end_with_their_attempt(self, at: At) -> None:
        made = at("agreed: replaced")
        secrets = made.home / "small/sites/beta/store/secrets"
        assert [path.stem for path in secrets.iterdir()] == [ticket_of(3).digest]
        with pytest.raises(RefusedError, match="names a foreign charter"):
            at_work("beta", f"{EXCHANGE}/rounds/00003-1/ticket.json")
        round_ = RoundInProcess(made)
        round_.learn()
        assert [path.stem for path in secrets.iterdir()] == [round_.opened.digest]

    def test_a_commitment_under_the_old_key_leaves_its_site_out(self, at: At) -> None:
        made = at("agreed: replaced")
        round_ = RoundInProcess(made)
        round_.learn()
        path = made.home / EXCHANGE / commitment_key(round_.opened, "beta")
        genuine = read_commitment(path.read_bytes(), round_.opened, "beta", round_.charter)
        path.write_bytes(genuine.signed(old_key()))
        round_.call()
        roster = json.loads(open_store(EXCHANGE).read(f"{round_.opened.folder}/roster.json"))["body"]
        assert sorted(roster["commitments"]) == ["alpha", "delta", "gamma"]
        assert "signature of beta" in roster["left_out"]["beta"]

    def test_a_release_under_the_old_key_opens_nothing(self, at: At) -> None:
        made = at("agreed: replaced")
        round_ = RoundInProcess(made)
        for step in (round_.learn, round_.call, round_.seal, round_.add, round_.release):
            step()
        path = made.home / EXCHANGE / release_key(round_.opened, "beta")
        body = json.loads(path.read_bytes())["body"]
        path.write_bytes(sign(old_key(), domain=RELEASE, signer="beta", body=body))
        with pytest.raises(QuorumNotReachedError, match="beta sealed but did not release, so nothing can be"):
            round_.open()

    def test_a_manifest_under_the_old_key_is_nobodys(self, at: At) -> None:
        made = at("agreed: replaced")
        round_ = RoundInProcess(made)
        round_.learn()
        round_.call()
        round_.seal()
        path = made.home / EXCHANGE / manifest_key(round_.opened, "beta")
        body = json.loads(path.read_bytes())["body"]
        path.write_bytes(sign(old_key(), domain=SEALED_UPDATE, signer="beta", body=body))
        round_.add()
        cutoff = json.loads(open_store(EXCHANGE).read(f"{round_.opened.folder}/cutoff.json"))
        assert cutoff["members"] == ["alpha", "delta", "gamma"]
        assert "signature of beta" in cutoff["left_out"]["beta"]

    def test_a_coordinators_old_key_issues_nothing_any_more(self, at: At, say: Say) -> None:
        made = at("joined")
        old = load_signing_key(KEYS, "coordinator")
        say("keys", "replace", made.path, "--as", "coordinator")
        agree(made, say)
        before, charter = ticket_of(2), charter_in_force(KEYS)
        asked = replace(before, charter=charter.digest, round_number=3, model=committed_records()[-1].model)
        with pytest.raises(SignatureError, match="the signature of coordinator"):
            at_work("alpha", ask(asked, old))
        # Nor under the edition that named it.
        with pytest.raises(RefusedError, match="names a foreign charter"):
            at_work("alpha", ask(replace(asked, charter=before.charter), old, "older.json"))
        RoundInProcess(made).finish()
        assert problems(charter.digest) == ()

    def test_a_void_under_the_coordinators_old_key_still_ends_its_attempt(self, at: At, say: Say) -> None:
        """Both attempts of one round end: one under the old key, one because the charter was changed."""
        made = at("agreed: replaced")
        round_ = RoundInProcess(made)
        assert round_.opened.attempt == 2
        say("keys", "replace", made.path, "--as", "coordinator")
        agree(made, say)
        last = RoundInProcess(made)
        assert last.opened.attempt == 3
        last.finish()
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_the_key_holders_new_key_starts_certificates_of_its_own(self, at: At, say: Say) -> None:
        made = at("joined")
        say("keys", "replace", made.path, "--as", "key-holder")
        agree(made, say)
        RoundInProcess(made).finish()
        assert len(list((made.home / KEYS / "certificates/sealed").iterdir())) == 2
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_verify_finds_a_commitment_that_the_old_key_has_signed(self, at: At) -> None:
        made = at("left")
        path = made.home / STATE / "rounds/00003/proof/commitments/beta.json"
        charter = read_edition(open_store(KEYS), 3)
        genuine = read_commitment(path.read_bytes(), ticket_of(3, 2), "beta", charter)
        path.write_bytes(genuine.signed(old_key()))
        assert any(line.startswith("round 3: commitment of beta: ") for line in problems())


def old_key() -> Ed25519PrivateKey:
    return load_signing_key(KEYS, "beta", name="signing.replaced-1.key")


class TestLeaving:
    def test_it_signs_nothing_and_keeps_what_it_has(self, at: At) -> None:
        made = at("left")
        charter = charter_in_force(KEYS)
        assert charter.signers == ("alpha", "beta", "delta", "key-holder")
        assert not (made.home / KEYS / "charters/00005/signatures/gamma.json").exists()
        for name in ("policy.yaml", "signing.key", "agreement.key"):
            assert private(made, "gamma", name).is_file()

    def test_a_leaver_that_goes_on_is_left_out_with_a_reason(self, at: At) -> None:
        made = at("agreed: left")
        round_ = RoundInProcess(made)
        with pytest.raises(RefusedError, match="names a foreign charter"):
            at_work("gamma", round_.ticket)
        round_.learn()
        document = open_store(EXCHANGE).read(commitment_key(round_.opened, "alpha"))
        theirs = read_commitment(document, round_.opened, "alpha", round_.charter)
        sent = replace(theirs, site="gamma").signed(load_signing_key(KEYS, "gamma"))
        open_store(EXCHANGE).create(commitment_key(round_.opened, "gamma"), sent)
        round_.go_on()
        record = committed_records()[-1]
        assert record.members == ("alpha", "beta", "delta")
        assert record.left_out == {"gamma": "refused: edition 5 of the charter does not name it"}
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_its_manifest_is_no_members(self, at: At) -> None:
        made = at("left")
        round_, charter = ticket_of(5), charter_in_force(KEYS)
        proof = made.home / STATE / "rounds/00005/proof"
        body = json.loads((proof / "sealed/alpha.json").read_bytes())["body"] | {"site": "gamma"}
        forged = sign(load_signing_key(KEYS, "gamma"), domain=SEALED_UPDATE, signer="gamma", body=body)
        open_store(EXCHANGE).create(manifest_key(round_, "gamma"), forged)
        roster = read_roster((proof / "roster.json").read_bytes(), round_, charter)
        with pytest.raises(SignatureError, match="gamma has no public key in the charter"):
            read_manifest(open_store(EXCHANGE), round_, roster, "gamma", charter=charter, certificate="")
        (proof / "sealed/gamma.json").write_bytes(forged)
        cutoff = json.loads((proof / "cutoff.json").read_bytes())
        (proof / "cutoff.json").write_text(json.dumps(cutoff | {"members": [*cutoff["members"], "gamma"]}))
        assert any(line.startswith("round 5: cut-off: ") for line in problems())

    def test_a_quorum_that_the_others_cannot_reach_is_told(self, at: At, say: Say) -> None:
        made = at("joined")
        made.document["quorum"] = {"min_sites": 4}
        made.document["sites"] = [site for site in made.document["sites"] if site["name"] != "gamma"]
        (line,) = say("charter", "new", made.save()).complaints
        assert line.endswith("quorum.min_sites: must be at most the number of sites, 3, got 4")

    def test_it_may_come_back_to_its_store_and_keys(self, at: At, say: Say) -> None:
        back = at("left")
        joined = dict(back.site("delta"))
        joined |= {"name": "gamma", "cloud": "gamma", "store_uri": "small/sites/gamma/store"}
        joined["data"] = joined["data"] | {"uri": "small/sites/gamma/warehouse.duckdb"}
        back.document["sites"].append(joined)
        back.save()
        agree(back, say)
        RoundInProcess(back).finish()
        assert committed_records()[-1].members == FOUR
        assert problems(charter_in_force(KEYS).digest) == ()
