from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from components.agreement.charter_book import charter_in_force, read_edition
from components.agreement.site_policy import load_policy
from components.artifacts.stores import open_store
from tests.pipelines.commands.conftest import SITES, in_force

if TYPE_CHECKING:
    from tests.pipelines.command_line import Say
    from tests.pipelines.commands.conftest import FederationFile

SIGNERS = (*SITES, "key-holder")


def values(lines: list[str]) -> dict[str, list[str]]:
    """Name of a term to value and meaning."""
    rows = [re.split(r"  +", line) for line in lines]
    return {row[0]: row[1:] for row in rows if len(row) >= 2}


def test_new_drafts_the_first_edition_from_file_and_cards(file: FederationFile, say: Say) -> None:
    assert say("charter", "new", "small.yaml").complaints == [
        "alpha has offered no keys at small/keys: it does with 'crosscloud keys init --as alpha'"
    ]
    say("keys", "init", "small.yaml")
    lines = say("charter", "new", "small.yaml").lines
    charter = read_edition(open_store("small/keys"), 1)
    assert lines == [
        "proposed edition 1 of the charter of small",
        f"cd  {charter.digest}",
        "to be signed by alpha, beta, gamma, key-holder, each with its own keys:",
        "  crosscloud charter sign small.yaml --as alpha",
    ]
    assert (charter.protection, charter.min_sum_sites, charter.max_examples) == ("sealed", 3, 1000)


def test_new_says_what_it_changes(file: FederationFile, say: Say) -> None:
    in_force(say)
    assert say("charter", "new", "small.yaml").complaints == [
        "edition 1 of the charter has these terms already: nothing was written"
    ]
    file.document["limits"]["rounds"] = 50
    file.add("delta")
    say("keys", "init", "small.yaml", "--as", "delta")
    shutil.rmtree(file.keys / "beta")
    (file.keys / "cards/beta.json").unlink()
    say("keys", "init", "small.yaml", "--as", "beta")
    lines = say("charter", "new", "small.yaml").lines
    assert lines[0] == "proposed edition 2 of the charter of small"
    assert lines[2:7] == [
        "against edition 1:",
        "  max_rounds: 10000 → 50",
        "  sites: delta joins",
        "  sites: beta has other keys",
        "to be signed by alpha, beta, delta, gamma, key-holder, each with its own keys:",
    ]
    assert charter_in_force("small/keys").edition == 1


def test_new_under_another_method(file: FederationFile, say: Say) -> None:
    in_force(say)
    lines = say("charter", "new", "small.yaml", "--method", "fedavg").lines
    assert "  protection: sealed → none" in lines
    assert say("charter", "sign", "small.yaml", "--as", "alpha").complaints == [
        "alpha does not sign: protection: the federation file has sealed, edition 2 has none: change the "
        "file first if that is right"
    ]
    said = say("charter", "sign", "small.yaml", "--as", "alpha", "--method", "fedavg")
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(
        "alpha does not sign: the site's policy accepts protection sealed, the charter has none. Change "
    )
    words = ("charter", "sign", "small.yaml", "--all", "--renew-policy", "--method", "fedavg")
    assert say(*words).lines[-1] == "edition 2 is in force"
    assert load_policy("small/keys", "alpha").protections == ("none",)


def test_sign_shows_the_terms_and_names_the_policy(file: FederationFile, say: Say) -> None:
    say("keys", "init", "small.yaml")
    say("charter", "new", "small.yaml")
    cd = read_edition(open_store("small/keys"), 1).digest
    lines = say("charter", "sign", "small.yaml", "--as", "beta").lines
    assert lines[:2] == ["edition 1 of the charter of small", f"cd  {cd}"]
    assert values(lines)["max_examples"] == ["1000", "most training rows of a site"]
    assert lines[-2:] == [
        "beta has signed; its policy is .crosscloud/small/keys/beta/policy.yaml",
        "edition 1 waits for alpha, gamma, key-holder",
    ]
    assert load_policy("small/keys", "beta").charter == cd
    assert not (file.keys / "alpha/policy.yaml").exists()
    again = say("charter", "sign", "small.yaml", "--as", "key-holder", "--as", "alpha").lines
    assert again[-1] == "edition 1 waits for gamma"
    assert say("charter", "sign", "small.yaml", "--all").lines[-1] == "edition 1 is in force"


def test_sign_keeps_a_policy_that_its_owner_has_edited(file: FederationFile, say: Say) -> None:
    in_force(say)
    path = file.keys / "beta/policy.yaml"
    path.write_text(path.read_text().replace("rounds_a_day: null", "rounds_a_day: 2 # our own rule"))
    file.document["limits"]["rounds"] = 50
    file.save()
    say("charter", "new", "small.yaml")
    assert say("charter", "sign", "small.yaml", "--all").code == 0
    assert "rounds_a_day: 2 # our own rule" in path.read_text()
    policy = load_policy("small/keys", "beta")
    assert policy.next_charter == charter_in_force("small/keys").digest
    assert policy.charter == charter_in_force("small/keys").previous
    assert say("charter", "sign", "small.yaml", "--as", "beta", "--renew-policy").code == 0
    assert load_policy("small/keys", "beta").rounds_a_day is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "name who signs with --as OWNER, or sign as every party with --all, not both"),
        (
            ("--all", "--as", "alpha"),
            "name who signs with --as OWNER, or sign as every party with --all, not both",
        ),
        (
            ("--as", "coordinator"),
            "coordinator does not sign charters: alpha, beta, gamma, key-holder do",
        ),
        (("--as", "mallory"), "mallory does not sign charters: alpha, beta, gamma, key-holder do"),
    ],
)
def test_sign_needs_a_signer(file: FederationFile, say: Say, words: tuple[str, ...], complaint: str) -> None:
    say("keys", "init", "small.yaml")
    say("charter", "new", "small.yaml")
    said = say("charter", "sign", "small.yaml", *words)
    assert (said.code, said.complaints, said.out) == (2, [complaint], "")
    assert not (file.keys / "charters/00001/signatures").exists()


def test_nobody_signs_a_sybil_that_his_own_file_does_not_name(file: FederationFile, say: Say) -> None:
    say("keys", "init", "small.yaml")
    file.add("delta")
    say("keys", "init", "small.yaml", "--as", "delta")
    say("charter", "new", "small.yaml")
    del file.document["sites"][-1]
    file.save()
    said = say("charter", "sign", "small.yaml", "--as", "alpha")
    assert said.complaints == [
        "alpha does not sign: sites: the federation file has alpha, beta, gamma, edition 1 has alpha, beta, "
        "delta, gamma: change the file first if that is right"
    ]
    assert not (file.keys / "charters/00001/signatures").exists()


def test_show_explains_the_terms(file: FederationFile, say: Say) -> None:
    assert say("charter", "show", "small.yaml").complaints == [
        "small has no charter yet: draft one with 'crosscloud charter new small.yaml'"
    ]
    say("keys", "init", "small.yaml")
    say("charter", "new", "small.yaml")
    say("charter", "sign", "small.yaml", "--as", "beta")
    lines = say("charter", "show", "small.yaml").lines
    terms = values(lines)
    assert terms["min_sum_sites"] == [
        "3",
        "a sum is opened of at least 3 of 3 sites: at least 2 of them are honest and hide each other",
    ]
    # Two values a slot, three sites: a site's integers reach B = (2^22 - 1) // 3, and half a step of
    # n * w for n = max_examples is M / (2 B).
    assert terms["error bound"][0] == f"{1.0 / (2 * ((2**22 - 1) // 3)):.1e}"
    assert {party: terms[party][2] for party in SIGNERS} == {
        "alpha": "missing",
        "beta": "signed",
        "gamma": "missing",
        "key-holder": "missing",
    }
    keys = {line.split()[0]: line.split()[1:3] for line in say("keys", "show", "small.yaml").lines[1:-1]}
    assert {party: terms[party][:2] for party in keys} == keys
    assert lines[-1] == "in force: none yet, signatures are missing"


def test_show_of_an_older_edition_and_of_none(file: FederationFile, say: Say) -> None:
    in_force(say)
    file.document["limits"]["rounds"] = 50
    file.save()
    say("charter", "new", "small.yaml")
    newest = say("charter", "show", "small.yaml").lines
    assert newest[-3:] == ["against edition 1:", "  max_rounds: 10000 → 50", "in force: edition 1"]
    older = say("charter", "show", "small.yaml", "--edition", "1").lines
    assert older[0] == "edition 1 of the charter of small"
    assert values(older)["max_rounds"][0] == "10000"
    assert older[1] == f"cd  {charter_in_force('small/keys').digest}"
    said = say("charter", "show", "small.yaml", "--edition", "3")
    assert (said.code, said.complaints) == (2, ["there is no edition 3 of the charter of small: 1, 2"])


def test_show_under_the_other_protections_claims_no_more_than_they_hold(
    file: FederationFile, say: Say
) -> None:
    file.document["protection"] = "he"
    file.save()
    in_force(say)
    terms = values(say("charter", "show", "small.yaml").lines)
    assert terms["min_sum_sites"] == ["3", "a sum is opened of at least 3 of 3 sites"]
    assert "error bound" not in terms
    assert terms["protection"][0] == "he"


def test_check_is_one_line_when_all_is_in_order(file: FederationFile, say: Say) -> None:
    in_force(say)
    expected = [
        "edition 1 of the charter of small is in force, signed by alpha, beta, gamma, key-holder; nothing "
        "differs from it"
    ]
    assert say("charter", "check", "small.yaml").lines == expected
    for party in SIGNERS:
        assert say("charter", "check", "small.yaml", "--as", party).lines == expected


def test_check_lists_everything_at_once(file: FederationFile, say: Say) -> None:
    in_force(say)
    file.document["limits"]["rounds"] = 50
    file.save()
    say("charter", "new", "small.yaml")
    say("charter", "sign", "small.yaml", "--as", "beta", "--as", "key-holder")
    file.document["sites"][0]["data"]["sql"] = "SELECT note, organ, category FROM visits WHERE id > 3"
    file.document["limits"]["local_epochs"] = 7
    file.save()
    said = say("charter", "check", "small.yaml")
    assert said.code == 2
    starts = [
        "edition 2 of the charter waits for alpha: 'crosscloud charter sign --as alpha'",
        "edition 2 of the charter waits for gamma: 'crosscloud charter sign --as gamma'",
        "local_epochs: the federation file has 7, the charter in force has 100: ",
        "max_rounds: the federation file has 50, the charter in force has 10000: ",
        "alpha: the query with digest ",
    ]
    assert len(said.complaints) == len(starts)
    assert all(line.startswith(start) for line, start in zip(said.complaints, starts, strict=True))
    own = say("charter", "check", "small.yaml", "--as", "gamma").complaints
    assert own == said.complaints[:4]
    assert say("charter", "check", "small.yaml", "--as", "key-holder").complaints == said.complaints[:4]


def test_check_before_any_charter_is_in_force(file: FederationFile, say: Say) -> None:
    said = say("charter", "check", "small.yaml")
    assert said.code == 2
    assert "has no charter yet" in said.complaints[0]
    say("keys", "init", "small.yaml")
    say("charter", "new", "small.yaml")
    waits = say("charter", "check", "small.yaml").complaints
    assert [line.split(":")[0] for line in waits] == [
        f"edition 1 of the charter waits for {signer}" for signer in SIGNERS
    ]


def test_check_asks_for_a_policy_and_a_party(file: FederationFile, say: Say) -> None:
    in_force(say)
    (file.keys / "beta/policy.yaml").unlink()
    assert say("charter", "check", "small.yaml").code == 0
    (line,) = say("charter", "check", "small.yaml", "--as", "beta").complaints
    assert line.startswith("beta: there is no ")
    assert line.endswith("keys/beta/policy.yaml: 'crosscloud charter sign --as beta'")
    said = say("charter", "check", "small.yaml", "--as", "mallory")
    assert (said.code, said.complaints) == (
        2,
        ["unknown site 'mallory': the federation has alpha, beta, gamma"],
    )


def test_an_altered_signature_is_no_missing_one(file: FederationFile, say: Say) -> None:
    in_force(say)
    signatures = file.keys / "charters/00001/signatures"
    shutil.copy(signatures / "alpha.json", signatures / "beta.json")
    for command in ("show", "check"):
        said = say("charter", command, "small.yaml")
        assert said.code == 1
        assert said.complaints == ["a document that should be beta's names another signer"]
