"""A chain that was committed is verified; what is wrong in it is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.agreement.charter import COORDINATOR
from components.agreement.charter_book import charter_in_force
from components.artifacts import tensors
from components.artifacts.documents import canonical_json, digest
from components.errors import StoreError, UsageError
from components.rounds.verification import Verification, verify_state
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.rounds.verification.chain import Chain, changed


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


def test_a_state_that_cannot_be_read_is_no_finding(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "rounds").symlink_to(chain.home / "chain/state/rounds")
    with pytest.raises(StoreError, match="is a symbolic link"):
        verify_state(str(tmp_path), keys_uri="chain/keys")


def test_what_documents_quote_cannot_draw_on_the_terminal(chain: Chain) -> None:
    chain.sign("1/proof/ticket.json", changed(federation="x\x1b[2Jall is well\n"), COORDINATOR)
    lines = [line for line in chain.problems if "all is well" in line]
    assert len(lines) == 1
    assert all(letter.isprintable() for letter in lines[0])
