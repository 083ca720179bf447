"""The `seal` step: a site seals the update it has committed to, once, for one roster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.commitment import commitment_key
from components.agreement.roster import Roster
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.agreement.site_update import encode_update, read_update, update_key
from components.artifacts.documents import digest
from components.encryption.protection import opener
from components.encryption.update_sealing.sealing import seal_update
from components.errors import BadDataError, RefusedError, SignatureError
from components.execution.outcome import Outcome
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import ThreeSites

Start = Callable[[str], ThreeSites]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return lambda protection: ThreeSites.start(protection=protection)


def seal(three: ThreeSites, roster: str, site: str = "alpha") -> Outcome:
    return seal_update(three.place(site), roster=roster, keys_uri=three.keys_uri)


def nothing_is_sealed(three: ThreeSites, site: str = "alpha") -> bool:
    ticket = three.opened.ticket
    return not any(three.exchange.exists(key(ticket, site)) for key in (blob_key, manifest_key))


def everything_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("protection", ["none", "he"])
def test_what_is_sealed_is_the_weighted_update_and_the_count(start: Start, protection: str) -> None:
    three = start(protection)
    roster = three.roster(three.train())
    outcome = seal(three, roster)
    attempt = three.attempt()
    manifest, blob = attempt.sealed(attempt.roster(), "alpha")
    secret = (three.keys_folder / "key-holder/he.secret").read_bytes() if protection == "he" else b""
    opened = opener(protection, secret).open(blob, 29)
    # 4 classes of 6 weights and a bias, and the count; `he` keeps values to 1e-4.
    expected = three.weighted("alpha")
    np.testing.assert_allclose(opened, expected, rtol=0, atol=1e-4 if protection == "he" else 0)
    assert opened[-1] == 26
    assert (manifest.length, manifest.size, manifest.blob) == (29, len(blob), digest(blob))
    assert outcome.manifest == {"digest": digest(blob), "bytes": len(blob), "protection": protection}
    document = three.exchange.read(manifest_key(three.opened.ticket, "alpha"))
    assert outcome.bytes_sent == len(blob) + len(document)


@pytest.mark.parametrize("protection", ["none", "he"])
def test_a_retry_sends_the_very_same_bytes(start: Start, protection: str) -> None:
    three = start(protection)
    roster = three.roster(three.train())
    first = seal(three, roster)
    paths = [three.exchange_folder / key(three.opened.ticket, "alpha") for key in (blob_key, manifest_key)]
    before = [path.read_bytes() for path in paths]
    assert seal(three, roster) == first
    for path in paths:
        path.unlink()
        assert seal(three, roster) == first
        assert [path.read_bytes() for path in paths] == before


def test_under_he_no_number_of_the_update_lies_in_the_exchange(start: Start) -> None:
    """Under `none` the same search finds all of them, so it is able to."""
    for protection in ("none", "he"):
        three = ThreeSites.start(protection, protection=protection)
        three.sealed()
        published = everything_in(three.exchange_folder)
        assert max(map(len, published)) > (100_000 if protection == "he" else 200)
        found = [
            any(pattern in content for content in published)
            for site in ("alpha", "beta", "gamma")
            for pattern in patterns(three, site)
        ]
        assert any(found) == (protection == "none")
        if protection == "none":
            assert sum(found) >= 3 * 29


def patterns(three: ThreeSites, site: str) -> list[bytes]:
    """Weighted and bare update as float64, value by value, and as pairs of float32."""
    place = three.place(site)
    weighted, update = three.weighted(site), read_update(place.store, place.ticket)
    found = [value.tobytes() for vector in (weighted, update.values) for value in vector if value]
    for vector in (weighted, update.values):
        floats: NDArray[np.float32] = vector.astype(np.float32)
        found += [floats[k : k + 2].tobytes() for k in range(len(floats) - 1)]
    return [*found, update.salt]


def test_a_roster_without_this_site_is_refused(start: Start) -> None:
    three = start("none")
    commitments = three.train()
    roster = three.roster(commitments | {"alpha": ""}, {"alpha": "timeout"})
    with pytest.raises(RefusedError, match="does not hold this site's commitment") as caught:
        seal(three, roster)
    assert caught.value.disclosed
    assert nothing_is_sealed(three)


def test_a_roster_with_another_commitment_of_this_site_is_refused(start: Start) -> None:
    three = start("none")
    called = Roster(
        ticket=three.opened.ticket.digest,
        commitments=_commitments(three) | {"alpha": "0" * 64},
        left_out={},
    )
    with pytest.raises(RefusedError, match="does not hold this site's commitment"):
        seal(three, three.sign_roster(called, "rosters/changed.json"))
    assert nothing_is_sealed(three)


def test_a_second_roster_for_the_same_ticket_is_refused(start: Start) -> None:
    """Two sums of different sets would give away their difference: one site's update."""
    three = start("none")
    first = three.roster(three.train())
    seal(three, first)
    blob = three.exchange.read(blob_key(three.opened.ticket, "alpha"))
    commitments = dict(three.attempt().roster().commitments)
    del commitments["gamma"]
    fewer = Roster(ticket=three.opened.ticket.digest, commitments=commitments, left_out={"gamma": "timeout"})
    with pytest.raises(RefusedError, match="second roster"):
        seal(three, three.sign_roster(fewer, "rosters/second.json"))
    assert three.exchange.read(blob_key(three.opened.ticket, "alpha")) == blob
    # The site that has not sealed yet but has seen the first roster refuses as well.
    three.place("beta").store.create(
        f"rosters/{three.opened.ticket.digest}.txt", three.attempt().roster().digest.encode()
    )
    with pytest.raises(RefusedError, match="second roster"):
        seal(three, f"{three.exchange_uri}/rosters/second.json", "beta")
    assert nothing_is_sealed(three, "beta")


def test_a_roster_that_the_coordinator_did_not_sign_is_refused(start: Start) -> None:
    three = start("none")
    called = Roster(ticket=three.opened.ticket.digest, commitments=_commitments(three), left_out={})
    three.exchange.create("rosters/forged.json", called.signed(three.place("beta").key))
    with pytest.raises(SignatureError):
        seal(three, f"{three.exchange_uri}/rosters/forged.json")
    assert nothing_is_sealed(three)


def test_a_roster_of_another_ticket_is_refused(start: Start) -> None:
    three = start("none")
    called = Roster(ticket="0" * 64, commitments=_commitments(three), left_out={})
    with pytest.raises(SignatureError, match="another ticket"):
        seal(three, three.sign_roster(called, "rosters/other.json"))
    assert nothing_is_sealed(three)


def _commitments(three: ThreeSites) -> dict[str, str]:
    three.roster(three.train())
    return dict(three.attempt().roster().commitments)


@pytest.mark.parametrize("field", ["values", "num_examples", "salt"])
def test_an_update_that_is_not_the_committed_one_is_refused(start: Start, field: str) -> None:
    three = start("none")
    roster = three.roster(three.train())
    place = three.place("alpha")
    update = read_update(place.store, place.ticket)
    changed = replace(
        update,
        **{  # type: ignore[arg-type]
            "values": {"values": update.values + 1e-9},
            "num_examples": {"num_examples": update.num_examples + 1},
            "salt": {"salt": bytes(32)},
        }[field],
    )
    path = three.store_folder("alpha") / update_key(place.ticket)
    path.write_bytes(encode_update(changed.values, changed.num_examples, changed.salt))
    with pytest.raises(RefusedError, match="does not hold this site's commitment"):
        seal(three, roster)
    assert nothing_is_sealed(three)


@pytest.mark.parametrize("key", [blob_key, manifest_key])
@pytest.mark.parametrize("same_length", [True, False])
def test_foreign_bytes_where_its_own_belong_are_refused(
    start: Start, key: Callable[..., str], same_length: bool
) -> None:
    three = start("none")
    roster = three.roster(three.train())
    seal(three, roster)
    path = three.exchange_folder / key(three.opened.ticket, "alpha")
    foreign = bytes(len(path.read_bytes())) if same_length else b"short"
    path.write_bytes(foreign)
    with pytest.raises(RefusedError, match="other bytes lie at"):
        seal(three, roster)
    assert path.read_bytes() == foreign


@pytest.mark.parametrize("key", [blob_key, manifest_key])
def test_longer_foreign_bytes_are_refused_too(start: Start, key: Callable[..., str]) -> None:
    three = start("none")
    roster = three.roster(three.train())
    seal(three, roster)
    path = three.exchange_folder / key(three.opened.ticket, "alpha")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(RefusedError, match="other bytes lie at"):
        seal(three, roster)


def test_an_update_beyond_the_range_of_he_does_not_leave_the_site(start: Start) -> None:
    three = start("he")
    place = three.place("alpha")
    values = np.full(28, 1e6)  # times 26 examples: beyond 4e6
    place.store.create(update_key(place.ticket), encode_update(values, 26, bytes(range(32))))
    commitments = {
        "alpha": train(place, features="", device="cpu").reference,
        **three.train(("beta", "gamma")),
    }
    assert three.exchange.exists(commitment_key(place.ticket, "alpha"))
    with pytest.raises(BadDataError, match="is not finite or beyond") as caught:
        seal(three, three.roster(commitments))
    assert "1e+06" not in str(caught.value)
    assert nothing_is_sealed(three)


def test_a_site_that_has_trained_nothing_seals_nothing(start: Start) -> None:
    three = start("none")
    roster = three.roster(three.train())
    (three.store_folder("alpha") / update_key(three.opened.ticket)).unlink()
    with pytest.raises(Exception, match="is not there"):
        seal(three, roster)
    assert nothing_is_sealed(three)
