"""The `aggregate` step: who is in the sum, verified as it is added, and that nothing else is looked at."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key, shortfall_key, sum_key
from components.agreement.sealed_manifest import SealedManifest, blob_key, manifest_key
from components.artifacts.documents import digest
from components.artifacts.stores import key_of
from components.encryption.ciphertext_sum import attempt_summer
from components.encryption.contexts import public_context
from components.encryption.protection import sealer
from components.errors import IntegrityError, QuorumNotReachedError
from components.execution.outcome import Outcome
from tests.components.aggregation.three_sites import SITES, ThreeSites, put_in_force
from tests.components.rounds.walks import FOUR, Walked, content, walk

LENGTH = 29  # 4 classes of 6 weights and a bias, and the count; one digit more under `sealed`
protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


def cutoff(three: ThreeSites) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(three.exchange.read(cutoff_key(three.opened.ticket)))
    return found


def members(outcome: Outcome) -> list[str]:
    found: list[str] = outcome.manifest["sites"]
    return found


def publish(three: ThreeSites, site: str, blob: bytes, /, *, signer: str = "", **changes: Any) -> None:
    """Replaces what lies in the exchange for a site by a blob and a manifest that says `changes` of it."""
    attempt = three.attempt()
    certified = attempt.certificate()
    fields: dict[str, Any] = {
        "charter": three.charter.digest,
        "ticket": three.opened.ticket.digest,
        "roster": attempt.roster().digest,
        "purpose": "update",
        "site": site,
        "protection": three.request.protection,
        "certificate": certified.digest if certified else "",
        "blob": digest(blob),
        "size": len(blob),
        "length": LENGTH + (three.request.protection == "sealed"),
    }
    manifest = SealedManifest(**(fields | changes))
    folder = three.exchange_folder
    (folder / blob_key(three.opened.ticket, site)).write_bytes(blob)
    signed = manifest.signed(three.place(signer or site).key)
    (folder / manifest_key(three.opened.ticket, site)).write_bytes(signed)


def flip(path: Path, position: int) -> None:
    found = bytearray(path.read_bytes())
    found[position] ^= 1
    path.write_bytes(found)


def sum_of(three: ThreeSites) -> bytes:
    return three.exchange.read(sum_key(three.opened.ticket))


def values_of(three: ThreeSites) -> Any:
    """Under `none`: what is in the sum, behind the header."""
    return np.frombuffer(sum_of(three)[80:], "<f8")


def only(walked: Walked, *sites: str) -> bytes:
    """The sum of these sites' updates, from their bytes alone."""
    adder = attempt_summer(walked.three.attempt())
    blobs = [io.BytesIO(walked.blob(site).read_bytes()) for site in sites]
    return b"".join(adder.add(blobs, LENGTH + (walked.three.request.protection == "sealed")))


class TestTheSum:
    @protections
    def test_is_of_everybody_who_sealed(self, protection: str) -> None:
        walked = walk("sealed", protection)
        three = walked.three
        outcome = three.aggregate(walked.sealed)
        assert outcome.reference == f"{three.exchange_uri}/{sum_key(three.opened.ticket)}"
        assert members(outcome) == list(SITES)
        sizes = [walked.blob(site).stat().st_size for site in SITES]
        assert outcome.manifest["bytes_received"] == sum(sizes)
        assert outcome.manifest["bytes"] == outcome.bytes_sent == sizes[0] == len(sum_of(three))
        assert cutoff(three) == {
            "roster": three.attempt().roster().digest,
            "members": list(SITES),
            "left_out": {},
        }

    def test_under_none_is_the_sum(self) -> None:
        walked = walk("summed", "none")
        alpha, beta, gamma = (walked.three.weighted(site) for site in SITES)
        assert np.array_equal(values_of(walked.three), alpha + beta + gamma)

    @protections
    def test_opens_to_the_sum_of_exactly_its_members(self, protection: str) -> None:
        walked = walk("released", protection, sites=FOUR, lost="delta")
        three = walked.three
        opened = three.open_sum(walked.total)
        aggregate = three.exchange.read(f"{three.opened.ticket.folder}/aggregate.safetensors")
        assert opened.manifest["aggregate"] == digest(aggregate)
        assert np.frombuffer(aggregate[-8:], "<f8")[0] == 26 + 16 + 40

    @protections
    def test_leaves_out_exactly_the_site_whose_update_is_bad(self, protection: str) -> None:
        """Verified as they are added: the sum that was begun with it is dropped, and not what it left."""
        walked = walk("sealed", protection, sites=FOUR)
        three, ticket = walked.three, walked.three.opened.ticket
        for site in FOUR:
            others = [each for each in FOUR if each != site]
            flip(walked.blob(site), -2)
            assert members(three.aggregate(walked.sealed)) == others
            reason = f"refused: the sealed update of {site} is not the one its manifest signs"
            assert cutoff(three)["left_out"] == {site: reason}
            assert sum_of(three) == only(walked, *others)
            flip(walked.blob(site), -2)
            for key in (cutoff_key, sum_key):
                (three.exchange_folder / key(ticket)).unlink()

    def test_leaves_out_two_bad_ones_each_for_its_own_reason(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        flip(walked.blob("alpha"), 100)
        walked.blob("gamma").write_bytes(walked.blob("gamma").read_bytes() + bytes(8))
        assert members(walked.three.aggregate(walked.sealed)) == ["beta", "delta"]
        left_out = cutoff(walked.three)["left_out"]
        assert set(left_out) == {"alpha", "gamma"}
        for site, reason in left_out.items():
            assert reason.startswith("refused: ")
            assert site in reason or "padded" in reason

    def test_is_whole_or_not_there(self, tmp_path: Path) -> None:
        """Nothing of a sum that broke off lies in the exchange."""
        walked = walk("summed", "sealed")
        three = walked.three
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        flip(walked.blob("gamma"), -8)
        before = content(three.exchange_uri)
        with pytest.raises(IntegrityError, match="gamma"):
            three.aggregate(walked.sealed)
        assert content(three.exchange_uri) == before


FORGERIES: list[Callable[[dict[str, Any]], object]] = [
    lambda document: document | {"signature": ""},
    lambda document: document | {"signature": base64.b64encode(bytes(64)).decode()},
    lambda document: {name: document[name] for name in ("body", "signer")},
    lambda document: document["body"],
    lambda document: document | {"signer": "alpha"},
    lambda document: document | {"body": document["body"] | {"length": LENGTH + 1}},
    lambda document: [document],
]
NONSENSE: list[dict[str, Any]] = [
    *({"size": size} for size in (0, -1, 2**50, "all", None, 1.5)),
    *({"length": length} for length in ("29", None)),
    {"blob": None},
    {"certificate": None},
]


class TestWhatIsNotAsItWasSigned:
    """Each is left out with its reason, and the sum is that of the others."""

    @protections
    def test_an_altered_update(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        for position in (0, 90, -1):
            flip(walked.blob("beta"), position)
            is_left_out(walked, "refused: ")
            flip(walked.blob("beta"), position)

    @protections
    def test_bytes_of_another_size_or_that_would_crash_a_parser(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        blob = walked.blob("beta").read_bytes()
        for changed in (blob[:-1], b"", blob + b"\0", b"\xff" * len(blob)):
            walked.blob("beta").write_bytes(changed)
            is_left_out(walked, "refused: ")

    def test_an_unsigned_or_altered_manifest(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        document = json.loads(walked.manifest("beta").read_bytes())
        for forge in FORGERIES:
            walked.manifest("beta").write_text(json.dumps(forge(document)))
            is_left_out(walked, "refused: ")

    def test_a_manifest_that_is_none(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        for manifest in (b"", b"\x80\x04garbage", b"[" * 60_000, b"x" * 70_000):
            walked.manifest("beta").write_bytes(manifest)
            is_left_out(walked, "refused: ")

    def test_one_that_another_site_signed(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        publish(walked.three, "beta", walked.blob("beta").read_bytes(), signer="alpha")
        is_left_out(walked, "refused: ")

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_one_swapped_with_another_sites(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        for path in (walked.blob, walked.manifest):
            of_beta, of_gamma = path("beta").read_bytes(), path("gamma").read_bytes()
            path("beta").write_bytes(of_gamma)
            path("gamma").write_bytes(of_beta)
        assert members(walked.three.aggregate(walked.sealed)) == ["alpha", "delta"]
        assert set(cutoff(walked.three)["left_out"]) == {"beta", "gamma"}

    @protections
    def test_another_sites_blob_beside_its_own_manifest(self, protection: str) -> None:
        """Under `sealed` the same masks twice: what is left of the sum would be one site's."""
        walked = walk("sealed", protection, sites=FOUR)
        walked.blob("beta").write_bytes(walked.blob("gamma").read_bytes())
        is_left_out(walked, "refused: the sealed update of beta is not the one its manifest signs")

    def test_one_replayed_from_the_round_before(self) -> None:
        first = walk("committed", "sealed", sites=FOUR)
        three = first.three.next_round()
        walked = replace(first, three=three, sealed=three.sealed())
        walked.blob("beta").write_bytes(first.blob("beta").read_bytes())
        walked.manifest("beta").write_bytes(first.manifest("beta").read_bytes())
        is_left_out(walked, "refused: the sealed update of beta was made for another ticket")

    def test_one_that_its_site_signed_for_something_else(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        blob = walked.blob("beta").read_bytes()
        for field in ("charter", "ticket", "roster", "purpose", "protection", "certificate"):
            publish(walked.three, "beta", blob, **{field: "0" * 64})
            is_left_out(walked, f"refused: the sealed update of beta was made for another {field}")
        publish(walked.three, "beta", blob, site="alpha")
        is_left_out(walked, "refused: a document that should be betas names another signer")

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_one_of_another_length(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        three = walked.three
        context = public_context(three.keys_uri, three.attempt().certificate())
        for length in (LENGTH - 1, LENGTH + 1, 5000):
            blob = b"".join(sealer(protection, context).seal(np.ones(length)))
            publish(three, "beta", blob, length=length)
            is_left_out(walked, f"refused: the sealed update of beta has {length} values, this round")
            publish(three, "beta", blob)  # or it says that it is of the right one
            is_left_out(walked, "refused: ")

    def test_a_signed_manifest_that_makes_no_sense(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        for changes in NONSENSE:
            publish(walked.three, "beta", walked.blob("beta").read_bytes(), **changes)
            is_left_out(walked, "refused: ")

    @protections
    def test_one_that_is_missing(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        walked.blob("beta").unlink()
        is_left_out(walked, "unreachable")
        walked.manifest("beta").unlink()
        is_left_out(walked, "unreachable")

    @protections
    def test_signed_bytes_that_are_no_sealed_update(self, protection: str) -> None:
        """A site that signs rubbish is the one that is left out; the sum of the others goes on."""
        walked = walk("sealed", protection, sites=FOUR)
        for blob in (b"\xff" * 312, b"XCSEALED" + bytes(304)):
            publish(walked.three, "beta", blob)
            is_left_out(walked, "refused: ")

    def test_a_signed_ciphertext_with_a_word_that_none_has(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        blob = bytearray(walked.blob("beta").read_bytes())
        blob[-8:] = b"\xff" * 8
        publish(walked.three, "beta", bytes(blob))
        is_left_out(walked, "refused: ")


def is_left_out(walked: Walked, reason: str) -> None:
    """Beta alone is left out, for `reason`, and the sum is that of the others."""
    others = ["alpha", "delta", "gamma"]
    outcome = walked.three.aggregate(walked.sealed)
    assert members(outcome) == others
    assert list(cutoff(walked.three)["left_out"]) == ["beta"]
    assert cutoff(walked.three)["left_out"]["beta"].startswith(reason)
    assert sum_of(walked.three) == only(walked, *others)
    for key in (cutoff_key, sum_key):
        (walked.three.exchange_folder / key(walked.three.opened.ticket)).unlink()


class TestWhatTheAggregatorHolds:
    SCRIPT = (
        "import json, sys\n"
        "from components.aggregation.secure_aggregation.summing import aggregate_updates\n"
        "sealed, more = json.loads(sys.argv[1])\n"
        "print(aggregate_updates(sealed, {}, **more).manifest['sites'])\n"
        "print({'tenseal', 'torch', 'duckdb', 'pyarrow', 'transformers'} & sys.modules.keys())\n"
    )

    @pytest.mark.parametrize("protection", ["he", "sealed"])
    def test_is_no_secret_and_no_library_that_parses(self, protection: str) -> None:
        """Public keys, the public context and the exchange are all that is there, and they are enough."""
        walked = walk("sealed", protection)
        three, home = walked.three, Path(os.environ["CROSSCLOUD_HOME"])
        for owner in (*SITES, "coordinator", "key-holder"):
            shutil.rmtree(three.keys_folder / owner)
        for folder in ("sites", "state"):
            shutil.rmtree(three.exchange_folder.parent / folder, ignore_errors=True)
        kept = {path.relative_to(home / "small").parts[0] for path in home.rglob("*") if path.is_file()}
        assert kept == {"keys", "exchange"}
        more = {
            "ticket": three.opened.reference,
            "exchange_uri": three.exchange_uri,
            "keys_uri": three.keys_uri,
        }
        environment = {name: value for name, value in os.environ.items() if name != "CROSSCLOUD_KEYS"}
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, json.dumps([walked.sealed, more])],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert done.stdout.splitlines() == [str(list(SITES)), "set()"]
        assert three.exchange.exists(sum_key(three.opened.ticket))


class TestWhoIsInIt:
    @protections
    def test_a_site_that_says_it_failed_is_not(self, protection: str) -> None:
        """What lies in the exchange does not count for it."""
        walked = walk("sealed", protection, sites=FOUR)
        walked.three.aggregate(walked.sealed | {"alpha": ""}, {"alpha": "timeout: too slow"})
        assert cutoff(walked.three)["left_out"] == {"alpha": "timeout: too slow"}
        assert cutoff(walked.three)["members"] == ["beta", "delta", "gamma"]

    def test_one_that_gave_no_reason_has_one_all_the_same(self) -> None:
        walked = walk("sealed", "none")
        walked.three.aggregate({"alpha": walked.sealed["alpha"], "gamma": walked.sealed["gamma"]})
        assert cutoff(walked.three)["left_out"] == {"beta": "failed: no sealed update"}

    def test_a_site_that_is_not_on_the_roster_is_not(self) -> None:
        walked = walk("trained", "none")
        three = walked.three
        roster = three.roster(walked.commitments | {"beta": ""}, {"beta": "bad_data"})
        sealed = three.seal(roster, ("alpha", "gamma"))
        publish(three, "beta", walked.blob("alpha").read_bytes())
        outcome = three.aggregate(sealed | {"beta": f"{three.exchange_uri}/beta"})
        assert members(outcome) == ["alpha", "gamma"]
        assert values_of(three)[-1] == 26 + 40


class TestQuorum:
    @pytest.mark.parametrize(("protection", "least"), [("none", 2), ("he", 2), ("sealed", 3)])
    def test_too_few_are_refused_and_the_attempt_is_marked(self, protection: str, least: int) -> None:
        walked = walk("sealed", protection)
        three, ticket = walked.three, walked.three.opened.ticket
        flip(walked.blob("beta"), -1)
        lost = {} if protection == "sealed" else {"gamma": ""}
        with pytest.raises(QuorumNotReachedError) as caught:
            three.aggregate(walked.sealed | lost, {"gamma": "oom"})
        message = str(caught.value)
        assert f"round 1: {least - 1} of 3 sites on the roster sealed, the quorum is {least}" in message
        assert ("gamma: oom" in message) == bool(lost)
        assert "beta: refused: " in message
        assert "a new attempt is opened" in message
        assert "\n" not in message
        assert not three.exchange.exists(cutoff_key(ticket))
        assert not three.exchange.exists(sum_key(ticket))
        shortfall = json.loads(three.exchange.read(shortfall_key(ticket)))
        assert shortfall["members"] == (["alpha"] if lost else ["alpha", "gamma"])
        assert shortfall["roster"] == three.attempt().roster().digest
        assert set(shortfall["left_out"]) == {"beta", *lost}

    def test_nobody_at_all_is_too_few(self) -> None:
        walked = walk("called", "sealed")
        with pytest.raises(QuorumNotReachedError, match="0 of 3 sites on the roster sealed"):
            walked.three.aggregate({})

    @protections
    def test_the_next_run_opens_a_new_attempt_that_names_the_void_and_can_succeed(
        self, protection: str
    ) -> None:
        walked = walk("sealed", protection)
        three = walked.three
        with pytest.raises(QuorumNotReachedError):
            three.aggregate(walked.sealed | {"beta": "", "gamma": ""})
        again = three.next_attempt()
        ticket = again.opened.ticket
        assert (ticket.round_number, ticket.attempt) == (1, 2)
        assert ticket.void == digest(three.exchange.read(f"{three.opened.ticket.folder}/void.json"))
        assert (ticket.model, ticket.previous) == (three.opened.ticket.model, "")
        committed = again.committed()
        assert (committed.manifest["round"], committed.manifest["sites"]) == (1, list(SITES))

    def test_of_the_charter_and_nobody_elses(self) -> None:
        """A stricter edition counts from the next attempt on, not for the one that is open."""
        walked = walk("sealed", "none")
        three = walked.three
        edition = replace(
            three.charter, edition=2, previous=three.charter.digest, min_sum_sites=3, min_sites=3
        )
        put_in_force("small", edition)
        assert members(three.aggregate(walked.sealed | {"beta": ""})) == ["alpha", "gamma"]


class TestOnce:
    @protections
    def test_a_later_call_cannot_change_the_set(self, protection: str) -> None:
        walked = walk("summed", protection, sites=FOUR)
        three = walked.three
        before = content(three.exchange_uri)
        second = three.aggregate({"alpha": walked.sealed["alpha"], "beta": "", "gamma": ""})
        assert second.reference == walked.total
        assert members(second) == list(FOUR)
        assert content(three.exchange_uri) == before

    @protections
    def test_a_late_upload_does_not_get_in(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        three = walked.three
        three.aggregate(walked.sealed | {"beta": ""}, {"beta": "timeout"})
        assert members(three.aggregate(walked.sealed)) == ["alpha", "delta", "gamma"]
        assert cutoff(three)["left_out"] == {"beta": "timeout"}

    @protections
    def test_one_that_was_killed_before_the_sum_adds_the_set_it_had_fixed(self, protection: str) -> None:
        walked = walk("summed", protection, sites=FOUR, lost="delta")
        three = walked.three
        summed = sum_of(three)
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        three.seal(walked.roster, ["delta"])
        three.aggregate(walked.sealed | {"delta": f"{three.exchange_uri}/delta", "alpha": ""})
        assert sum_of(three) == summed
        assert key_of(three.exchange, walked.total) == sum_key(three.opened.ticket)

    @protections
    def test_a_member_altered_after_the_cut_off_is_not_added(self, protection: str) -> None:
        walked = walk("summed", protection)
        three = walked.three
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        flip(walked.blob("beta"), 200)
        with pytest.raises(IntegrityError, match="beta"):
            three.aggregate(walked.sealed)
        assert not three.exchange.exists(sum_key(three.opened.ticket))
