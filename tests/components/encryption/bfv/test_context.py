from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from components.encryption import protection
from components.encryption.bfv import context as bfv_context
from components.encryption.bfv.context import (
    BlockDecryptor,
    BlockEncryptor,
    generate_contexts,
    load_public_context,
    load_secret_context,
    public_part,
    public_part_of,
    require_public,
)
from components.encryption.bfv.words import serialised_ciphertext
from components.encryption.native.tenseal_contexts import ContextKind
from components.errors import CiphertextError, UsageError
from tests.components.encryption.tenseal_vectors import vector_from

P = 70368743669761
CKKS, BFV = tenseal.SCHEME_TYPE.CKKS, tenseal.SCHEME_TYPE.BFV


@pytest.fixture(scope="module")
def contexts() -> tuple[bytes, bytes]:
    return generate_contexts()


def serialised(context: Any, *, secret: bool) -> bytes:
    content: bytes = context.serialize(
        save_public_key=True, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return content


def encrypted(public_context: bytes, blocks: list[NDArray[np.uint64]]) -> list[bytes]:
    return list(map(BlockEncryptor(load_public_context(public_context)).encrypt, blocks))


def test_the_public_context_holds_no_secret_key(contexts: tuple[bytes, bytes]) -> None:
    public, secret = contexts
    assert not tenseal.context_from(public, n_threads=1).is_private()
    assert tenseal.context_from(secret, n_threads=1).is_private()
    # The secret context is the public one and then the private field, of which the public one has no piece.
    assert secret.startswith(public)
    private = secret[len(public) :]
    assert len(private) > 131_072
    assert not any(private[i : i + 16] in public for i in range(300, len(private) - 300, 997))


def test_both_halves_have_one_public_part_however_often_they_have_encrypted(
    contexts: tuple[bytes, bytes],
) -> None:
    public, secret = contexts
    for context in (load_public_context(public), load_secret_context(secret)):
        assert public_part(context) == public
        BlockEncryptor(context).encrypt(np.zeros(8192, np.uint64))
        assert public_part(context) == public
    assert public_part_of(secret) == public


def test_every_key_is_new(contexts: tuple[bytes, bytes]) -> None:
    assert generate_contexts()[0] != contexts[0]


def test_slots_go_in_and_out(contexts: tuple[bytes, bytes]) -> None:
    slots = np.random.default_rng(0).integers(0, P, 8192, dtype=np.uint64)
    slots[:4] = 0, P - 1, P // 2, P // 2 + 1
    blocks = [slots, np.zeros(8192, np.uint64)]
    contents = encrypted(contexts[0], blocks)
    assert [len(content) for content in contents] == [131_072] * 2
    secret = load_secret_context(contexts[1])
    decryptor = BlockDecryptor(secret)
    for content, block in zip(contents, blocks, strict=True):
        words = np.frombuffer(content, "<u8")
        np.testing.assert_array_equal(decryptor.decrypt(words), block)


def test_a_slot_is_a_coefficient(contexts: tuple[bytes, bytes]) -> None:
    """TenSEAL reads values of the polynomial at roots of unity: of c X^0 it is c at all of them."""
    slots = np.zeros(8192, np.uint64)
    slots[0] = 7
    (content,) = encrypted(contexts[0], [slots])
    secret = load_secret_context(contexts[1])
    opened = vector_from(secret, serialised_ciphertext(np.frombuffer(content, "<u8"))).decrypt()
    assert opened == [7] * 8192


def test_zeros_at_the_end_of_a_block_come_back(contexts: tuple[bytes, bytes]) -> None:
    """SEAL leaves them out when it writes a plaintext."""
    decryptor = BlockDecryptor(load_secret_context(contexts[1]))
    for last in (0, 1, 100, 8191):
        slots = np.zeros(8192, np.uint64)
        slots[last] = P - 1
        (content,) = encrypted(contexts[0], [slots])
        np.testing.assert_array_equal(decryptor.decrypt(np.frombuffer(content, "<u8")), slots)


def test_equal_blocks_differ_encrypted(contexts: tuple[bytes, bytes]) -> None:
    contents = encrypted(contexts[0], [np.zeros(8192, np.uint64)] * 6)
    words = np.array([np.frombuffer(content, "<u8") for content in contents])
    # Two independent uniform words are equal with probability 2^-60.
    for i in range(6):
        for j in range(i):
            assert not (words[i] == words[j]).any()


def test_what_was_encrypted_cannot_be_decrypted_with_the_public_context(
    contexts: tuple[bytes, bytes],
) -> None:
    context = load_public_context(contexts[0])
    with pytest.raises(ValueError, match="doesn't support decryption"):
        BlockDecryptor(context)
    (content,) = encrypted(contexts[0], [np.zeros(8192, np.uint64)])
    with pytest.raises(ValueError, match="secret_key"):
        vector_from(context, serialised_ciphertext(np.frombuffer(content, "<u8"))).decrypt()


def test_another_key_opens_to_noise(contexts: tuple[bytes, bytes]) -> None:
    (content,) = encrypted(contexts[0], [np.zeros(8192, np.uint64)])
    other = BlockDecryptor(load_secret_context(generate_contexts()[1]))
    opened = other.decrypt(np.frombuffer(content, "<u8"))
    assert (opened == 0).sum() < 5


def test_words_that_no_ciphertext_has_do_not_reach_seal(contexts: tuple[bytes, bytes]) -> None:
    decryptor = BlockDecryptor(load_secret_context(contexts[1]))
    for words in (np.full(16_384, 2**60, np.uint64), np.zeros(16_383, np.uint64), np.zeros(0, np.uint64)):
        with pytest.raises(CiphertextError):
            decryptor.decrypt(words)


def test_a_site_and_the_aggregator_refuse_a_secret_key(contexts: tuple[bytes, bytes]) -> None:
    for role in (require_public, load_public_context):
        with pytest.raises(UsageError, match="holds a secret key"):
            role(contexts[1])


def test_the_key_holder_refuses_a_context_without_one(contexts: tuple[bytes, bytes]) -> None:
    with pytest.raises(UsageError, match="holds no secret key"):
        load_secret_context(contexts[0])


@pytest.mark.parametrize("content", [b"", b"abc", b"\x08\x01", b"\x0a\x00", b"\x0a\xff\xff\xff\xff\xff\xff"])
def test_what_is_no_context_is_refused(content: bytes) -> None:
    for role in (require_public, load_public_context):
        with pytest.raises(UsageError, match="no public context of sealed: make one"):
            role(content)
    with pytest.raises(UsageError, match="no secret context of sealed: make one"):
        load_secret_context(content)


def test_a_truncated_or_prolonged_context_is_refused(contexts: tuple[bytes, bytes]) -> None:
    for content in (contexts[0][:-1], contexts[0][:1000], contexts[0] + b"\x0a", contexts[0] * 2):
        with pytest.raises(UsageError, match="no public context"):
            require_public(content)


@pytest.mark.parametrize(
    "parameters",
    [
        {"poly_modulus_degree": 16384, "coeff_mod_bit_sizes": [60, 60]},
        {"coeff_mod_bit_sizes": [60, 40]},
        {"coeff_mod_bit_sizes": [60, 60, 60]},
        {"plain_modulus": 1032193},
        {"scheme": CKKS},
    ],
)
def test_other_parameters_are_refused(parameters: dict[str, Any]) -> None:
    ours = {"scheme": BFV, "poly_modulus_degree": 8192, "plain_modulus": P, "coeff_mod_bit_sizes": [60, 60]}
    changed = {**ours, **parameters}
    if changed["scheme"] == CKKS:
        del changed["plain_modulus"]
    context = tenseal.context(n_threads=1, **changed)
    with pytest.raises(UsageError, match="cannot encrypt as sealed does"):
        load_public_context(serialised(context, secret=False))
    with pytest.raises(UsageError, match="cannot encrypt as sealed does"):
        load_secret_context(serialised(context, secret=True))


def test_a_context_of_he_is_refused_and_he_refuses_one_of_ours(contexts: tuple[bytes, bytes]) -> None:
    with pytest.raises(UsageError, match="cannot encrypt as sealed does"):
        load_public_context(protection.generate_contexts("he")[0])
    with pytest.raises(UsageError, match="cannot encrypt as he does"):
        protection.sealer("he", contexts[0])


def test_one_that_takes_much_memory_is_refused(contexts: tuple[bytes, bytes]) -> None:
    """Nothing of its form does: the bomb goes off where the loaded context is looked at."""

    def bomb(_: Any) -> None:
        bytearray(1 << 30)

    kind = ContextKind(protection="sealed", form=bfv_context.FORM, require=bomb)
    with pytest.raises(UsageError, match=r"cannot encrypt as sealed does \(it takes more than 64 MB\)"):
        kind.load_public(contexts[0])


def test_symmetric_encryption_is_refused() -> None:
    context = tenseal.context(
        BFV,
        8192,
        plain_modulus=P,
        coeff_mod_bit_sizes=[60, 60],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )
    for secret in (False, True):
        for role in (load_public_context, load_secret_context, require_public):
            with pytest.raises(UsageError, match=r"no (public|secret) context"):
                role(serialised(context, secret=secret))


def test_without_tenseal_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(
        UsageError, match=r"protection sealed needs TenSEAL: pip install 'crosscloud\[encryption\]'"
    ):
        bfv_context.generate_contexts()
