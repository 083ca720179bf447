"""A forged sum: opened once, it gives the secret key away; a key holder who adds himself opens none.

The malicious aggregator waits until all have released. Then everybody can compute the masks of the sum,
and it hands over, instead of the sum, ciphertexts that decrypt to the masks plus bits of the secret
key. The eight zero slots do not help: there the bits are rounded away, and the key's coefficients that
would have shown there show, turned round, in another ciphertext.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.cutoff import sum_key
from components.artifacts.stores import key_of
from components.encryption.aggregate_opening.unmasking import released_masks
from components.encryption.bfv.context import BlockDecryptor, load_secret_context
from components.encryption.bfv.packing import VALUE_SLOTS, Packing
from components.encryption.bfv.sealed import SealedOpener
from components.encryption.bfv.words import MODULUS, WORDS
from components.encryption.ciphertext_sum import MemberSum, sealed_length
from components.encryption.masking.masks import Masks
from components.encryption.update_vector import fixed_point, from_sum
from components.errors import DigestMismatchError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.key_recovery import chosen_words, decrypt, unshifted
from tests.components.encryption.refusals.walk import (
    THREE,
    WalkTo,
    assert_exact_sum,
    blob_of,
    goes_on,
    nothing_is_open,
    put,
    refused,
    secret_key_file,
    with_words,
    words_of,
)

HIDDEN_UNITS = 5952
"""Gives a sealed vector of four full blocks of 16368 values and a fifth one with the count."""
QUESTIONS = [(1, 0), (-1, 0), (1, 8), (-1, 8)]
"""Sign and shift by block: two blocks tell all coefficients of the key but the last eight."""


def member_sum(three: ThreeSites) -> MemberSum:
    attempt = three.attempt()
    roster = attempt.roster()
    return MemberSum(
        attempt=attempt, roster=roster, cutoff=attempt.cutoff(roster), length=sealed_length(attempt)
    )


def public_masks(three: ThreeSites) -> Masks:
    """The masks of the sum, from what lies in the exchange once all have released."""
    return released_masks(member_sum(three))


def forged_sum(three: ThreeSites) -> bytes:
    """The true sum with a chosen ciphertext in the place of each full block."""
    total = three.exchange.read(sum_key(three.opened.ticket))
    words = words_of(total)
    masks = public_masks(three)
    for block, (sign, shift) in enumerate(QUESTIONS):
        words[block * WORDS : (block + 1) * WORDS] = chosen_words(
            masks.block(block).tolist(), asked=VALUE_SLOTS, sign=sign, shift=shift
        )
    return with_words(total, words)


def open_without_adding(three: ThreeSites, sealed_sum: str) -> NDArray[np.float64]:
    """A key holder who checks everything, and then opens what the aggregator hands over."""
    summed = member_sum(three)
    packing = Packing(values_per_slot=2, sites=len(summed.attempt.charter.sites))
    opener = SealedOpener(secret_key_file(three), packing, released_masks(summed))
    with three.exchange.open(key_of(three.exchange, sealed_sum)) as source:
        return from_sum(summed.attempt.charter, opener.open(source, summed.length), round_number=1, shapes={})


def stolen_key(three: ThreeSites, published: NDArray[np.float64]) -> NDArray[np.int64]:
    """The key, from nothing but the values a key holder has published."""
    steps = np.rint(published * fixed_point(three.charter).scale).astype(np.int64)
    shown = [steps[2 * block * VALUE_SLOTS :][:VALUE_SLOTS] for block in range(len(QUESTIONS))]
    straight, turned = shown[0] + shown[1], shown[2] + shown[3]
    last = unshifted(turned, 8)[-8:]
    return np.concatenate([straight, last])


def test_one_forged_sum_gives_the_key_to_who_opens_it_and_is_refused_by_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start(protection="sealed", hidden_units=HIDDEN_UNITS)
    total = three.summed(three.sealed())
    forged = put(three, "offers/sum.bin", forged_sum(three))

    key = stolen_key(three, open_without_adding(three, forged))
    assert set(key) == {-1, 0, 1}
    decryptor = BlockDecryptor(load_secret_context(secret_key_file(three)))
    for site in THREE:
        uploaded = words_of(blob_of(three, site))[:WORDS]
        assert np.array_equal(decrypt(uploaded, key).astype(np.uint64), decryptor.decrypt(uploaded))

    with refused(three, DigestMismatchError, "is not the sum of its members: the aggregator altered it"):
        three.open_sum(forged)
    assert nothing_is_open(three)
    three.commit(three.open_sum(total).reference)
    assert_exact_sum(three, THREE)


@pytest.mark.parametrize("fault", ["one bit", "cut", "longer", "one site's own", "twice one site's own"])
def test_what_is_not_the_sum_of_its_members_is_not_opened(walk_to: WalkTo, fault: str) -> None:
    walk = walk_to("released")
    three = walk.three
    total = three.exchange.read(sum_key(three.opened.ticket))
    alpha = blob_of(three, "alpha")
    handed_over = {
        "one bit": total[:-1] + bytes([total[-1] ^ 1]),
        "cut": total[:-1],
        "longer": total + b"\0",
        "one site's own": alpha,
        "twice one site's own": with_words(alpha, words_of(alpha) * 2 % np.uint64(MODULUS)),
    }[fault]
    there = put(three, "offers/sum.bin", handed_over)
    with refused(three, DigestMismatchError, "is not the sum of its members"):
        three.open_sum(there)
    assert nothing_is_open(three)
    if fault == "one bit":
        goes_on(three)
