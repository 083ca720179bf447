"""Mutated public contexts, altered after the key holder certified them or certified by him as they are.

A context that is not the certified one is not looked at. One that he certifies is compared with the only
form there is, before TenSEAL sees it; what then remains of his freedom are words below the primes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.key_certificate import CertifiedKey, certificate_key, certified_keys, context_key
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedSealer
from components.encryption.contexts import public_context
from components.encryption.framing import HEADER_BYTES, context_fingerprint
from components.encryption.masking.masks import KEY_BYTES, Masks
from components.encryption.protection import Sealer, require_form, sealer
from components.errors import CiphertextError, RefusedError, UsageError
from components.execution.outcome import disclosed_reason
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import signing_key
from tests.components.rounds.walks import walk

protections = pytest.mark.parametrize("protection", ["sealed", "he"])
WORDS_END = 11
"""Bytes after the last word: TenSEAL's own settings and scale."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """An honest public context and the generator that its mutants are drawn from."""

    content: bytes
    generator: np.random.Generator

    @property
    def words_start(self) -> int:
        """Where the words of the key begin; 131 kB follow without a break."""
        return len(self.content) - 262_161

    def below(self, bound: int) -> int:
        return int(self.generator.integers(0, bound))

    def flipped(self, position: int, bit: int) -> bytes:
        changed = bytearray(self.content)
        changed[position] ^= 1 << bit
        return bytes(changed)

    def word(self) -> int:
        """Position of the first byte of a word within the first block."""
        return self.words_start + 8 * self.below(16_000)

    def forged_size(self) -> bytes:
        """A size of the protocol buffer, of SEAL or of zstd, in the bytes before the words."""
        changed, position = bytearray(self.content), self.below(self.words_start - 8)
        size = int.from_bytes(changed[position : position + 8], "little") ^ 1 << 8 + self.below(50)
        changed[position : position + 8] = size.to_bytes(8, "little")
        return bytes(changed)


MUTANTS: Mapping[str, Callable[[Context], bytes]] = {
    "a bit before the words": lambda c: c.flipped(c.below(c.words_start), c.below(8)),
    "a bit after the words": lambda c: c.flipped(len(c.content) - 1 - c.below(WORDS_END), c.below(8)),
    "forged size": Context.forged_size,
    "truncated": lambda c: c.content[: c.below(len(c.content))],
    "prolonged": lambda c: c.content + bytes(1 + c.below(100_000)),
    "doubled": lambda c: c.content + c.content[: 1 + c.below(len(c.content))],
    "a high bit of a word": lambda c: c.flipped(c.word() + 7, 4 + c.below(4)),
    "a bit of a word": lambda c: c.flipped(c.word() + c.below(7), c.below(8)),
}
COUNTS = dict.fromkeys(MUTANTS, 80)
CERTIFIED = dict.fromkeys(MUTANTS, "refused") | {"a bit of a word": "sealed"}


def honest(protection: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ThreeSites, CertifiedKey]:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
    three = walk("open", protection).three
    certified = three.attempt().certificate()
    assert certified
    return three, certified


def context_of(three: ThreeSites, certified: CertifiedKey) -> Context:
    content = public_context(three.keys_uri, certified)
    return Context(content=content, generator=np.random.default_rng(3))


def sealer_of(protection: str, context: bytes) -> Sealer:
    if protection == "he":
        return sealer("he", context)
    return SealedSealer(
        context, Packing(values_per_slot=2, sites=3), Masks(added=(bytes(KEY_BYTES),), subtracted=())
    )


def sealed_under(protection: str, context: bytes, values: NDArray[Any]) -> str:
    try:
        require_form(protection, context)
    except CiphertextError:
        # Whoever does not ask before is refused too, and TenSEAL has not seen it.
        with pytest.raises(UsageError, match="make one with `crosscloud keys init`"):
            sealer_of(protection, context)
        return "refused"
    blob = b"".join(sealer_of(protection, context).seal(values))
    return "sealed" if len(blob) == HEADER_BYTES + 131_072 else "something else"


@protections
def test_one_that_is_not_the_certified_one_is_not_looked_at(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, certified = honest(protection, tmp_path, monkeypatch)
    context = context_of(three, certified)
    path = three.keys_folder / context_key(protection, certified.certificate.context)
    found: Counter[str] = Counter()
    for kind, count in COUNTS.items():
        for _ in range(count):
            path.write_bytes(MUTANTS[kind](context))
            with pytest.raises(RefusedError, match="is not the certified one"):
                public_context(three.keys_uri, certified)
            found[kind] += 1
    assert found == Counter(COUNTS)


@protections
def test_one_that_the_key_holder_certifies_so_kills_no_site(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, certified = honest(protection, tmp_path, monkeypatch)
    context = context_of(three, certified)
    certificate_path = three.keys_folder / certificate_key(three.charter, protection, 1)
    key = signing_key(three, "key-holder")
    values = np.ones(30, np.int32 if protection == "sealed" else np.float64)
    found: Counter[tuple[str, str]] = Counter()
    for kind, count in COUNTS.items():
        for _ in range(count):
            content = MUTANTS[kind](context)
            fingerprint = context_fingerprint(content)
            certificate_path.write_bytes(replace(certified.certificate, context=fingerprint).signed(key))
            (three.keys_folder / context_key(protection, fingerprint)).write_bytes(content)
            (newest,) = certified_keys(three.keys_uri, three.charter, protection)
            given = public_context(three.keys_uri, newest)
            found[kind, sealed_under(protection, given, values)] += 1
            (three.keys_folder / context_key(protection, fingerprint)).unlink()
    assert found == Counter({(kind, CERTIFIED[kind]): count for kind, count in COUNTS.items()})


@protections
def test_a_site_tells_it_in_words(protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    walked = walk("called", protection)
    three, certified = walked.three, walked.three.attempt().certificate()
    assert certified
    content = context_of(three, certified).flipped(5, 0)
    recertified = replace(certified.certificate, context=context_fingerprint(content))
    (three.keys_folder / context_key(protection, recertified.context)).write_bytes(content)
    (three.keys_folder / certificate_key(three.charter, protection, 1)).write_bytes(
        recertified.signed(signing_key(three, "key-holder"))
    )
    with pytest.raises(CiphertextError) as caught:
        three.seal(walked.roster)
    assert disclosed_reason(caught.value) == (
        f"refused: the public context for protection {protection} is none to seal under, its parameters or "
        "its form are others: the key holder makes another with `crosscloud keys rotate`"
    )
