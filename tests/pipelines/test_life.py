"""A federation's life: a site joins, has its keys replaced, a round is taken back, a site leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.aggregation.secure_aggregation import summing
from components.agreement import lineage
from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force, editions, propose, read_edition
from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import receipt_key
from components.agreement.released import DOMAIN as RELEASE
from components.agreement.released import release_key
from components.agreement.roster import read_roster
from components.agreement.sealed_manifest import DOMAIN as SEALED_UPDATE
from components.agreement.sealed_manifest import manifest_key, read_manifest
from components.agreement.ticket import Ticket, read_ticket
from components.agreement.void import read_void
from components.agreement.workplace import Workplace
from components.artifacts.documents import digest, sign
from components.artifacts.stores import open_store
from components.encryption.mask_release.releasing import release_masks
from components.errors import QuorumNotReachedError, RefusedError, SignatureError
from components.rounds import state as rounds_state
from components.rounds.round_opening import opening
from components.rounds.verification import verify_state
from pipelines.federation import load_federation
from pipelines.federation_run import newest_report
from pipelines.prediction import newest_labeller
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import FinishedRuns, copied
from tests.pipelines.life import KEYS, STATE, agree, committed_records, live, private
from tests.pipelines.round_in_process import RoundInProcess

At = Callable[[str], SmallFederation]
EXCHANGE = "small/exchange"
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


def problems(charter: str = "") -> tuple[str, ...]:
    return verify_state(STATE, keys_uri=KEYS, charter=charter).problems


def ticket_of(number: int, attempt: int = 1) -> Ticket:
    keys, exchange = open_store(KEYS), open_store(EXCHANGE)
    document = exchange.read(f"rounds/{number:05d}-{attempt}/ticket.json")
    named = json.loads(document)["body"]["charter"]
    charters = (read_edition(keys, number) for number in editions(keys))
    return read_ticket(document, next(each for each in charters if each.digest == named))


def ask(ticket: Ticket, key: Ed25519PrivateKey, name: str = "offer.json") -> str:
    """Publishes a ticket that somebody has signed; its reference."""
    open_store(EXCHANGE).create(name, ticket.signed(key))
    return f"{EXCHANGE}/{name}"


def at_work(site: str, ticket: str) -> Workplace:
    store = f"small/sites/{site}/store"
    return Workplace.open(site=site, store_uri=store, exchange_uri=EXCHANGE, keys_uri=KEYS, ticket=ticket)


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


class TestTakenBack:
    def test_the_charter_says_so_in_words_with_the_rounds(self, at: At, say: Say) -> None:
        made = at("agreed: taken back")
        shown = "\n".join(say("charter", "show", made.path).lines)
        assert "this edition takes back round 3: the first round under this edition starts from the" in shown
        assert "starts from the model of round 2, " in shown
        assert "of the same sites as round 3, alpha, beta, delta, gamma" in shown
        later = "\n".join(say("charter", "show", at("left").path, "--edition", "4").lines)
        assert "takes back round 3: " in later

    def test_what_is_used_of_models_is_the_one_that_stands(self, at: At) -> None:
        federation = load_federation(at("replaced").path)
        assert newest_labeller(federation, "alpha", use_global=True).round_number == 3
        federation = load_federation(at("agreed: taken back").path)
        assert newest_labeller(federation, "alpha", use_global=True).round_number == 2
        assert newest_report(federation).parent.name == "00002"
        assert verify_state(STATE, keys_uri=KEYS).newest_model == committed_records()[1].model

    def test_a_ticket_from_the_model_that_was_taken_back_is_refused(self, at: At) -> None:
        at("agreed: taken back")
        charter, third = charter_in_force(KEYS), committed_records()[-1]
        asked = next_ticket(charter, model=third.model)
        place = at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        with pytest.raises(RefusedError, match="is not the one that edition 4 of the charter goes back to"):
            accept(place)

    def test_the_edition_goes_back_once(self, at: At) -> None:
        at("taken back")
        charter = charter_in_force(KEYS)
        asked = next_ticket(charter, model=charter.restart)
        place = at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        with pytest.raises(RefusedError, match="is not the one that the last receipt gives"):
            accept(place)

    def test_verify_finds_a_round_from_the_model_that_was_taken_back(
        self, at: At, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where all parties agree to it afterwards, against what they have signed."""
        made = at("agreed: taken back")
        with monkeypatch.context() as patched:
            for module in (lineage, rounds_state, opening):
                patched.setattr(module, "goes_back", lambda charter, last: False)
            RoundInProcess(made).finish()
        (found,) = [line for line in problems() if "goes back to" in line]
        text = "its model is not the one that edition 4 of the charter goes back to"
        assert found == f"round 4: ticket: {text}"

    def test_a_sum_that_was_opened_before_is_committed_and_taken_back_with_the_others(
        self, at: At, say: Say
    ) -> None:
        """Round 4 has its receipt when the edition comes into force that takes back round 3."""
        made = at("replaced")
        under_way = RoundInProcess(made)
        for step in (under_way.learn, under_way.call, under_way.seal, under_way.add):
            step()
        under_way.release()
        under_way.open()
        agree(made, say, "--take-back", "3")
        resumed = RoundInProcess(made)
        assert resumed.opened == under_way.opened
        resumed.receipt = under_way.receipt
        resumed.commit()
        resumed.report()
        assert "takes back rounds 3, 4: " in "\n".join(say("charter", "show", made.path).lines)
        RoundInProcess(made).finish()
        records = committed_records()
        assert [each.parent for each in records[2:]] == [records[1].model, records[2].model, records[1].model]
        assert problems(charter_in_force(KEYS).digest) == ()

    def test_a_restart_that_not_everybody_signed_binds_nobody(self, at: At) -> None:
        made = at("taken back")
        first, charter = committed_records()[0], charter_in_force(KEYS)
        forged = replace(charter, edition=5, previous=charter.digest, restart=first.model)
        propose(KEYS, forged)
        asked = next_ticket(forged, model=first.model)
        with pytest.raises(RefusedError, match="names a foreign charter"):
            at_work("alpha", ask(asked, load_signing_key(KEYS, "coordinator")))
        assert RoundInProcess(made).opened.model == committed_records()[-1].model
        signature = made.home / KEYS / "charters/00004/signatures/gamma.json"
        signature.unlink()
        assert "charter: edition 4 is not signed by gamma" in problems()

    def test_without_noise_no_site_is_shown_alone_by_two_sums_of_one_model(self, at: At) -> None:
        """The attempt of a round in which one site is lost comes to nothing, by every party's check."""
        made = at("agreed: taken back")
        round_ = RoundInProcess(made)
        round_.learn()
        round_.call()
        round_.seal(["alpha", "beta", "delta"])
        round_.committed_to.pop("gamma")
        with pytest.raises(
            QuorumNotReachedError, match="0 of 4 sites on the roster sealed, the quorum is 3"
        ) as raised:
            round_.add()
        assert "goes back to the model that round 3 started from" in str(raised.value)

    def test_a_site_releases_nothing_for_a_set_that_would_show_another(
        self, at: At, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The aggregator may fix any set: the sites do not believe it."""
        made = at("agreed: taken back")
        round_ = RoundInProcess(made)
        round_.learn()
        round_.call()
        round_.seal(["alpha", "beta", "delta"])
        round_.committed_to.pop("gamma")

        monkeypatch.setattr(summing, "largest_grouped", lambda earlier, available, charter: tuple(available))
        round_.add()
        for site in ("alpha", "beta", "delta"):
            with pytest.raises(RefusedError, match="would show gamma apart from all others"):
                release_masks(round_.place(site))

    def test_an_edition_that_no_set_of_its_sites_could_begin_is_not_drafted(self, at: At, say: Say) -> None:
        made = at("replaced")
        made.document["sites"] = [site for site in made.document["sites"] if site["name"] != "gamma"]
        made.save()
        said = say("charter", "new", made.path, "--take-back", "3")
        (line,) = said.complaints
        assert said.code == 2
        assert line.startswith("this edition cannot take back round 3: without noise ")
        assert "the same sites as round 3, alpha, beta, delta, gamma, must be in it" in line

    def test_a_round_that_is_not_there_or_was_taken_back_is_told(self, at: At, say: Say) -> None:
        made = at("taken back")
        for number, text in ((9, "round 9 is not committed and cannot be taken back: 1, 2, 3, 4 are"),
                             (3, "round 3 was taken back before")):  # fmt: skip
            (line,) = say("charter", "new", made.path, "--take-back", number).complaints
            assert line.startswith(text)

    def test_what_was_agreed_and_not_yet_done_does_not_vanish_silently(self, at: At, say: Say) -> None:
        made = at("agreed: taken back")
        made.document["limits"] = {"max_examples": 900}
        made.save()
        (line,) = say("charter", "new", made.path).complaints
        assert line == (
            "edition 4 takes rounds back and no round under it is committed yet: say '--take-back 3' "
            "again, or '--keep-rounds' to let them stand"
        )
        told = "\n".join(say("charter", "new", made.path, "--keep-rounds").lines)
        assert "lets round 3 stand, which edition 4 takes back" in told


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


def next_ticket(charter: Charter, *, model: str) -> Ticket:
    """What the coordinator could ask for after the last committed round."""
    last = committed_records()[-1]
    before = ticket_of(last.round_number, last.attempt)
    return replace(
        before,
        charter=charter.digest,
        round_number=last.round_number + 1,
        attempt=1,
        void="",
        model=model,
        previous=last.receipt,
        previous_folder=last.folder,
    )


def accept(place: Workplace) -> None:
    place.accept(datetime.now(UTC))
