from __future__ import annotations

import pytest

from components.encryption.protection import generate_contexts
from components.encryption.secret_keys.public_halves import public_half
from components.errors import UsageError


@pytest.mark.parametrize("protection", ["he", "masked", "sealed"])
def test_it_is_the_one_that_was_made_with_the_secret_one(protection: str) -> None:
    public, secret = generate_contexts(protection)
    assert public_half(protection, secret) == public


@pytest.mark.parametrize("protection", ["he", "masked", "sealed", "none", "smc"])
@pytest.mark.parametrize("content", [b"", b"no key"])
def test_of_what_is_no_secret_key_there_is_none(protection: str, content: bytes) -> None:
    with pytest.raises(UsageError, match=f"bytes are no secret (key|context) of .*{protection}"):
        public_half(protection, content)
