"""A real chain with a void, a second attempt, a lost site, a new edition and a new key, then altered."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import load_signing_key
from components.artifacts import tensors
from components.artifacts.documents import canonical_json, digest, sign
from components.encryption.keys import certify_key
from components.errors import QuorumNotReachedError, StoreError, UsageError
from components.rounds.verification import Verification, verify_state
from tests.components.aggregation.three_sites import ThreeSites, put_in_force

SITES = ("alpha", "beta", "delta", "gamma")
DOMAINS = {
    "round.json": "round",
    "void.json": "void",
    "ticket.json": "ticket",
    "roster.json": "roster",
    "receipt.json": "receipt",
    "commitments": "commitment",
    "sealed": "sealed update",
    "released": "release",
    "certificates": "key certificate",
}
Change = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Chain:
    """The committed chain of a federation, to be altered and put back."""

    home: Path

    def verified(self, **options: str) -> Verification:
        return verify_state("chain/state", keys_uri="chain/keys", **options)

    @property
    def problems(self) -> tuple[str, ...]:
        return self.verified().problems

    def path(self, name: str) -> Path:
        """`3/proof/roster.json` of the state, `keys/…` of the keys; certificates are of one chain."""
        number, _, rest = name.partition("/")
        if rest.startswith("certificates/sealed/"):
            [chain] = (self.home / "chain/keys/certificates/sealed").iterdir()
            return chain / rest.rpartition("/")[2]
        folder = f"keys/{rest}" if number == "keys" else f"state/rounds/{int(number):05d}/{rest}"
        return self.home / "chain" / folder

    def body(self, name: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.path(name).read_bytes())["body"]
        return body

    def sign(self, name: str, change: Change, owner: str, signer: str = "") -> str:
        """Signs a changed document anew with the key of `owner`; returns its digest."""
        parts = name.split("/")
        domain = DOMAINS.get(parts[-1]) or DOMAINS[parts[1] if parts[0] == "keys" else parts[2]]
        body = dict(change(self.body(name)))
        document = sign(
            load_signing_key("chain/keys", owner), domain=domain, signer=signer or owner, body=body
        )
        self.path(name).write_bytes(document)
        return digest(document)

    def checkpoint(self, number: int) -> str:
        return f"{number}/checkpoint-{self.body(f'{number}/round.json')['model'][:16]}.safetensors"

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Puts back what the block changes."""
        saved = {path: path.read_bytes() for path in self.objects()}
        try:
            yield
        finally:
            for path in set(self.objects()) - set(saved):
                path.unlink()
            for path, content in saved.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.is_file() or path.read_bytes() != content:
                    path.write_bytes(content)

    @contextlib.contextmanager
    def altered(self, *paths: Path) -> Iterator[None]:
        """As `restored`, for a block that changes only these."""
        saved = {path: path.read_bytes() for path in paths}
        try:
            yield
        finally:
            for path, content in saved.items():
                path.write_bytes(content)

    def objects(self) -> list[Path]:
        """All that a verification rests on."""
        below = [*(self.home / "chain/state").rglob("*")]
        below += [*self.path("keys/charters").rglob("*"), *self.path("keys/certificates").rglob("*")]
        return sorted(path for path in below if path.is_file() and not path.name.startswith("report"))


def build_chain() -> None:
    """Round 2 is void; round 3 needs two attempts and loses delta; round 4 is under edition 2 and key 2."""
    one = ThreeSites.start("chain", protection="sealed", sites=SITES, rotation_rounds=3)
    one.committed()
    two = one.next_round()
    summed = two.aggregate(two.sealed()).reference
    two.release(["alpha", "beta", "gamma"])
    with pytest.raises(QuorumNotReachedError):
        two.open_sum(summed)
    three = two.next_attempt()
    roster = three.roster(three.train())
    with pytest.raises(QuorumNotReachedError):
        three.aggregate(three.seal(roster, ["alpha", "beta"]))
    again = three.next_attempt()
    three_of_four = again.seal(again.roster(again.train()), ["alpha", "beta", "gamma"])
    again.commit(again.open_sum(again.summed({**three_of_four, "delta": ""})).reference)
    edition = replace(again.charter, edition=2, previous=again.charter.digest, max_rounds=50)
    put_in_force("chain", edition)
    certify_key(edition, keys_uri="chain/keys", first_round=4)
    again.next_round().committed()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    home = tmp_path_factory.mktemp("verification")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CROSSCLOUD_HOME", str(home))
        patched.delenv("CROSSCLOUD_KEYS", raising=False)
        build_chain()
        yield Chain(home)


@pytest.fixture(autouse=True)
def home(built: Chain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the chain that was built once, instead of a fresh one."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(built.home))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return built.home


@pytest.fixture
def chain(built: Chain) -> Iterator[Chain]:
    with built.restored():
        yield built
    assert built.problems == ()


def test_the_chain_as_it_was_committed_has_no_problem(chain: Chain) -> None:
    found = chain.verified()
    assert found == Verification(
        rounds=3,
        voided=1,
        newest_model=chain.body("4/round.json")["model"],
        charter=charter_in_force("chain/keys").digest,
        problems=(),
    )
    assert chain.verified(charter=found.charter) == found
    # What the test takes for granted of its own chain.
    assert chain.body("3/proof/ticket.json")["attempt"] == 2
    assert chain.body("3/round.json")["members"] == ["alpha", "beta", "gamma"]
    assert len({chain.body(f"{number}/round.json")["charter"] for number in (1, 3, 4)}) == 2
    assert len({chain.body(f"{number}/proof/receipt.json")["certificate"] for number in (1, 3, 4)}) == 2


@pytest.mark.parametrize("protection", ["none", "he"])
def test_three_rounds_under_another_protection_have_no_problem(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    federation = ThreeSites.start(protection=protection)
    federation.committed()
    for _ in range(2):
        federation = federation.next_round()
        outcome = federation.committed()
    found = verify_state("small/state", keys_uri="small/keys", charter=federation.charter.digest)
    assert (found.rounds, found.voided, found.problems) == (3, 0, ())
    assert found.newest_model == outcome.manifest["model"]
    # `proof/` and the keys are all it needs.
    shutil.rmtree(tmp_path / "small/exchange")
    shutil.rmtree(tmp_path / "small/sites")
    assert verify_state("small/state", keys_uri="small/keys").problems == ()


def test_a_flipped_bit_in_any_object_is_found_where_it_is(chain: Chain) -> None:
    rng = np.random.default_rng(5)
    for path in chain.objects():
        content = bytearray(path.read_bytes())
        place = int(rng.integers(len(content)))
        content[place] ^= 1 << int(rng.integers(7))
        with chain.altered(path):
            path.write_bytes(content)
            assert any(line.startswith(_subject(path)) for line in chain.problems), (path, place)


def test_an_object_that_is_gone_is_found_where_it_was(chain: Chain) -> None:
    newest, in_force = chain.path("4/round.json"), chain.path("keys/charters/00002/charter.json")
    for path in chain.objects():
        with chain.altered(path):
            path.unlink()
            if path == newest:
                # A chain cut off at its end is a chain: whoever took part knows how long it was.
                assert (chain.verified().rounds, chain.problems) == (2, ())
            else:
                subject = "round 4: record: " if path == in_force else _subject(path)
                assert any(line.startswith(subject) for line in chain.problems), path


def test_objects_of_another_round_are_found_in_both(chain: Chain) -> None:
    first, third = chain.path("1/"), chain.path("3/")
    shared = [path.relative_to(first) for path in chain.objects() if path.is_relative_to(first)]
    swapped = [name for name in shared if (third / name).is_file()]
    assert len(swapped) == 16
    for name in swapped:
        with chain.altered(first / name, third / name):
            one, other = (first / name).read_bytes(), (third / name).read_bytes()
            (first / name).write_bytes(other)
            (third / name).write_bytes(one)
            problems = chain.problems
            assert {line.partition(":")[0] for line in problems} >= {"round 1", "round 3"}, name


def _subject(path: Path) -> str:
    parts = path.parts
    if "certificates" in parts:
        return "round "
    if "charters" in parts:
        number = int(parts[parts.index("charters") + 1])
        return f"charter: edition {number}" if path.name == "charter.json" else "charter: edition "
    return f"round {int(parts[parts.index('rounds') + 1])}: "


WRONG_SIGNERS = {
    "1/round.json": (KEY_HOLDER, COORDINATOR, "round 1: record: the signature of coordinator on a round"),
    "2/void.json": ("alpha", COORDINATOR, "round 2: void: the signature of coordinator on a void"),
    "3/proof/ticket.json": (
        "alpha",
        COORDINATOR,
        "round 3: ticket: the signature of coordinator on a ticket",
    ),
    "3/proof/roster.json": ("beta", COORDINATOR, "round 3: roster: the signature of coordinator on a roster"),
    "1/proof/sealed/alpha.json": (
        "beta",
        "alpha",
        "round 1: manifest of alpha: the signature of alpha on a sealed update",
    ),
    "1/proof/released/beta.json": (
        COORDINATOR,
        "beta",
        "round 1: release of beta: the signature of beta on a release",
    ),
    "keys/certificates/sealed/00001.json": (
        COORDINATOR,
        KEY_HOLDER,
        "round 1: key: the signature of key-holder on a key certificate",
    ),
}


@pytest.mark.parametrize("name", WRONG_SIGNERS)
def test_a_document_that_another_party_signed_is_refused(chain: Chain, name: str) -> None:
    owner, signer, expected = WRONG_SIGNERS[name]
    chain.sign(name, lambda body: body, owner, signer)
    assert [line for line in chain.problems if line.startswith(expected)]


def changed(**values: Any) -> Change:
    return lambda body: body | values


OWN_SIGNATURES: dict[str, tuple[str, Change, str, str]] = {
    "loosened parameter": (
        "1/proof/ticket.json",
        changed(local_epochs=11),
        COORDINATOR,
        "round 1: ticket: the charter allows local_epochs of at most 10, the ticket asks for 11",
    ),
    "rounds used up": (
        "4/proof/ticket.json",
        changed(round_number=51),
        COORDINATOR,
        "round 4: ticket: the charter allows round_number of at most 50, the ticket asks for 51",
    ),
    "another ticket": (
        "1/proof/ticket.json",
        changed(seed=4),
        COORDINATOR,
        "round 1: ticket: is not the one that the record names",
    ),
    "replayed receipt": (
        "4/proof/ticket.json",
        lambda body: body | {"previous": "ab" * 32},
        COORDINATOR,
        "round 4: ticket: does not follow from the receipt of the last committed round",
    ),
    "receipt elsewhere": (
        "4/proof/ticket.json",
        changed(previous_folder="rounds/00002-1"),
        COORDINATOR,
        "round 4: ticket: does not follow from the receipt of the last committed round",
    ),
    "model of one's own": (
        "3/proof/ticket.json",
        changed(model="cd" * 32),
        COORDINATOR,
        "round 3: ticket: its model is not the one that the last committed round made",
    ),
    "genesis of one's own": (
        "1/proof/ticket.json",
        changed(model="cd" * 32),
        COORDINATOR,
        "round 1: ticket: its model is not the one that the charter starts from",
    ),
    "snapshot that goes back": (
        "3/proof/ticket.json",
        changed(snapshot="2001-02-03T04:05:06+00:00"),
        COORDINATOR,
        "round 3: ticket: its snapshot goes back to 2001-02-03T04:05:06+00:00",
    ),
    "snapshot without a zone": (
        "1/proof/ticket.json",
        changed(snapshot="2001-02-03T04:05:06"),
        COORDINATOR,
        "round 1: ticket: its snapshot, 2001-02-03T04:05:06, is not a time with its zone",
    ),
    "second attempt without a void": (
        "3/proof/ticket.json",
        changed(void="ef" * 32),
        COORDINATOR,
        "round 3: ticket: attempt 2 of round 3 was opened without a void of the one before",
    ),
    "sybil": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": body["commitments"] | {"mallory": "ab" * 32}},
        COORDINATOR,
        "round 1: roster: the roster in rounds/00001-1 names mallory, which the charter does not",
    ),
    "swapped commitment": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": body["commitments"] | {"beta": body["commitments"]["alpha"]}},
        COORDINATOR,
        "round 1: commitment of beta: is not the one on the roster",
    ),
    "small roster": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": {s: body["commitments"][s] for s in ("alpha", "beta")}},
        COORDINATOR,
        "round 1: roster: has 2 sites, the charter asks for 3",
    ),
    "other reasons": (
        "3/round.json",
        changed(left_out={}),
        COORDINATOR,
        "round 3: record: leaves out other sites than roster and cut-off",
    ),
    "other members": (
        "3/round.json",
        changed(members=["alpha", "beta", "delta", "gamma"]),
        COORDINATOR,
        "round 3: record: its members are not those of the cut-off",
    ),
    "another round": (
        "1/round.json",
        changed(round_number=3),
        COORDINATOR,
        "round 1: record: is the one of round 3",
    ),
    "foreign charter": (
        "4/round.json",
        changed(charter="ab" * 32),
        COORDINATOR,
        "round 4: record: was committed under a foreign charter, abababababab",
    ),
    "another federation": (
        "4/round.json",
        changed(federation="other"),
        COORDINATOR,
        "round 4: record: a round of other was given to a party of small",
    ),
    "another model": (
        "3/round.json",
        changed(model="ab" * 32),
        COORDINATOR,
        "round 3: model: is not the one that the opened sum and the charter's optimiser give",
    ),
    "void of another round": (
        "2/void.json",
        changed(round_number=3),
        COORDINATOR,
        "round 2: void: ends round 3",
    ),
    "other bytes": (
        "1/proof/sealed/gamma.json",
        changed(blob="ab" * 32),
        "gamma",
        "round 1: manifest of gamma: signs other bytes than those the receipt says were opened",
    ),
    "another length": (
        "1/proof/sealed/gamma.json",
        lambda body: body | {"length": body["length"] + 1},
        "gamma",
        "round 1: manifest of gamma: states 31 values, the round's updates have 30",
    ),
    "foreign purpose": (
        "1/proof/sealed/gamma.json",
        changed(purpose="metrics"),
        "gamma",
        "round 1: manifest of gamma: the sealed update of gamma was made for another purpose",
    ),
    "release for another set": (
        "1/proof/released/gamma.json",
        changed(cutoff="ab" * 32),
        "gamma",
        "round 1: release of gamma: the release of gamma was made for another cutoff",
    ),
    "receipt after the fact": (
        "3/proof/receipt.json",
        changed(aggregate="ab" * 32),
        KEY_HOLDER,
        "round 3: receipt: is not the one that the record names",
    ),
    "key put forward": (
        "keys/certificates/sealed/00002.json",
        changed(first_round=3),
        KEY_HOLDER,
        "round 3: manifest of alpha: the sealed update of alpha was made for another certificate",
    ),
    "key of none": (
        "keys/certificates/sealed/00001.json",
        changed(first_round=2),
        KEY_HOLDER,
        "round 1: key: certificate 2 for protection sealed does not follow from the one before",
    ),
}


@pytest.mark.parametrize("case", OWN_SIGNATURES)
def test_what_its_own_party_signed_wrongly_is_refused(chain: Chain, case: str) -> None:
    name, change, owner, expected = OWN_SIGNATURES[case]
    chain.sign(name, change, owner)
    assert [line for line in chain.problems if line.startswith(expected)], chain.problems


def test_an_aggregate_needs_the_key_holders_receipt(chain: Chain) -> None:
    """Coordinator and aggregator together replace the sum of the last round, consistently but for one key."""
    aggregate = chain.path("4/proof/aggregate.safetensors")
    values = tensors.decode_any(aggregate.read_bytes())["aggregate"].astype(np.float64)
    values[0] += 1.0
    aggregate.write_bytes(tensors.encode({"aggregate": values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), COORDINATOR, KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    assert chain.problems == (
        "round 4: receipt: the signature of key-holder on a receipt document does not verify",
    )


def test_a_sum_that_gives_no_model_is_refused_whoever_signed_it(chain: Chain) -> None:
    aggregate = chain.path("4/proof/aggregate.safetensors")
    values = tensors.decode_any(aggregate.read_bytes())["aggregate"].astype(np.float64)
    aggregate.write_bytes(tensors.encode({"aggregate": -values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    counted = f"round 4: model: the opened sum must count at least one example, got -{values[-1]:.0f}"
    assert chain.problems == (counted,)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros(0), np.zeros(3, np.int64)])
def test_an_aggregate_that_is_no_vector_is_refused(chain: Chain, values: Any) -> None:
    aggregate = chain.path("4/proof/aggregate.safetensors")
    aggregate.write_bytes(tensors.encode({"aggregate": values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    assert chain.problems == ("round 4: model: the aggregate is not one vector of floating-point numbers",)


def test_a_replaced_checkpoint_is_found_and_the_next_round_checked_without_it(chain: Chain) -> None:
    path = chain.path(chain.checkpoint(1))
    model = tensors.decode(path.read_bytes())
    path.write_bytes(tensors.encode({name: values + 1 for name, values in model.items()}))
    assert chain.problems == ("round 1: checkpoint: is not the model that the record names",)


def test_a_checkpoint_whose_record_follows_it_is_found_too(chain: Chain) -> None:
    path = chain.path(chain.checkpoint(3))
    model = tensors.decode(path.read_bytes())
    content = tensors.encode({name: values + 1 for name, values in model.items()})
    path.with_name(f"checkpoint-{digest(content)[:16]}.safetensors").write_bytes(content)
    chain.sign("3/round.json", changed(model=digest(content)), COORDINATOR)
    assert chain.problems == (
        "round 3: model: is not the one that the opened sum and the charter's optimiser give",
        "round 4: ticket: its model is not the one that the last committed round made",
    )


def test_a_missing_round_is_named_and_the_later_ones_are_checked(chain: Chain) -> None:
    shutil.rmtree(chain.path("1/"))
    chain.path("4/proof/released/alpha.json").unlink()
    missing, model, release = chain.problems
    assert missing == "round 1: is missing: every round up to the last is committed or void"
    assert model.startswith("round 3: model: cannot be recomputed, the one it starts from, ")
    assert release.startswith("round 4: release of alpha: ")
    assert release.endswith("00004/proof/released/alpha.json is not there")


def test_a_missing_proof_is_named(chain: Chain) -> None:
    shutil.rmtree(chain.path("3/proof"))
    (problem,) = chain.problems
    assert problem == "round 3: ticket: chain/state/rounds/00003/proof/ticket.json is not there"


def test_a_round_that_is_void_and_committed_is_neither(chain: Chain) -> None:
    chain.sign("2/void.json", changed(round_number=1), COORDINATOR)
    shutil.copy(chain.path("2/void.json"), chain.path("1/void.json"))
    assert chain.problems[0] == "round 1: is both committed and void"
    assert chain.problems[1:] == ("round 2: void: ends round 1",)


def test_a_round_in_another_place_is_named(chain: Chain) -> None:
    for name in ("first", "000005", "7"):
        (chain.home / f"chain/state/rounds/{name}").mkdir()
        shutil.copy(chain.path("4/round.json"), chain.home / f"chain/state/rounds/{name}/round.json")
    assert chain.problems == (
        "state: rounds/000005/round.json is not where a round lies",
        "state: rounds/7/round.json is not where a round lies",
        "state: rounds/first/round.json is not where a round lies",
    )
    for name in ("first", "000005", "7"):
        shutil.rmtree(chain.home / f"chain/state/rounds/{name}")


def test_a_smaller_sum_than_was_released_is_refused(chain: Chain) -> None:
    path = chain.path("1/proof/cutoff.json")
    cutoff = json.loads(path.read_bytes()) | {"members": ["alpha", "beta"]}
    path.write_bytes(canonical_json(cutoff))
    problems = chain.problems
    assert "round 1: cut-off: has 2 sites, the charter asks for 3" in problems
    assert "round 1: receipt: was given for another set of sites" in problems
    assert "round 1: release of alpha: the release of alpha was made for another cutoff" in problems


def test_an_edition_without_a_signature_is_not_signed(chain: Chain) -> None:
    chain.path("keys/charters/00001/signatures/beta.json").unlink()
    chain.path("keys/charters/00001/signatures/key-holder.json").unlink()
    assert chain.problems == ("charter: edition 1 is not signed by beta, key-holder",)


def test_a_signature_of_another_edition_is_none(chain: Chain) -> None:
    shutil.copy(
        chain.path("keys/charters/00002/signatures/beta.json"),
        chain.path("keys/charters/00001/signatures/beta.json"),
    )
    assert chain.problems == (
        "charter: edition 1: the signature of beta is of another charter",
        "charter: edition 1 is not signed by beta",
    )


def test_a_changed_term_breaks_the_chain_from_there_on(chain: Chain) -> None:
    path = chain.path("keys/charters/00001/charter.json")
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | {"max_examples": 2000}))
    problems = chain.problems
    assert "charter: edition 2: does not name the edition before it" in problems
    assert sum("the signature of" in line for line in problems) == 5
    assert any(line.startswith("round 1: record: was committed under a foreign charter") for line in problems)


def test_editions_do_not_go_back(chain: Chain) -> None:
    older, newer = (chain.body(f"{number}/round.json")["charter"] for number in (1, 4))
    chain.sign("3/round.json", changed(charter=newer), COORDINATOR)
    chain.sign("4/round.json", changed(charter=older), COORDINATOR)
    chain.sign("4/proof/ticket.json", changed(charter=older), COORDINATOR)
    assert "round 4: record: was committed under an edition before the last round's" in chain.problems


def test_a_proposal_that_waits_for_signatures_is_no_problem(chain: Chain) -> None:
    newest = json.loads(chain.path("keys/charters/00002/charter.json").read_bytes())
    proposal = newest | {"edition": 3, "previous": charter_in_force("chain/keys").digest, "max_rounds": 60}
    chain.path("keys/charters/00003").mkdir(exist_ok=True)
    chain.path("keys/charters/00003/charter.json").write_bytes(canonical_json(proposal))
    assert chain.problems == ()
    pinned = chain.verified(charter=digest(canonical_json(proposal)))
    assert pinned.problems == ("charter: edition 3 is not signed by alpha, beta, delta, gamma, key-holder",)


def test_the_pinned_charter_must_be_in_the_chain(chain: Chain) -> None:
    assert chain.verified(charter="ab" * 32).problems == (
        "charter: none of its editions is the pinned one, abababababab",
    )
    first = chain.body("1/round.json")["charter"]
    assert chain.verified(charter=first).problems == (
        "round 4: record: was committed under edition 2, later than the pinned one",
    )
    for text in ("ab" * 31, "AB" * 32, first[:12], f"{first}\n"):
        with pytest.raises(UsageError, match="named by its whole digest"):
            chain.verified(charter=text)


def test_no_charter_at_all_is_a_problem(chain: Chain) -> None:
    found = verify_state("chain/state", keys_uri="chain/elsewhere")
    assert found.problems[0] == (
        "charter: editions: there is none at chain/elsewhere: name the folder of the keys"
    )
    assert len(found.problems) == 5


def test_an_oversized_document_is_not_loaded(chain: Chain) -> None:
    for name in ("1/proof/roster.json", "1/round.json", "2/void.json", "3/proof/commitments/beta.json"):
        with chain.altered(chain.path(name)):
            chain.path(name).write_bytes(b" " * (2**20 + 1))
            assert any("are read" in line for line in chain.problems), name


def test_a_state_that_cannot_be_read_is_no_finding(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "rounds").symlink_to(chain.home / "chain/state/rounds")
    with pytest.raises(StoreError, match="is a symbolic link"):
        verify_state(str(tmp_path), keys_uri="chain/keys")


def test_what_documents_quote_cannot_draw_on_the_terminal(chain: Chain) -> None:
    chain.sign("1/proof/ticket.json", changed(federation="x\x1b[2Jall is well\n"), COORDINATOR)
    lines = [line for line in chain.problems if "all is well" in line]
    assert len(lines) == 1
    assert all(letter.isprintable() for letter in lines[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.text(max_size=5) | st.just("../../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SITES), inner, max_size=3),
    max_leaves=5,
)
SIGNED = [
    ("3/round.json", COORDINATOR),
    ("2/void.json", COORDINATOR),
    ("3/proof/ticket.json", COORDINATOR),
    ("3/proof/roster.json", COORDINATOR),
    ("3/proof/receipt.json", KEY_HOLDER),
    ("3/proof/commitments/beta.json", "beta"),
    ("3/proof/sealed/beta.json", "beta"),
    ("3/proof/released/beta.json", "beta"),
    ("keys/certificates/sealed/00001.json", KEY_HOLDER),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SIGNED), st.data())
def test_no_field_of_any_document_may_be_anything_else(
    chain: Chain, document: tuple[str, str], data: st.DataObject
) -> None:
    name, owner = document
    body = chain.body(name)
    field = data.draw(st.sampled_from(sorted(body)))
    value = data.draw(JSON.filter(lambda value: value != body[field]))
    # Nobody but the coordinator's own log needs these.
    free = {"3/round.json": {"committed_at"}, "2/void.json": {"reason", "ticket"}}.get(name, {"locked"})
    with chain.altered(chain.path(name)):
        chain.sign(name, changed(**{field: value}), owner)
        assert chain.problems or field in free
