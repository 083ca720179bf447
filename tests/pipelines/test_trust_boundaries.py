"""Who may see what, proved on the bytes that runs have left on the disk."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray
from safetensors.numpy import load_file

from components.agreement.private_keys import load_signing_key
from components.agreement.round_secrets import RoundSecrets, read_secrets
from components.artifacts.stores import open_store
from tests.conftest import PATIENTS, SITES, WORDS, SmallFederation
from tests.pipelines.byte_search import (
    OWNERS,
    Words,
    files,
    holding,
    in_eights,
    json_of,
    numbers_in,
    outside_the_sites,
    own,
    pairs,
    seven_decimals,
    texts_in,
    written_out,
)
from tests.pipelines.conftest import ROWS, FinishedRun, RoundUnder
from tests.pipelines.kept_updates import kept, record, steps, trained

FRACTIONS = written_out(np.array([a / b for b in range(1, 103) for a in range(1, b)]))
TELLING_WORDS = {word for group in WORDS.values() for word in group if len(word) >= 6}


def notes(home: Path, site: str) -> set[str]:
    with duckdb.connect(str(home / f"small/sites/{site}/warehouse.duckdb"), read_only=True) as connection:
        return {row[0] for row in connection.execute("SELECT note FROM visits").fetchall()}


def features(home: Path, site: str) -> NDArray[np.float32]:
    (path,) = own(home, site, "features")
    found: NDArray[np.float32] = load_file(path)["features"]
    return found


def forms(update: NDArray[np.float32], num_examples: int, vector: NDArray[Any]) -> Words:
    """An update, plain and weighted, and the count as floats; and the vector that the site has kept."""
    plain = update.astype(np.float64)
    floats = [plain, plain * num_examples, np.array([float(num_examples)])]
    if vector.dtype == np.int32:
        # Pairs and numbers that are small enough to be something else tell nothing.
        loud = np.where(np.abs(vector) > 64, vector, 0).astype("<i4")
        steps = [pairs(loud), loud[np.abs(loud) > 1024].astype("<i8").view("<u8")]
    else:
        steps = [vector[vector != 0].astype("<f8").view("<u8")]
    doubles = [each[each != 0].astype("<f8").view("<u8") for each in floats]
    return np.concatenate([*steps, *doubles, *(pairs(each.astype("<f4")) for each in floats[:2])])


def needles_of(federation: SmallFederation, site: str, number: int) -> Words:
    """Of a round's update; what was trained again must be what the site has kept."""
    ticket = record(federation, number)["ticket"]
    vector = np.load(federation.home / f"small/sites/{site}/store/updates/{ticket}.npy")
    update, num_examples = trained(federation, number, site)
    weighted = update.astype(np.float64) * num_examples
    step = 1 / steps(federation) if vector.dtype == np.int32 else 1e-9
    np.testing.assert_allclose(kept(federation, number, site)[0], weighted, rtol=0, atol=0.51 * step)
    return forms(update, num_examples, vector)


@pytest.fixture
def home(one_round: FinishedRun) -> Path:
    return one_round.federation.home


@pytest.mark.parametrize("site", SITES)
def test_no_record_leaves_its_site(one_round: FinishedRun, home: Path, site: str) -> None:
    records = notes(home, site)
    needles = records | TELLING_WORDS | set(PATIENTS) | {name.split()[1] for name in PATIENTS}
    assert texts_in(outside_the_sites(home), needles) == set()
    assert not any(text in one_round.command.stdout + one_round.command.stderr for text in needles)
    others = [path for other in SITES if other != site for path in own(home, other)]
    elsewhere = "\n".join(note for other in SITES if other != site for note in notes(home, other))
    private = {note for note in records if note not in elsewhere}
    assert len(private) > 20
    assert texts_in(others, private) == set()
    # The same search finds them where they may be: notes in the site's store, names in its warehouse only.
    assert texts_in(own(home, site), records) == records
    assert texts_in([home / f"small/sites/{site}/warehouse.duckdb"], PATIENTS) == set(PATIENTS)
    assert texts_in(own(home, site), PATIENTS) == set()


@pytest.mark.parametrize("site", SITES)
def test_no_feature_leaves_its_site(home: Path, site: str) -> None:
    found = features(home, site)
    needles = np.concatenate([pairs(row) for row in found])
    assert len(needles) > 400
    others = [path for other in SITES if other != site for path in own(home, other)]
    assert holding(outside_the_sites(home), needles) == []
    unshared = ~np.isin(
        needles, np.concatenate([in_eights(features(home, s).tobytes()) for s in SITES if s != site])
    )
    assert holding(others, needles[unshared]) == []
    assert holding(own(home, site), needles) == own(home, site, "features")
    decimals = written_out(found)
    assert len(decimals) > 400
    assert [path for path in outside_the_sites(home) if decimals & seven_decimals(path.read_bytes())] == []
    printed = json.dumps(np.abs(found).astype(float).tolist()).encode()
    assert len(decimals & seven_decimals(printed)) > 400, "the search knows a feature that is printed"


def test_sealed_no_update_leaves_its_site_in_clear(three_rounds: FinishedRun) -> None:
    """Nor does its number of examples: not as floats, not as the integers that are sealed."""
    federation, home = three_rounds.federation, three_rounds.federation.home
    elsewhere = [*outside_the_sites(home), *files(home / "small/keys")]
    needles = {(site, number): needles_of(federation, site, number) for site in SITES for number in (1, 2, 3)}
    assert min(map(len, needles.values())) > 250
    assert holding(elsewhere, np.concatenate(list(needles.values()))) == []
    for site in SITES:
        others = [path for other in SITES if other != site for path in own(home, other)]
        assert holding(others, np.concatenate([needles[site, number] for number in (1, 2, 3)])) == []
        for number in (1, 2, 3):
            ticket = record(federation, number)["ticket"]
            kept_in = home / f"small/sites/{site}/store/updates/{ticket}.npy"
            assert holding(own(home, site), needles[site, number]) == [kept_in]


def test_sealed_no_update_is_printed(three_rounds: FinishedRun) -> None:
    federation, home = three_rounds.federation, three_rounds.federation.home
    texts = {path: seven_decimals(path.read_bytes()) for path in outside_the_sites(home)}
    assert sum(map(len, texts.values())) > 100, "the search sees numbers"
    for site in SITES:
        for number in (1, 2, 3):
            update, num_examples = trained(federation, number, site)
            # Accuracies are printed, and they are fractions of test rows.
            decimals = (written_out(update) | written_out(update * np.float32(num_examples))) - FRACTIONS
            assert len(decimals) > 50
            assert [path for path, printed in texts.items() if decimals & printed] == []


@pytest.mark.parametrize("protection", ["he", "masked", "smc"])
def test_under_other_protections_no_update_leaves_its_site_in_clear(
    round_under: RoundUnder, protection: str
) -> None:
    federation = round_under(protection)
    home = federation.home
    for site in SITES:
        assert holding(files(home), needles_of(federation, site, 1)) == own(home, site, "updates")


def test_without_a_seal_the_same_search_does_find_the_update(round_under: RoundUnder) -> None:
    """The control: what the seal is there to prevent."""
    federation = round_under("none")
    home = federation.home
    for site in SITES:
        published = files(home / "small/exchange", home / "small/state")
        found = holding(published, needles_of(federation, site, 1))
        assert found == [home / f"small/exchange/rounds/00001-1/sealed/{site}.bin"]


def test_how_many_examples_a_site_has_is_not_published(three_rounds: FinishedRun) -> None:
    home = three_rounds.federation.home
    counts = {trained(three_rounds.federation, 1, site)[1] for site in SITES} | {*ROWS.values()}
    assert len(counts) == 6
    documents = [
        path
        for path in outside_the_sites(home)
        if path.suffix == ".json" or path.name == "manifest"
        # Confusion counts of test rows, which the sites have released.
        if not path.parent.name.startswith("evaluate") and path.parent.name != "figures"
    ]
    assert len(documents) > 200
    published = {number for path in documents for number in numbers_in(json_of(path))}
    assert counts.isdisjoint(published)
    size = (home / "small/exchange/rounds/00001-1/sealed/alpha.bin").stat().st_size
    assert {53, size} <= published, "the search sees numbers: the length and the size of a sealed update"


def test_the_coordinator_holds_references_and_no_listing_of_a_site(home: Path) -> None:
    (root,) = (home / "small/runs").glob("*/run-1/*")
    assert {path.name for path in files(root)} == {"executor_output.json", "manifest", "page"}
    assert all(path.stat().st_size < 4096 for path in files(root) if path.name != "page")
    coordinator = b"".join(path.read_bytes() for path in files(home / "small/runs"))
    for site in SITES:
        store = home / f"small/sites/{site}/store"
        keys = {str(path.relative_to(store)) for path in own(home, site)}
        named = {
            key.partition("/")[0] for key in keys if f"small/sites/{site}/store/{key}".encode() in coordinator
        }
        assert named == {"rows", "features", "adaptations"}
        assert {key.partition("/")[0] for key in keys} > named


def spelled(raw: bytes) -> list[bytes]:
    """Bytes as they are, and as text."""
    return [raw, raw.hex().encode(), base64.b64encode(raw)[:43], base64.urlsafe_b64encode(raw)[:43]]


def test_a_private_key_is_in_its_owners_folder_and_nowhere_else(home: Path) -> None:
    keys = home / "small/keys"
    private = [keys / owner / "signing.key" for owner in OWNERS]
    private += [keys / site / "agreement.key" for site in SITES]
    for path in private:
        pem = path.read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, Ed25519PrivateKey | X25519PrivateKey)
        wanted = [b"".join(pem.splitlines()[1:-1]), *spelled(key.private_bytes_raw())]
        assert [each for each in files(home) if any(form in each.read_bytes() for form in wanted)] == [path]
    for owner in OWNERS:
        assert not any(path.stat().st_mode & 0o077 for path in (keys / owner).iterdir())
    marked = [path for path in files(home) if b"PRIVATE KEY" in path.read_bytes()]
    assert marked == sorted(private)


def test_the_decryption_key_is_in_the_key_holders_folder_and_nowhere_else(home: Path) -> None:
    (secret,) = (home / "small/keys/key-holder").glob("sealed-*.secret")
    (context,) = (home / "small/keys/contexts").glob("sealed-*.public")
    needles = np.setdiff1d(in_eights(secret.read_bytes()), in_eights(context.read_bytes()))
    # Headers of serialised objects are alike everywhere and full of zeros, random values are neither: the
    # end of a header and the random byte behind it are the same in one object of 256.
    needles = needles[(needles.view(np.uint8).reshape(-1, 8) != 0).all(axis=1)]
    assert len(needles) > 8192
    assert holding(files(home), needles) == [secret]


def drawn(home: Path, store: Path, site: str, number: int, ticket: str) -> RoundSecrets:
    """What a site had drawn for an attempt, unwrapped from the copy that was made meanwhile."""
    lent = store / "unwrapped" / str(number) / site / "secrets"
    lent.mkdir(parents=True)
    shutil.copy(home.parent / f"secrets/{number}/{site}/{ticket}.bin", lent)
    key = load_signing_key(str(home / "small/keys"), site)
    return read_secrets(open_store(str(lent.parent)), key, ticket)


@pytest.mark.parametrize("number", [2, 3])
def test_what_a_site_draws_for_an_attempt_is_nowhere_in_clear_and_forgotten_with_the_receipt(
    three_rounds: FinishedRun, tmp_path: Path, number: int
) -> None:
    """Salt, self-mask seed and ephemeral key; the wrapped copies were taken while the sum was opened."""
    federation, home = three_rounds.federation, three_rounds.federation.home
    ticket = record(federation, number)["ticket"]
    contents = {path: path.read_bytes() for path in files(home)}
    for site in SITES:
        copies = files(home.parent / f"secrets/{number}/{site}")
        assert [path.name for path in copies] == [f"{ticket}.bin"], "those of earlier rounds are gone by then"
        found = drawn(home, tmp_path, site, number, ticket)
        raw = [found.salt, found.seed, found.ephemeral.private_bytes_raw()]
        assert len(set(raw)) == 3
        wanted = [form for each in raw for form in spelled(each)] + [copies[0].read_bytes()[12:]]
        assert [
            str(path) for path, content in contents.items() if any(form in content for form in wanted)
        ] == []
        public = found.ephemeral.public_key().public_bytes_raw()
        commitment = home / f"small/exchange/rounds/{number:05d}-1/commitments/{site}.json"
        assert base64.b64encode(public) in contents[commitment], "the search knows the key it looks for"


def test_after_the_receipt_no_site_keeps_secrets(one_round: FinishedRun, three_rounds: FinishedRun) -> None:
    for run in (one_round, three_rounds):
        stores = run.federation.home / "small/sites"
        assert [path for path in files(stores) if "secrets" in path.parts or path.suffix == ".bin"] == sorted(
            path for path in files(stores) if path.parent.name == "sealed"
        )
        assert list(stores.glob("*/store/secrets/*")) == []
    assert len(files(three_rounds.federation.home.parent / "secrets")) == 6, "they were there for a while"
