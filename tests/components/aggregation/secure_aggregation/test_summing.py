"""The `aggregate` step: who is in the sum, and that nothing unsigned ever reaches a parser."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.aggregation.secure_aggregation import summing
from components.agreement.cutoff import cutoff_key, shortfall_key, sum_key
from components.agreement.sealed_manifest import SealedManifest, blob_key, manifest_key
from components.artifacts.documents import digest
from components.artifacts.stores import key_of
from components.encryption import protection
from components.encryption.protection import Summer
from components.errors import IntegrityError, QuorumNotReachedError
from components.execution.outcome import Outcome
from tests.components.aggregation.three_sites import SITES, ThreeSites

LENGTH = 29  # 4 classes of 6 weights and a bias, and the count
Start = Callable[[str], ThreeSites]
protections = pytest.mark.parametrize("protection_name", ["none", "he"])


class Watched:
    """A real summer that remembers every blob it was given to look at."""

    seen: list[bytes]

    def __init__(self, real: Summer, seen: list[bytes]) -> None:
        self._real, self.seen = real, seen

    def check(self, blob: bytes, length: int) -> None:
        self.seen.append(blob)
        self._real.check(blob, length)

    def add(self, blobs: Sequence[bytes], length: int) -> bytes:
        self.seen += blobs
        return self._real.add(blobs, length)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return lambda name: ThreeSites.start(protection=name)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every blob that a summer is given."""
    blobs: list[bytes] = []
    real = protection.summer
    monkeypatch.setattr(summing, "summer", lambda name, context: Watched(real(name, context), blobs))
    return blobs


def blob_path(three: ThreeSites, site: str) -> Path:
    return three.exchange_folder / blob_key(three.opened.ticket, site)


def manifest_path(three: ThreeSites, site: str) -> Path:
    return three.exchange_folder / manifest_key(three.opened.ticket, site)


def cutoff(three: ThreeSites) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(three.exchange.read(cutoff_key(three.opened.ticket)))
    return found


def members(outcome: Outcome) -> list[str]:
    found: list[str] = outcome.manifest["sites"]
    return found


def publish(three: ThreeSites, site: str, blob: bytes, /, *, signer: str = "", **changes: Any) -> None:
    """Replaces what lies in the exchange for a site by a blob and a manifest that says `changes` of it."""
    context = protection.context_fingerprint(_context(three)) if three.request.protection == "he" else ""
    fields: dict[str, Any] = {
        "ticket": three.opened.ticket.digest,
        "roster": three.attempt().roster().digest,
        "purpose": "update",
        "site": site,
        "protection": three.request.protection,
        "context": context,
        "blob": digest(blob),
        "size": len(blob),
        "length": LENGTH,
    }
    manifest = SealedManifest(**(fields | changes))
    blob_path(three, site).write_bytes(blob)
    manifest_path(three, site).write_bytes(manifest.signed(three.place(signer or site).key))


def _context(three: ThreeSites) -> bytes:
    return (three.keys_folder / "contexts/he.public").read_bytes()


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@protections
def test_everybody_who_sealed_is_in_the_sum(start: Start, protection_name: str) -> None:
    three = start(protection_name)
    outcome = three.aggregate(three.sealed())
    assert outcome.reference == f"{three.exchange_uri}/{sum_key(three.opened.ticket)}"
    assert members(outcome) == list(SITES)
    sizes = [blob_path(three, site).stat().st_size for site in SITES]
    assert outcome.manifest["bytes_received"] == sum(sizes)
    assert outcome.manifest["bytes"] == outcome.bytes_sent == sizes[0]
    assert cutoff(three)["left_out"] == {}


def test_under_none_the_sum_is_the_sum(start: Start) -> None:
    three = start("none")
    outcome = three.aggregate(three.sealed())
    values = np.frombuffer(three.exchange.read(key_of(three.exchange, outcome.reference))[80:], "<f8")
    alpha, beta, gamma = (three.weighted(site) for site in SITES)
    assert np.array_equal(values, alpha + beta + gamma)


class TestWhatIsNotAsItWasSigned:
    """Each is left out with its reason, and no parser sees a byte of it."""

    @protections
    @pytest.mark.parametrize("position", [0, 90, -1])
    def test_an_altered_update(
        self, start: Start, seen: list[bytes], protection_name: str, position: int
    ) -> None:
        three = start(protection_name)
        sealed = three.sealed()
        flip(blob_path(three, "beta"), position)
        self.is_left_out(three, sealed, seen, "refused: the sealed update of beta is not the one its")

    @pytest.mark.parametrize("change", [lambda blob: blob[:-1], lambda blob: b"", lambda blob: blob + b"\0"])
    def test_an_update_of_another_size(
        self, start: Start, seen: list[bytes], change: Callable[[bytes], bytes]
    ) -> None:
        three = start("none")
        sealed = three.sealed()
        path = blob_path(three, "beta")
        path.write_bytes(change(path.read_bytes()))
        self.is_left_out(three, sealed, seen, "refused: ")

    def test_bytes_that_would_crash_a_parser(self, start: Start, seen: list[bytes]) -> None:
        """A gzip bomb, a pickle, or a forged size field: all the same, they are not signed."""
        three = start("he")
        sealed = three.sealed()
        path = blob_path(three, "beta")
        path.write_bytes(b"\xff" * path.stat().st_size)
        self.is_left_out(three, sealed, seen, "refused: the sealed update of beta is not the one its")

    @pytest.mark.parametrize(
        "forge",
        [
            lambda document: document | {"signature": ""},
            lambda document: document | {"signature": base64.b64encode(bytes(64)).decode()},
            lambda document: {name: document[name] for name in ("body", "signer")},
            lambda document: document["body"],
            lambda document: document | {"signer": "alpha"},
            lambda document: document | {"body": document["body"] | {"length": LENGTH + 1}},
            lambda document: [document],
        ],
    )
    def test_an_unsigned_or_altered_manifest(
        self, start: Start, seen: list[bytes], forge: Callable[[dict[str, object]], object]
    ) -> None:
        three = start("none")
        sealed = three.sealed()
        path = manifest_path(three, "beta")
        path.write_text(json.dumps(forge(json.loads(path.read_bytes()))))
        self.is_left_out(three, sealed, seen, "refused: ")

    @pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"[" * 60_000, b"x" * 70_000])
    def test_a_manifest_that_is_none(self, start: Start, seen: list[bytes], content: bytes) -> None:
        three = start("none")
        sealed = three.sealed()
        manifest_path(three, "beta").write_bytes(content)
        self.is_left_out(three, sealed, seen, "refused: ")

    def test_one_that_another_site_signed(self, start: Start, seen: list[bytes]) -> None:
        three = start("none")
        sealed = three.sealed()
        publish(three, "beta", blob_path(three, "beta").read_bytes(), signer="alpha")
        self.is_left_out(three, sealed, seen, "refused: ")

    def test_one_swapped_with_another_sites(self, start: Start, seen: list[bytes]) -> None:
        three = start("he")
        sealed = three.sealed()
        for path in (blob_path, manifest_path):
            beta, gamma = path(three, "beta"), path(three, "gamma")
            of_beta, of_gamma = beta.read_bytes(), gamma.read_bytes()
            beta.write_bytes(of_gamma)
            gamma.write_bytes(of_beta)
        outcome = three.aggregate(sealed, min_sites=1)
        assert members(outcome) == ["alpha"]
        assert set(cutoff(three)["left_out"]) == {"beta", "gamma"}
        assert set(seen) == {blob_path(three, "alpha").read_bytes()}

    def test_another_sites_blob_beside_its_own_manifest(self, start: Start, seen: list[bytes]) -> None:
        three = start("he")
        sealed = three.sealed()
        blob_path(three, "beta").write_bytes(blob_path(three, "gamma").read_bytes())
        outcome = three.aggregate(sealed)
        assert members(outcome) == ["alpha", "gamma"]
        assert "not the one its manifest signs" in cutoff(three)["left_out"]["beta"]

    def test_one_replayed_from_the_round_before(self, start: Start, seen: list[bytes]) -> None:
        first = start("he")
        first.committed()
        three = first.next_round()
        sealed = three.sealed()
        for path in (blob_path, manifest_path):
            path(three, "beta").write_bytes(path(first, "beta").read_bytes())
        seen.clear()
        self.is_left_out(
            three, sealed, seen, "refused: the sealed update of beta was made for another ticket"
        )

    @pytest.mark.parametrize("field", ["ticket", "roster", "purpose", "site", "protection", "context"])
    def test_one_that_its_site_signed_for_something_else(
        self, start: Start, seen: list[bytes], field: str
    ) -> None:
        three = start("he")
        sealed = three.sealed()
        blob = blob_path(three, "beta").read_bytes()
        publish(three, "beta", blob, **{field: "alpha" if field == "site" else "0" * 64})
        self.is_left_out(three, sealed, seen, "refused: ")

    @protections
    @pytest.mark.parametrize("length", [LENGTH - 1, LENGTH + 1, 5000])
    def test_one_of_another_length(
        self, start: Start, seen: list[bytes], protection_name: str, length: int
    ) -> None:
        three = start(protection_name)
        sealed = three.sealed()
        context = _context(three) if protection_name == "he" else b""
        blob = protection.sealer(protection_name, context).seal(np.ones(length))
        publish(three, "beta", blob, length=length)
        reason = f"refused: the sealed update of beta has {length} values, this round's have {LENGTH}"
        self.is_left_out(three, sealed, seen, reason.replace("'", ""))

    @pytest.mark.parametrize(
        "changes",
        [{"size": 0}, {"size": -1}, {"size": 2**50}, {"size": "all"}, {"size": None}, {"size": 1.5},
         {"length": "29"}, {"blob": None}, {"length": None}],
        ids=str,
    )  # fmt: skip
    def test_a_signed_manifest_that_makes_no_sense(
        self, start: Start, seen: list[bytes], changes: dict[str, Any]
    ) -> None:
        three = start("none")
        sealed = three.sealed()
        publish(three, "beta", blob_path(three, "beta").read_bytes(), **changes)
        self.is_left_out(three, sealed, seen, "refused: ")

    @pytest.mark.parametrize("path", [blob_path, manifest_path])
    def test_one_that_is_missing(
        self, start: Start, seen: list[bytes], path: Callable[[ThreeSites, str], Path]
    ) -> None:
        three = start("none")
        sealed = three.sealed()
        path(three, "beta").unlink()
        outcome = three.aggregate(sealed)
        assert members(outcome) == ["alpha", "gamma"]
        assert cutoff(three)["left_out"]["beta"].startswith("unreachable")

    def is_left_out(self, three: ThreeSites, sealed: dict[str, str], seen: list[bytes], reason: str) -> None:
        """Beta alone is left out, for `reason`, and only what the others signed was looked at."""
        outcome = three.aggregate(sealed)
        assert members(outcome) == ["alpha", "gamma"]
        assert list(cutoff(three)["left_out"]) == ["beta"]
        assert cutoff(three)["left_out"]["beta"].startswith(reason)
        others = {blob_path(three, site).read_bytes() for site in ("alpha", "gamma")}
        assert set(seen) == others


@pytest.mark.parametrize("content", [b"\xff" * 312, b"", b"XCSEALED" + bytes(304)])
def test_signed_bytes_that_are_no_sealed_update_are_left_out(start: Start, content: bytes) -> None:
    """A site that signs rubbish is the one that is left out; the sum of the others goes on."""
    three = start("none")
    sealed = three.sealed()
    publish(three, "beta", content)
    outcome = three.aggregate(sealed)
    assert members(outcome) == ["alpha", "gamma"]
    assert cutoff(three)["left_out"]["beta"].startswith("refused: ")


def test_the_aggregator_loads_neither_tenseal_nor_torch(start: Start) -> None:
    three = start("he")
    sealed = three.sealed()
    script = (
        "import json, sys\n"
        "from components.aggregation.secure_aggregation.summing import aggregate_updates\n"
        "sealed, more = json.loads(sys.argv[1])\n"
        "print(aggregate_updates(sealed, {}, **more).manifest['sites'])\n"
        "print({'tenseal', 'torch', 'duckdb', 'pyarrow', 'transformers'} & sys.modules.keys())\n"
    )
    more = {
        "ticket": three.opened.reference,
        "min_sites": 2,
        "exchange_uri": three.exchange_uri,
        "keys_uri": three.keys_uri,
    }
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([sealed, more])], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(list(SITES)), "set()"]


def test_a_site_that_sealed_nothing_is_left_out_with_its_reason(start: Start) -> None:
    three = start("none")
    sealed = three.sealed()
    # What lies in the exchange does not count for a site that says it failed.
    three.aggregate(sealed | {"alpha": "", "beta": ""}, {"alpha": "timeout: too slow"}, min_sites=1)
    assert cutoff(three)["left_out"] == {"alpha": "timeout: too slow", "beta": "failed: no sealed update"}
    assert cutoff(three)["members"] == ["gamma"]


def test_a_site_that_is_not_on_the_roster_is_not_in_the_sum(start: Start) -> None:
    three = start("none")
    commitments = three.train()
    roster = three.roster(commitments | {"beta": ""}, {"beta": "bad_data"})
    sealed = three.seal(roster, ("alpha", "gamma"))
    publish(three, "beta", blob_path(three, "alpha").read_bytes())
    outcome = three.aggregate(sealed | {"beta": f"{three.exchange_uri}/beta"})
    assert members(outcome) == ["alpha", "gamma"]
    values = np.frombuffer(three.exchange.read(key_of(three.exchange, outcome.reference))[80:], "<f8")
    assert values[-1] == 26 + 40


class TestQuorum:
    def test_too_few_are_refused_and_the_attempt_is_marked(self, start: Start) -> None:
        three = start("none")
        sealed = three.sealed()
        flip(blob_path(three, "beta"), -1)
        with pytest.raises(QuorumNotReachedError) as caught:
            three.aggregate(sealed | {"gamma": ""}, {"gamma": "oom"}, min_sites=2)
        message = str(caught.value)
        assert "round 1: 1 of 3 sites" in message
        assert "the quorum is 2" in message
        assert "gamma: oom" in message
        assert "beta: refused: the sealed update of beta" in message
        assert "\n" not in message
        ticket = three.opened.ticket
        assert not three.exchange.exists(cutoff_key(ticket))
        assert not three.exchange.exists(sum_key(ticket))
        shortfall = json.loads(three.exchange.read(shortfall_key(ticket)))
        assert shortfall["members"] == ["alpha"]
        assert shortfall["roster"] == three.attempt().roster().digest
        assert set(shortfall["left_out"]) == {"beta", "gamma"}

    def test_the_next_run_opens_a_new_attempt_that_can_succeed(self, start: Start) -> None:
        three = start("none")
        sealed = three.sealed()
        with pytest.raises(QuorumNotReachedError):
            three.aggregate(sealed | {"beta": "", "gamma": ""})
        again = three.next_attempt()
        assert (again.opened.ticket.round_number, again.opened.ticket.attempt) == (1, 2)
        assert again.opened.ticket.digest != three.opened.ticket.digest
        assert members(again.aggregate(again.sealed())) == list(SITES)


class TestOnce:
    def test_a_later_call_cannot_change_the_set(self, start: Start) -> None:
        three = start("he")
        sealed = three.sealed()
        first = three.aggregate(sealed)
        fixed, total = (three.exchange.read(key(three.opened.ticket)) for key in (cutoff_key, sum_key))
        second = three.aggregate({"alpha": sealed["alpha"], "beta": "", "gamma": ""})
        assert not three.exchange.exists(shortfall_key(three.opened.ticket))
        assert second.reference == first.reference
        assert members(second) == list(SITES)
        assert three.exchange.read(cutoff_key(three.opened.ticket)) == fixed
        assert three.exchange.read(sum_key(three.opened.ticket)) == total

    def test_a_late_upload_does_not_get_in(self, start: Start) -> None:
        three = start("none")
        sealed = three.sealed()
        three.aggregate(sealed | {"beta": ""}, {"beta": "timeout"})
        assert members(three.aggregate(sealed)) == ["alpha", "gamma"]
        assert cutoff(three)["left_out"] == {"beta": "timeout"}

    def test_a_member_altered_after_the_cut_off_is_not_added(self, start: Start, seen: list[bytes]) -> None:
        three = start("he")
        sealed = three.sealed()
        three.aggregate(sealed)
        (three.exchange_folder / sum_key(three.opened.ticket)).unlink()
        flip(blob_path(three, "beta"), 1000)
        seen.clear()
        with pytest.raises(IntegrityError, match="beta"):
            three.aggregate(sealed)
        assert blob_path(three, "beta").read_bytes() not in seen
        assert not three.exchange.exists(sum_key(three.opened.ticket))
