from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from components.agreement.private_keys import load_signing_key
from components.artifacts.stores import open_store
from components.rounds.state import round_key
from tests.pipelines.commands.conftest import OWNERS, SITES, in_force

if TYPE_CHECKING:
    from tests.pipelines.command_line import Say
    from tests.pipelines.commands.conftest import FederationFile


def fingerprint_of(file: FederationFile, owner: str, name: str) -> str:
    """By hand: sixteen digits of SHA-256 over the 32 bytes of the public key."""
    key = load_pem_private_key((file.keys / owner / name).read_bytes(), None)
    public = key.public_key().public_bytes_raw()  # type: ignore[union-attr]
    return hashlib.sha256(public).hexdigest()[:16]


def test_init_makes_the_keys_of_all_parties_of_a_local_federation(file: FederationFile, say: Say) -> None:
    header, *rows, following = say("keys", "init", "small.yaml").lines
    assert header.split() == ["owner", "keys", "private", "keys", "lie", "in"]
    assert [row.split() for row in rows] == [
        [owner, "made", f".crosscloud/small/keys/{owner}"] for owner in OWNERS
    ]
    assert following == "next: crosscloud charter new small.yaml"
    private = sorted(file.keys.rglob("*.key"))
    assert len(private) == len(OWNERS) + len(SITES)
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    before = {path: path.read_bytes() for path in private}
    again = say("keys", "init", "small.yaml").lines
    assert [row.split()[1] for row in again[1:-1]] == ["kept"] * len(OWNERS)
    assert {path: path.read_bytes() for path in sorted(file.keys.rglob("*.key"))} == before


def test_init_of_one_party_says_who_is_missing(file: FederationFile, say: Say) -> None:
    lines = say("keys", "init", "small.yaml", "--as", "beta", "--as", "key-holder").lines
    assert lines[-1] == (
        "no keys yet of alpha, gamma, coordinator: crosscloud keys init small.yaml --as alpha"
    )
    assert sorted(path.parent.name for path in file.keys.rglob("signing.key")) == ["beta", "key-holder"]
    assert not (file.keys / "key-holder/agreement.key").exists()


def test_replaced_keys_are_in_order_before_and_after_the_edition(file: FederationFile, say: Say) -> None:
    in_force(say)
    lines = say("keys", "replace", "small.yaml", "--as", "beta").lines
    folder = ".crosscloud/small/keys/beta"
    assert lines == [
        f"beta has new keys in {folder} and offers them on card 2",
        f"set aside in {folder}: signing.replaced-1.key, agreement.replaced-1.key; needed until the next "
        "edition is in force",
        "next: crosscloud charter new small.yaml, which all sign; until then the old keys count",
    ]
    assert say("keys", "check", "small.yaml", "--as", "beta").code == 0
    shown = say("keys", "show", "small.yaml").lines
    old = fingerprint_of(file, "beta", "signing.replaced-1.key")
    (row,) = [line for line in shown if line.startswith("beta")]
    assert old in row
    assert row.endswith("edition 1 of the charter; its card offers others")
    assert "  sites: beta has other keys" in say("charter", "new", "small.yaml").lines
    say("charter", "sign", "small.yaml", "--all")
    assert say("keys", "check", "small.yaml", "--as", "beta").code == 0
    (row,) = [line for line in say("keys", "show", "small.yaml").lines if line.startswith("beta")]
    assert fingerprint_of(file, "beta", "signing.key") in row


@pytest.mark.parametrize("command", ["init", "check", "replace"])
def test_a_stranger_is_named(file: FederationFile, say: Say, command: str) -> None:
    said = say("keys", command, "small.yaml", "--as", "mallory")
    assert said.code == 2
    assert said.complaints == [f"'mallory' is no party of small: {', '.join(OWNERS)} are"]
    assert not file.keys.exists()


def test_a_federation_of_several_machines_makes_the_keys_of_those_it_is_told(
    file: FederationFile, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.document |= {"state_uri": "s3://bucket/state", "exchange_uri": "s3://bucket/exchange"}
    file.save()
    monkeypatch.setenv("CROSSCLOUD_KEYS", str(file.folder / "private"))
    said = say("keys", "init", "small.yaml")
    assert said.code == 2
    assert said.complaints == [
        "the keys of small lie at s3://bucket/keys, so its parties may be on several machines: name yours "
        f"with --as ({', '.join(OWNERS)})"
    ]
    assert not (file.folder / "private").exists()


def test_show_has_fingerprints_that_a_party_can_compute_itself(file: FederationFile, say: Say) -> None:
    assert say("keys", "show", "small.yaml").complaints == [
        "there are no public keys at small/keys: make them with 'crosscloud keys init small.yaml'"
    ]
    say("keys", "init", "small.yaml")
    shown = say("keys", "show", "small.yaml").lines
    for owner, row in zip(OWNERS, shown[1:], strict=False):
        agreement = fingerprint_of(file, owner, "agreement.key") if owner in SITES else "–"
        signing = fingerprint_of(file, owner, "signing.key")
        assert re.split(r"  +", row) == [owner, signing, agreement, "its card"]
    in_force(say)
    assert say("keys", "init", "small.yaml").code == 0
    parties, _, certificates = "\n".join(say("keys", "show", "small.yaml").lines).partition("\n\n")
    assert parties.count("edition 1 of the charter") == len(OWNERS)
    header, row = certificates.splitlines()
    assert header.split()[:2] == ["encryption", "key"]
    (public,) = (path for path in (file.keys / "contexts").iterdir())
    assert row.split() == ["1", "sealed", "1", "20", public.name.split("-")[1].split(".")[0]]


def test_init_makes_the_first_encryption_key_once_a_charter_is_in_force(
    file: FederationFile, say: Say
) -> None:
    in_force(say)
    assert not (file.keys / "certificates").exists()
    said = say("keys", "init", "small.yaml", "--as", "key-holder").lines
    assert said[2].startswith(
        "encryption key 1 for protection sealed serves from round 1 on, public context "
    )
    assert said[-1] == "next: crosscloud keys check small.yaml"
    assert len(say("keys", "init", "small.yaml", "--as", "key-holder").lines) == 3
    assert len(list((file.keys / "certificates").rglob("*.json"))) == 1


def test_rotate_serves_from_the_next_round_without_a_ticket(file: FederationFile, say: Say) -> None:
    in_force(say)
    (first,) = say("keys", "rotate", "small.yaml").lines
    assert first.startswith("encryption key 1 for protection sealed serves from round 1 on")
    assert say("keys", "rotate", "small.yaml").complaints == [
        "the newest key serves from round 1: the next one must serve from a later round, got 1"
    ]
    state, exchange = open_store("small/state"), open_store("small/exchange")
    exchange.create("rounds/00001-1/ticket.json", b"{}")
    assert say("keys", "rotate", "small.yaml", "--first-round", "1").complaints == [
        "round 1 was opened with the key before: a new key can serve from 2 on"
    ]
    (second,) = say("keys", "rotate", "small.yaml").lines
    assert second.startswith("encryption key 2 for protection sealed serves from round 2 on")
    for number in (1, 2, 3):
        state.create(round_key(number, "round.json"), b"{}")
    (third,) = say("keys", "rotate", "small.yaml", "--first-round", "9").lines
    assert third.startswith("encryption key 3 for protection sealed serves from round 9 on")
    rows = "\n".join(say("keys", "show", "small.yaml").lines).partition("\n\n")[2].splitlines()[1:]
    assert [row.split()[2:4] for row in rows] == [["1", "1"], ["2", "8"], ["9", "28"]]
    assert say("keys", "rotate", "small.yaml", "--first-round", "40").complaints == [
        "rounds 29 to 39 would have no key, the one before may serve 20 rounds: rotate with an earlier "
        "--first-round"
    ]
    assert len(list((file.keys / "key-holder").glob("*.secret"))) == 3


def test_rotate_needs_a_charter_a_protection_and_the_key_holders_own_keys(
    file: FederationFile, say: Say
) -> None:
    assert "no charter at small/keys" in say("keys", "rotate", "small.yaml").err
    in_force(say)
    shutil.copy(file.keys / "alpha/signing.key", file.keys / "key-holder/signing.key")
    (line,) = say("keys", "rotate", "small.yaml").complaints
    assert "keys/key-holder holds another signing key than the charter names: restore the one with" in line
    assert not (file.keys / "certificates").exists()


def test_rotate_is_nothing_under_no_protection(file: FederationFile, say: Say) -> None:
    file.document["protection"] = "none"
    file.save()
    in_force(say)
    assert say("keys", "rotate", "small.yaml").complaints == [
        "protection none needs no encryption key: there is none to rotate"
    ]
    assert say("keys", "check", "small.yaml").code == 0


def test_check_passes_what_init_made(file: FederationFile, say: Say) -> None:
    say("keys", "init", "small.yaml")
    expected = [f"the keys of {', '.join(OWNERS)} are in order"]
    assert say("keys", "check", "small.yaml").lines == expected
    in_force(say)
    say("keys", "rotate", "small.yaml")
    assert say("keys", "check", "small.yaml").lines == expected


def test_check_lists_every_problem(file: FederationFile, say: Say) -> None:
    in_force(say)
    say("keys", "rotate", "small.yaml")
    named = fingerprint_of(file, "gamma", "agreement.key")
    (file.keys / "alpha/signing.key").unlink()
    (file.keys / "beta/agreement.key").chmod(0o644)
    shutil.copy(file.keys / "beta/agreement.key", file.keys / "gamma/agreement.key")
    (file.keys / "gamma/agreement.key").chmod(0o600)
    (file.keys / "coordinator/signing.key").write_text("no key")
    next((file.keys / "key-holder").glob("*.secret")).unlink()
    said = say("keys", "check", "small.yaml")
    assert said.code == 2
    starts = [
        "alpha: no private key at ",
        "beta: ",
        "gamma: ",
        "coordinator: ",
        "key-holder: no private key at ",
    ]
    assert len(said.complaints) == len(starts)
    assert all(line.startswith(start) for line, start in zip(said.complaints, starts, strict=True))
    assert "mode 0644" in said.complaints[1]
    assert said.complaints[2].endswith(
        "keys/gamma holds another agreement key than the charter names: restore the one with fingerprint "
        f"{named}"
    )
    assert say("keys", "check", "small.yaml", "--as", "coordinator").complaints == [said.complaints[3]]


def test_check_compares_with_the_card_while_there_is_no_charter(file: FederationFile, say: Say) -> None:
    say("keys", "init", "small.yaml", "--as", "beta")
    shutil.copytree(file.keys / "beta", file.keys / "alpha")
    said = say("keys", "check", "small.yaml", "--as", "alpha", "--as", "beta")
    assert said.complaints == [
        "alpha: alpha has offered no keys at small/keys: it does with 'crosscloud keys init --as alpha'"
    ]


def test_check_warns_in_the_last_tenth_and_refuses_after_it(file: FederationFile, say: Say) -> None:
    in_force(say)
    say("keys", "rotate", "small.yaml")
    state = open_store("small/state")
    for number in range(1, 18):
        state.create(round_key(number, "round.json"), b"{}")
    assert say("keys", "check", "small.yaml").err == ""
    state.create(round_key(18, "round.json"), b"{}")
    said = say("keys", "check", "small.yaml")
    assert (said.code, len(said.out.splitlines())) == (0, 1)
    assert said.complaints == [
        "key-holder: the encryption key may serve 2 more of its 20 rounds: step 'open' makes the next "
        "one in time if it can store it, 'crosscloud keys rotate' does now"
    ]
    assert say("keys", "check", "small.yaml", "--as", "alpha").err == ""
    for number in (19, 20):
        state.create(round_key(number, "round.json"), b"{}")
    said = say("keys", "check", "small.yaml")
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(
        "key-holder: the key for protection sealed may serve 20 rounds and round 21 is not"
    )
    say("keys", "rotate", "small.yaml")
    assert say("keys", "check", "small.yaml").err == ""


def test_check_misses_a_public_context_that_others_need(file: FederationFile, say: Say) -> None:
    in_force(say)
    say("keys", "rotate", "small.yaml")
    (public,) = (file.keys / "contexts").iterdir()
    public.write_bytes(public.read_bytes()[:-1] + b"?")
    assert say("keys", "check", "small.yaml").complaints == [
        "key-holder: the public context for protection sealed is not the certified one"
    ]


def test_show_tells_a_card_that_offers_other_keys_than_the_charter(file: FederationFile, say: Say) -> None:
    in_force(say)
    shutil.rmtree(file.keys / "beta")
    (file.keys / "cards/beta.json").unlink()
    say("keys", "init", "small.yaml", "--as", "beta")
    rows = {line.split()[0]: line for line in say("keys", "show", "small.yaml").lines if line}
    assert rows["beta"].endswith("edition 1 of the charter; its card offers others")
    assert rows["alpha"].endswith("edition 1 of the charter")
    assert fingerprint_of(file, "beta", "signing.key") not in rows["beta"]
    assert load_signing_key("small/keys", "beta")
