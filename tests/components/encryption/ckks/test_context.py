from __future__ import annotations

import sys
from typing import Any

import pytest
import tenseal

from components.encryption import protection
from components.encryption.ckks.context import (
    load_public_context,
    load_secret_context,
    public_part,
    public_part_of,
)
from components.errors import UsageError

CKKS, BFV = tenseal.SCHEME_TYPE.CKKS, tenseal.SCHEME_TYPE.BFV


@pytest.fixture(scope="module")
def contexts() -> tuple[bytes, bytes]:
    return protection.generate_contexts("he")


def serialised(context: Any, *, secret: bool) -> bytes:
    content: bytes = context.serialize(
        save_public_key=True, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return content


def test_the_public_context_holds_no_secret_key(contexts: tuple[bytes, bytes]) -> None:
    public, secret = contexts
    assert not tenseal.context_from(public, n_threads=1).is_private()
    assert tenseal.context_from(secret, n_threads=1).is_private()
    # The secret context is the public one and then the private field, of which the public one has no piece.
    assert secret.startswith(public)
    private = secret[len(public) :]
    assert len(private) > 131_072
    assert not any(private[i : i + 16] in public for i in range(300, len(private) - 300, 997))


def test_both_halves_have_one_public_part(contexts: tuple[bytes, bytes]) -> None:
    public, secret = contexts
    assert public_part(load_public_context(public)) == public
    assert public_part(load_secret_context(secret)) == public
    assert public_part_of(secret) == public


def test_every_key_is_new(contexts: tuple[bytes, bytes]) -> None:
    assert protection.generate_contexts("he")[0] != contexts[0]


def test_a_site_and_the_aggregator_refuse_a_secret_key(contexts: tuple[bytes, bytes]) -> None:
    for role in (protection.sealer, protection.summer):
        with pytest.raises(UsageError, match="holds a secret key"):
            role("he", contexts[1])


def test_the_key_holder_refuses_a_context_without_one(contexts: tuple[bytes, bytes]) -> None:
    with pytest.raises(UsageError, match="holds no secret key"):
        protection.opener("he", contexts[0])


@pytest.mark.parametrize("content", [b"", b"abc", b"\x08\x01", b"\x0a\x00", b"\x0a\xff\xff\xff\xff\xff\xff"])
def test_what_is_no_context_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="no public context of he: make one"):
        protection.sealer("he", content)
    with pytest.raises(UsageError, match="no public context of he: make one"):
        protection.summer("he", content)
    with pytest.raises(UsageError, match="no secret context of he: make one"):
        protection.opener("he", content)


def test_a_truncated_or_prolonged_context_is_refused(contexts: tuple[bytes, bytes]) -> None:
    for content in (contexts[0][:-1], contexts[0][:1000], contexts[0] + b"\x0a", contexts[0] * 2):
        with pytest.raises(UsageError, match="no public context"):
            protection.sealer("he", content)


def test_a_context_that_cannot_be_loaded_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot encrypt as he does"):
        protection.sealer("he", b"\x0a\x01\x00\x12\x01\x00")


@pytest.mark.parametrize(
    "parameters",
    [
        {"scheme": CKKS, "poly_modulus_degree": 16384, "coeff_mod_bit_sizes": [60, 60]},
        {"scheme": CKKS, "poly_modulus_degree": 8192, "coeff_mod_bit_sizes": [60, 40]},
        {"scheme": CKKS, "poly_modulus_degree": 8192, "coeff_mod_bit_sizes": [60, 40, 40]},
        {
            "scheme": BFV,
            "poly_modulus_degree": 8192,
            "plain_modulus": 1032193,
            "coeff_mod_bit_sizes": [60, 60],
        },
    ],
)
def test_other_parameters_are_refused(parameters: dict[str, Any]) -> None:
    context = tenseal.context(n_threads=1, **parameters)
    context.global_scale = 2.0**31
    with pytest.raises(UsageError, match="cannot encrypt as he does"):
        protection.sealer("he", serialised(context, secret=False))
    with pytest.raises(UsageError, match="cannot encrypt as he does"):
        protection.opener("he", serialised(context, secret=True))


def test_without_tenseal_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(UsageError, match=r"pip install 'crosscloud\[encryption\]'"):
        protection.generate_contexts("he")


def test_symmetric_encryption_is_refused() -> None:
    context = tenseal.context(
        CKKS,
        8192,
        coeff_mod_bit_sizes=[60, 60],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )
    context.global_scale = 2.0**31
    for secret in (False, True):
        for role in (protection.sealer, protection.summer, protection.opener):
            with pytest.raises(UsageError, match=r"no (public|secret) context"):
                role("he", serialised(context, secret=secret))
