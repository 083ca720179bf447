"""What every provider of a wrapping key must do, whatever the key lies in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from components.encryption.key_providers.provider import KeyProvider, require_working
from components.errors import KeyProviderError
from tests.components.encryption.key_providers.traces import everything_about, found_in, traces

BOUND = {"context": "c1" * 32, "federation": "small", "protection": "sealed"}


class KeyProviderContract:
    """Inherited by the tests of each; `provider` and `other` are two keys of one place."""

    @pytest.fixture
    def provider(self) -> KeyProvider:
        raise NotImplementedError

    @pytest.fixture
    def other(self) -> KeyProvider:
        raise NotImplementedError

    def test_what_is_wrapped_comes_back(self, provider: KeyProvider) -> None:
        data_key = secrets.token_bytes(32)
        wrapped = provider.wrap(data_key, bound=BOUND)
        assert provider.unwrap(wrapped, bound=BOUND) == data_key
        assert not found_in(wrapped, traces(data_key))

    def test_no_two_wrappings_are_alike(self, provider: KeyProvider) -> None:
        data_key = secrets.token_bytes(32)
        assert len({provider.wrap(data_key, bound=BOUND) for _ in range(4)}) == 4

    @pytest.mark.parametrize(
        "bound", [BOUND | {"context": "c2" * 32}, BOUND | {"federation": "large"}, {"federation": "small"}]
    )
    def test_it_is_bound_to_what_it_is_for(self, provider: KeyProvider, bound: dict[str, str]) -> None:
        data_key = secrets.token_bytes(32)
        wrapped = provider.wrap(data_key, bound=BOUND)
        with refused(data_key):
            provider.unwrap(wrapped, bound=bound)

    @pytest.mark.parametrize(
        "alter",
        [
            lambda wrapped: altered_at(wrapped, 0),
            lambda wrapped: altered_at(wrapped, len(wrapped) // 2),
            lambda wrapped: altered_at(wrapped, len(wrapped) - 1),
            lambda wrapped: wrapped[:-1],
            lambda wrapped: wrapped + b"\0",
            lambda wrapped: wrapped[:5],
            lambda _: b"",
        ],
        ids=["first", "middle", "last", "shorter", "longer", "cut", "empty"],
    )
    def test_an_altered_one_is_refused(self, provider: KeyProvider, alter: Callable[[bytes], bytes]) -> None:
        data_key = secrets.token_bytes(32)
        wrapped = alter(provider.wrap(data_key, bound=BOUND))
        with refused(data_key):
            provider.unwrap(wrapped, bound=BOUND)

    def test_another_key_does_not_unwrap_it(self, provider: KeyProvider, other: KeyProvider) -> None:
        data_key = secrets.token_bytes(32)
        assert provider.key != other.key
        wrapped = provider.wrap(data_key, bound=BOUND)
        with refused(data_key):
            other.unwrap(wrapped, bound=BOUND)

    def test_one_that_works_passes_the_check(self, provider: KeyProvider) -> None:
        require_working(provider, federation="small")


def altered_at(wrapped: bytes, position: int) -> bytes:
    """Another byte there, whichever it was: a constant would now and then be the one that was there."""
    return wrapped[:position] + bytes([wrapped[position] ^ 1]) + wrapped[position + 1 :]


@contextmanager
def refused(*secret: bytes, match: str | None = None) -> Iterator[None]:
    """Expects one line that holds no secret, however far the error is unfolded."""
    with pytest.raises(KeyProviderError, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1
    told = everything_about(caught.value)
    for each in secret:
        assert not found_in(told, traces(each))
