from __future__ import annotations

import importlib
import io
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encryption.bfv.context import BlockDecryptor, BlockEncryptor, load_public_context
from components.encryption.bfv.context import load_secret_context as load_secret
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import (
    MAX_SITES,
    SealedOpener,
    SealedSealer,
    SealedSummer,
    generate_contexts,
)
from components.encryption.bfv.words import MODULUS, WORDS, serialised_ciphertext
from components.encryption.masking.masks import Masks
from components.errors import BadDataError, CiphertextError, UsageError
from tests.components.encryption.tenseal_vectors import ciphertext_of, vector_from

P = 70368743669761
HEADER_BYTES = 80
REFUSED = r"^this sum does not open to a sum of updates: refused$"
Contexts = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    return generate_contexts()


def key(*numbers: int) -> bytes:
    """A key for a test: distinct numbers, distinct keys."""
    return b"".join(number.to_bytes(8, "big") for number in numbers).rjust(32, b"\1")


def masks_of(site: int, sites: int) -> Masks:
    return Masks(
        added=(key(site), *(key(1, site, other) for other in range(site + 1, sites))),
        subtracted=tuple(key(1, other, site) for other in range(site)),
    )


def left_over(members: Sequence[int], sites: int) -> Masks:
    """Self-masks of the members, and their pairwise masks with the sites that are not among them."""
    lost = [site for site in range(sites) if site not in members]
    pairs = list(itertools.product(members, lost))
    return Masks(
        added=(
            *(key(member) for member in members),
            *(key(1, member, site) for member, site in pairs if member < site),
        ),
        subtracted=tuple(key(1, site, member) for member, site in pairs if site < member),
    )


def packing(sites: int = 3, values_per_slot: Literal[1, 2] = 2) -> Packing:
    return Packing(values_per_slot=values_per_slot, sites=sites)


def sealed(
    public: bytes, values: NDArray[Any], masks: Masks | None = None, pack: Packing | None = None
) -> bytes:
    return b"".join(SealedSealer(public, pack or packing(), masks or masks_of(0, 3)).seal(values))


def added(public: bytes, blobs: Sequence[bytes], length: int, values_per_slot: int = 2) -> bytes:
    return b"".join(SealedSummer(public, values_per_slot).add([io.BytesIO(blob) for blob in blobs], length))


def words_of(blob: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(blob[HEADER_BYTES:], "<u8").reshape(-1, WORDS)


def with_words(blob: bytes, words: NDArray[np.uint64]) -> bytes:
    return blob[:HEADER_BYTES] + words.astype("<u8").tobytes()


@given(data=st.data())
@settings(max_examples=10)
def test_an_opened_sum_is_the_sum_of_python_integers(contexts: Contexts, data: st.DataObject) -> None:
    sites = data.draw(st.integers(3, 40))
    pack = packing(sites, data.draw(st.sampled_from([1, 2])))
    length = data.draw(st.integers(1, pack.values_per_block + 100))
    members = sorted(data.draw(st.sets(st.integers(0, sites - 1), min_size=min(3, sites))))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bound = data.draw(st.sampled_from([1, 1000, pack.bound]))
    vectors = [generator.integers(-bound, bound, length, endpoint=True) for _ in range(sites)]
    for values in vectors:
        values[: length // 4] = bound
        values[length // 4 : length // 2] = -bound
    blobs = [sealed(contexts[0], vectors[site], masks_of(site, sites), pack) for site in members]
    total = added(contexts[0], blobs, length, pack.values_per_slot)
    opened = SealedOpener(contexts[1], pack, left_over(members, sites)).open(io.BytesIO(total), length)
    expected = [sum(numbers) for numbers in zip(*(vectors[site].tolist() for site in members), strict=True)]
    assert opened.tolist() == expected


def test_one_mask_too_few_or_too_many_does_not_open(contexts: Contexts) -> None:
    values = np.arange(50, dtype=np.int32)
    total = added(contexts[0], [sealed(contexts[0], values, masks_of(site, 3)) for site in range(3)], 50)
    whole = left_over(range(3), 3)
    np.testing.assert_array_equal(
        SealedOpener(contexts[1], packing(), whole).open(io.BytesIO(total), 50), 3 * values
    )
    for wrong in (
        Masks(added=whole.added[1:], subtracted=()),
        Masks(added=(*whole.added, key(1, 0, 1)), subtracted=()),
        Masks(added=whole.added, subtracted=(key(99),)),
        Masks(added=(), subtracted=whole.added),
    ):
        with pytest.raises(CiphertextError, match=REFUSED):
            SealedOpener(contexts[1], packing(), wrong).open(io.BytesIO(total), 50)


@pytest.mark.parametrize("pairwise", [True, False])
@pytest.mark.parametrize("values_per_slot", [1, 2])
def test_one_sites_ciphertext_decrypts_to_uniform_noise(
    contexts: Contexts, values_per_slot: Literal[1, 2], pairwise: bool
) -> None:
    """What the key holder sees of one site, whatever the site sealed: moments and chi-square bounds.

    Under a known self-mask the pairwise masks alone must hide it, and the other way round.
    """
    pack = packing(3, values_per_slot)
    values = np.full(13 * pack.values_per_block, pack.bound, np.int64)
    own = masks_of(0, 3)
    hiding = (
        Masks(added=own.added[1:], subtracted=()) if pairwise else Masks(added=own.added[:1], subtracted=())
    )
    words = words_of(sealed(contexts[0], values, hiding, pack))
    secret = load_secret(contexts[1])
    slots = np.concatenate([BlockDecryptor(secret).decrypt(part) for part in words])
    assert slots.size == 13 * 8192 > 100_000
    assert uniform_evidence(slots) == []
    # The same checks tell what is not masked from noise.
    plain = np.concatenate([pack.pack(values[: pack.values_per_block])] * 13)
    assert len(uniform_evidence(plain)) == 5


def uniform_evidence(slots: NDArray[np.uint64]) -> list[str]:
    """Which tests say that the slots are not uniform modulo p; of uniform slots one in 10^5 or fewer."""
    scaled, against = slots / P, []
    for name, values in (("high", scaled), ("low", slots % np.uint64(2**23) / 2**23)):
        counts = np.histogram(values, bins=128, range=(0, 1))[0]
        expected = slots.size / 128
        # 127 degrees of freedom: five deviations above the mean.
        if ((counts - expected) ** 2 / expected).sum() > 127 + 5 * math.sqrt(2 * 127):
            against.append(f"chi-square of the {name} bits")
    if abs(scaled.mean() - 1 / 2) > 5 * math.sqrt(1 / 12 / slots.size):
        against.append("mean")
    if abs(scaled.var() - 1 / 12) > 5 * math.sqrt(1 / 180 / slots.size):
        against.append("variance")
    block = scaled.reshape(-1, 8192) - 1 / 2
    if abs((block[:-1] * block[1:]).mean() * 12) > 5 / math.sqrt(slots.size - 8192):
        against.append("correlation of blocks")
    return against


def test_the_words_of_a_ciphertext_look_uniform(contexts: Contexts) -> None:
    words = words_of(sealed(contexts[0], np.ones(7 * 16_368, np.int32)))
    counts = np.histogram(words / MODULUS, bins=64, range=(0, 1))[0]
    expected = words.size / 64
    # Chi-square with 63 degrees of freedom: mean 63, deviation 11.2; 160 is beyond eight and a half.
    assert ((counts - expected) ** 2 / expected).sum() < 160


def test_sealing_again_gives_other_ciphertexts_of_the_same_masked_slots(contexts: Contexts) -> None:
    values = np.arange(20_000, dtype=np.int32)
    first, second = (words_of(sealed(contexts[0], values)) for _ in range(2))
    assert not (first == second).any()
    decryptor = BlockDecryptor(load_secret(contexts[1]))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(decryptor.decrypt(one), decryptor.decrypt(other))


def test_what_is_decrypted_is_the_packed_values_and_the_masks(contexts: Contexts) -> None:
    values = np.random.default_rng(0).integers(-packing().bound, packing().bound, 5 * 16_368 + 7)
    masks, decryptor = masks_of(1, 3), BlockDecryptor(load_secret(contexts[1]))
    words = words_of(sealed(contexts[0], values, masks))
    assert len(words) == 6
    for block, part in enumerate(words):
        packed = packing().pack(values[block * 16_368 : (block + 1) * 16_368])
        expected = (packed.astype(object) + masks.block(block).astype(object)) % P
        assert decryptor.decrypt(part).tolist() == expected.tolist()


def test_numpy_adds_as_seal_does(contexts: Contexts) -> None:
    blobs = [sealed(contexts[0], np.full(16_369, 5, np.int32), masks_of(site, 5)) for site in range(5)]
    total = words_of(added(contexts[0], blobs, 16_369))
    public = load_public_context(contexts[0])
    for part in range(2):
        first, *others = (vector_from(public, serialised_ciphertext(words_of(blob)[part])) for blob in blobs)
        for other in others:
            first += other
        assert ciphertext_of(first) == serialised_ciphertext(total[part])


@pytest.mark.parametrize("sites", [1, 32])
def test_the_noise_of_a_sum_is_what_theory_says(contexts: Contexts, sites: int, tmp_path: Path) -> None:
    """Scaled by p, a ciphertext decrypts to its noise v instead of its slots: round(v p^2 / q) modulo p."""
    blobs = [
        sealed(contexts[0], np.ones(9, np.int32), masks_of(site, 32), packing(32)) for site in range(sites)
    ]
    words = words_of(added(contexts[0], blobs, 9))[0]
    scaled = (words.astype(object) * P % MODULUS).astype(np.uint64)
    noise = np.array([round(c * MODULUS / P**2) for c in coefficients(contexts, scaled, tmp_path)])
    # SEAL's switch down from the second prime rounds both polynomials, with a ternary key; and p does not
    # divide q. An estimate from 8192 values has a standard error of 0.8 %, the weight of a key adds 0.4 %.
    deviation = math.sqrt((2 + 2 * 8192 / 3) / 12 * sites)
    assert deviation == pytest.approx(21.3 * math.sqrt(sites), rel=0.002)
    assert np.std(noise) == pytest.approx(deviation, rel=0.05)
    limit = MODULUS / (2 * P)
    assert limit == pytest.approx(8192, rel=1e-4)
    assert limit / np.std(noise) > (360 if sites == 1 else 64)
    assert np.abs(noise).max() < 7 * deviation


def coefficients(contexts: Contexts, words: NDArray[np.uint64], folder: Path) -> list[int]:
    """Decrypt with SEAL's own bindings to the centred coefficients of the plaintext."""
    seal = importlib.import_module("_sealapi_cpp")
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(8192)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(8192, [60, 60]))
    parameters.set_plain_modulus(seal.Modulus(P))
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    start = b"\x5e\xa1\x10\x04"
    private, ciphertext = contexts[1][len(contexts[0]) :], serialised_ciphertext(words)
    loaded = {}
    for name, kind, content in (("key", seal.SecretKey(), private), ("sum", seal.Ciphertext(), ciphertext)):
        (folder / name).write_bytes(content[content.index(start) :])
        kind.load(context, str(folder / name))
        loaded[name] = kind
    plain = seal.Plaintext()
    seal.Decryptor(context, loaded["key"]).decrypt(loaded["sum"], plain)
    raw = [plain.data(i) if i < plain.coeff_count() else 0 for i in range(8192)]
    return [c - P if c > P // 2 else c for c in raw]


def test_the_most_sites_leave_twelve_deviations() -> None:
    deviation = math.sqrt((2 + 2 * 8192 / 3) / 12 * MAX_SITES)
    assert MODULUS / (2 * P) / deviation > 11.9


def test_no_more_sites_are_added_than_decrypt(contexts: Contexts) -> None:
    summer = SealedSummer(contexts[0], 2)
    with pytest.raises(UsageError, match="at most 1024 sites without wrapping, got 1025"):
        summer.add([io.BytesIO()] * 1025, 1)


def test_a_word_that_is_no_residue_is_refused_by_everybody(contexts: Contexts) -> None:
    blob = sealed(contexts[0], np.ones(20_000, np.int32))
    for position in (0, 8_192, 2 * WORDS - 1):
        for word in (MODULUS, 2**64 - 1):
            start = HEADER_BYTES + 8 * position
            forged = blob[:start] + word.to_bytes(8, "little") + blob[start + 8 :]
            with pytest.raises(CiphertextError, match="words that no ciphertext has"):
                SealedSummer(contexts[0], 2).check(io.BytesIO(forged), 20_000)
            with pytest.raises(CiphertextError, match="words that no ciphertext has"):
                added(contexts[0], [blob, forged], 20_000)
            with pytest.raises(CiphertextError, match="words that no ciphertext has"):
                SealedOpener(contexts[1], packing(), masks_of(0, 3)).open(io.BytesIO(forged), 20_000)


@pytest.mark.parametrize("position", [0, 16_367, 8_183, 8_184])
def test_a_longer_vector_does_not_open_as_a_shorter_one(contexts: Contexts, position: int) -> None:
    """Neither in the zero slots nor among the zeros that a last block is filled with is anything let pass."""
    values = np.zeros(16_368, np.int32)
    values[position] = 1
    short, long = (sealed(contexts[0], values[:length]) for length in (position or 1, 16_368))
    forged = with_words(short, words_of(long))
    opener = SealedOpener(contexts[1], packing(), masks_of(0, 3))
    if position == 0:
        assert opener.open(io.BytesIO(forged), 1).tolist() == [1]
    else:
        with pytest.raises(CiphertextError, match=REFUSED):
            opener.open(io.BytesIO(forged), position)


def test_a_sum_with_values_in_the_zero_slots_does_not_open(contexts: Contexts) -> None:
    blob = sealed(contexts[0], np.ones(16_368, np.int32))
    slots = packing().pack(np.ones(16_368, np.int32))
    slots[8191] = 1
    content = BlockEncryptor(load_public_context(contexts[0])).encrypt(masks_of(0, 3).mask(slots, 0))
    with pytest.raises(CiphertextError, match=REFUSED):
        SealedOpener(contexts[1], packing(), masks_of(0, 3)).open(
            io.BytesIO(blob[:HEADER_BYTES] + content), 16_368
        )


def test_words_that_nobody_encrypted_do_not_open(contexts: Contexts) -> None:
    blob = sealed(contexts[0], np.ones(16_368, np.int32))
    noise = np.random.default_rng(0).integers(0, MODULUS, (1, WORDS), dtype=np.uint64)
    with pytest.raises(CiphertextError, match=REFUSED):
        SealedOpener(contexts[1], packing(), masks_of(0, 3)).open(io.BytesIO(with_words(blob, noise)), 16_368)


def test_one_value_a_slot_does_not_pass_for_two(contexts: Contexts) -> None:
    one = sealed(contexts[0], np.ones(9, np.int32), pack=packing(3, 1))
    with pytest.raises(CiphertextError, match="sealed under b'sealed/1', this round uses 'sealed/2'"):
        SealedSummer(contexts[0], 2).check(io.BytesIO(one), 9)
    SealedSummer(contexts[0], 1).check(io.BytesIO(one), 9)


def test_a_sealer_seals_once(contexts: Contexts) -> None:
    sealer = SealedSealer(contexts[0], packing(), masks_of(0, 3))
    with pytest.raises(BadDataError):
        sealer.seal(np.array([packing().bound + 1]))
    parts = sealer.seal(np.ones(3, np.int32))
    with pytest.raises(RuntimeError, match="seals one vector"):
        sealer.seal(np.ones(3, np.int32))
    assert len(b"".join(parts)) == HEADER_BYTES + 131_072


def test_a_site_does_not_seal_without_a_mask(contexts: Contexts) -> None:
    for masks in (Masks(added=(), subtracted=()), Masks(added=(), subtracted=(key(1),))):
        with pytest.raises(ValueError, match="a site adds its self-mask at the least"):
            SealedSealer(contexts[0], packing(), masks)


def test_a_secret_key_is_refused_where_none_may_be(contexts: Contexts) -> None:
    with pytest.raises(UsageError, match="holds a secret key"):
        SealedSealer(contexts[1], packing(), masks_of(0, 3))
    with pytest.raises(UsageError, match="holds a secret key"):
        SealedSummer(contexts[1], 2)
    with pytest.raises(UsageError, match="holds no secret key"):
        SealedOpener(contexts[0], packing(), masks_of(0, 3))


def test_adding_needs_no_tenseal(contexts: Contexts, tmp_path: Path) -> None:
    blobs = [sealed(contexts[0], np.ones(9, np.int32), masks_of(site, 3)) for site in range(2)]
    (tmp_path / "public").write_bytes(contexts[0])
    for number, blob in enumerate(blobs):
        (tmp_path / str(number)).write_bytes(blob)
    script = (
        "import sys; from pathlib import Path; sys.modules['tenseal'] = None\n"
        "from components.encryption.bfv.sealed import SealedSummer\n"
        "folder = Path(sys.argv[1])\n"
        "sources = [(folder / name).open('rb') for name in '01']\n"
        "parts = SealedSummer((folder / 'public').read_bytes(), 2).add(sources, 9)\n"
        "(folder / 'sum').write_bytes(b''.join(parts))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    assert (tmp_path / "sum").read_bytes() == added(contexts[0], blobs, 9)


def test_nothing_but_the_whole_sum_opens_with_its_own_masks(contexts: Contexts) -> None:
    """With the right masks only header, size and end can tell: nothing here opens to noise."""
    blob = sealed(contexts[0], np.ones(20_000, np.int32))
    opener = SealedOpener(contexts[1], packing(), masks_of(0, 3))
    assert opener.open(io.BytesIO(blob), 20_000).tolist() == [1] * 20_000
    another = blob[:24] + bytes(32) + blob[56:]
    for bad, length, message in (
        (blob + b"\0", 20_000, "padded"),
        (blob + blob[HEADER_BYTES:], 20_000, "padded"),
        (blob[:-1], 20_000, "truncated"),
        (blob[: HEADER_BYTES + 131_072], 20_000, "truncated"),
        (blob[:HEADER_BYTES], 20_000, "truncated"),
        (blob[:40], 20_000, "less than a header"),
        (blob, 19_999, "20000 values are sealed, 19999 are due"),
        (another, 20_000, "sealed for context 000000000000"),
    ):
        with pytest.raises(CiphertextError, match=message):
            opener.open(io.BytesIO(bad), length)
        with pytest.raises(CiphertextError, match=message):
            SealedSummer(contexts[0], 2).check(io.BytesIO(bad), length)
        with pytest.raises(CiphertextError, match=message):
            added(contexts[0], [bad], length)
