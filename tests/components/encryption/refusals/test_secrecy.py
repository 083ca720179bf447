"""What the key holder and the aggregator can compute from sealed updates: nothing but noise.

The key holder has the secret key, so encryption protects from it in nothing: the masks do. The vectors
are the worst ones, constant and at the bound, and decryption is exact, so whatever structure the masks
let through would stand in more than 1e5 slots.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tenseal
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from components.encryption.bfv.context import (
    BlockDecryptor,
    generate_contexts,
    load_public_context,
    load_secret_context,
)
from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS, VALUE_SLOTS, Packing
from components.encryption.bfv.sealed import SealedOpener, SealedSealer
from components.encryption.bfv.words import WORDS, add_residues, serialised_ciphertext
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf, site_masks
from components.errors import UsageError
from tests.components.encryption.refusals.uniformity import correlation, departures
from tests.components.encryption.refusals.walk import THREE, WalkTo, blob_of, words_of
from tests.components.encryption.tenseal_vectors import vector_from

BLOCKS = 13
PACKING = Packing(values_per_slot=2, sites=3)
NAMES = AttemptNames(charter="c", ticket="t", purpose="update", roster="r")
Slots = NDArray[np.uint64]


def secret_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


HALVES = {
    site: PrivateHalf(
        name=site,
        static=X25519PrivateKey.from_private_bytes(secret_of(f"{site} static")),
        ephemeral=X25519PrivateKey.from_private_bytes(secret_of(f"{site} ephemeral")),
    )
    for site in THREE
}
ROSTER = [half.public() for half in HALVES.values()]
MASKS = {site: site_masks(NAMES, half, ROSTER, secret_of(site)) for site, half in HALVES.items()}
LENGTH = BLOCKS * 2 * VALUE_SLOTS
VECTORS = {
    "alpha": np.zeros(LENGTH, np.int32),
    "beta": np.full(LENGTH, PACKING.bound, np.int32),
    "gamma": np.tile(np.array([PACKING.bound, -PACKING.bound], np.int32), LENGTH // 2),
}


@pytest.fixture(scope="module")
def contexts() -> tuple[bytes, bytes]:
    return generate_contexts()


@pytest.fixture(scope="module")
def ciphertexts(contexts: tuple[bytes, bytes]) -> dict[str, NDArray[np.uint64]]:
    """Words of what every site uploads, shape (13, 16384)."""
    public, _ = contexts
    found = {}
    for site, vector in VECTORS.items():
        blob = b"".join(SealedSealer(public, PACKING, MASKS[site]).seal(vector))
        found[site] = words_of(blob).reshape(BLOCKS, WORDS)
    return found


def decrypted(secret: bytes, words: NDArray[np.uint64]) -> Slots:
    """What the key holder reads in ciphertexts, shape (106496,)."""
    decryptor = BlockDecryptor(load_secret_context(secret))
    return np.concatenate([decryptor.decrypt(block) for block in words])


def added(ciphertexts: dict[str, NDArray[np.uint64]], sites: Sequence[str]) -> NDArray[np.uint64]:
    total = np.zeros((BLOCKS, WORDS), np.uint64)
    for site in sites:
        for block in range(BLOCKS):
            add_residues(total[block], ciphertexts[site][block])
    return total


def packed(site: str) -> Slots:
    step = PACKING.values_per_block
    return np.concatenate([PACKING.pack(VECTORS[site][k * step : (k + 1) * step]) for k in range(BLOCKS)])


def unmasked(slots: Slots, keys: Masks) -> Slots:
    """Without these streams, as whoever knows their keys computes it."""
    blocks = slots.reshape(BLOCKS, BLOCK_SLOTS)
    return np.concatenate([keys.unmask(block, number) for number, block in enumerate(blocks)])


@pytest.mark.parametrize("site", THREE)
def test_one_sites_ciphertext_decrypts_to_noise(
    contexts: tuple[bytes, bytes], ciphertexts: dict[str, NDArray[np.uint64]], site: str
) -> None:
    slots = decrypted(contexts[1], ciphertexts[site])
    assert slots.size == 106_496
    assert departures(slots) == []
    assert abs(correlation(slots, packed(site))) < 7
    # It is the vector all the same: with the site's own keys it comes back whole.
    assert np.array_equal(unmasked(slots, MASKS[site]), packed(site))


@pytest.mark.parametrize("pair", [("alpha", "beta"), ("alpha", "gamma"), ("beta", "gamma")])
def test_two_of_three_sites_summed_decrypt_to_noise(
    contexts: tuple[bytes, bytes], ciphertexts: dict[str, NDArray[np.uint64]], pair: tuple[str, str]
) -> None:
    slots = decrypted(contexts[1], added(ciphertexts, pair))
    assert departures(slots) == []
    # Nor with the self-masks of both: the pads with the third remain.
    own = Masks(added=tuple(MASKS[site].added[0] for site in pair), subtracted=())
    assert departures(unmasked(slots, own)) == []


def test_a_site_is_noise_to_the_key_holder_and_a_colluding_site_before_the_release(
    contexts: tuple[bytes, bytes], ciphertexts: dict[str, NDArray[np.uint64]]
) -> None:
    slots = decrypted(contexts[1], ciphertexts["alpha"])
    shared = set(MASKS["alpha"].added) & set(MASKS["gamma"].subtracted)
    assert len(shared) == 1
    assert departures(unmasked(slots, Masks(added=tuple(shared), subtracted=()))) == []


def test_after_the_release_only_the_sum_of_all_is_not_noise(
    contexts: tuple[bytes, bytes], ciphertexts: dict[str, NDArray[np.uint64]]
) -> None:
    """The self-masks of all three are known then: a site alone is still hidden by its pads."""
    own = {site: Masks(added=(MASKS[site].added[0],), subtracted=()) for site in THREE}
    for site in THREE:
        assert departures(unmasked(decrypted(contexts[1], ciphertexts[site]), own[site])) == []
    everyone = Masks(added=tuple(mask.added[0] for mask in own.values()), subtracted=())
    opened = unmasked(decrypted(contexts[1], added(ciphertexts, THREE)), everyone)
    assert departures(opened)
    expected = np.sum([packed(site).astype(object) for site in THREE], axis=0) % PLAIN_MODULUS
    assert np.array_equal(opened, expected.astype(np.uint64))


@pytest.mark.parametrize("fault", ["no mask", "half the range", "one bit missing", "one block's mask twice"])
def test_the_statistics_find_what_masks_must_not_be(fault: str) -> None:
    generator = np.random.default_rng(7)
    uniform = generator.integers(0, PLAIN_MODULUS, BLOCKS * BLOCK_SLOTS).astype(np.uint64)
    faulty = {
        "no mask": packed("gamma"),
        "half the range": uniform // np.uint64(2),
        "one bit missing": uniform & ~np.uint64(1),
        "one block's mask twice": np.tile(np.repeat(uniform[:4096], 2), BLOCKS),
    }[fault]
    assert departures(uniform) == []
    assert departures(faulty)


class TestAggregator:
    """It has the exchange and the public part of the keys; the sum is made with nothing else."""

    def test_its_environment_is_enough_to_add_and_holds_no_secret(
        self, walk_to: WalkTo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        walk = walk_to("sealed")
        three = walk.three
        home = tmp_path / "aggregator"
        shutil.copytree(three.exchange_folder, home / three.exchange_uri)
        for public in ("charters", "certificates", "contexts", "cards"):
            shutil.copytree(three.keys_folder / public, home / three.keys_uri / public)
        owned = [three.keys_folder / owner for owner in (*THREE, "coordinator", "key-holder")]
        secrets = [path.read_bytes() for folder in owned for path in folder.iterdir()]
        assert len(secrets) == 3 * 3 + 1 + 3
        monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
        outcome = three.aggregate(walk.sealed)
        assert outcome.manifest["sites"] == list(THREE)
        there = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        assert not set(secrets) & set(there.values())
        loaded = 0
        for content in there.values():
            with pytest.raises(UsageError, match=r"holds no secret key|no secret context"):
                load_secret_context(content)
            loaded += content.startswith(b"\x0a") and not tenseal.context_from(content).has_secret_key()
        assert loaded == 1

    def test_tenseal_refuses_to_decrypt_with_what_it_has(self, walk_to: WalkTo) -> None:
        walk = walk_to("summed")
        three = walk.three
        context_file = next((three.keys_folder / "contexts").iterdir())
        context = load_public_context(context_file.read_bytes())
        assert not context.has_secret_key()
        assert not context.is_private()
        total = three.exchange.read(f"{three.opened.ticket.folder}/sum.bin")
        for blob in (blob_of(three, "alpha"), total):
            vector = vector_from(context, serialised_ciphertext(words_of(blob)))
            with pytest.raises(ValueError, match="secret"):
                vector.decrypt()
        with pytest.raises(UsageError, match="holds no secret key"):
            SealedOpener(context_file.read_bytes(), PACKING, MASKS["alpha"]).open(io.BytesIO(total), 30)
