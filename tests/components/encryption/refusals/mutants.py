"""Mutants of what a site uploads: what is altered, by kind, drawn from a seed.

Each is for one site, `alpha`. What becomes of it follows from its kind alone, not from the keys and
ciphertexts that happen to be there: words of ciphertexts are uniform, so a bit below the 60th leaves
a word below the modulus but once in 2^40, and one above it never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from components.agreement.cutoff import Cutoff
from components.agreement.sealed_manifest import DOMAIN, SealedManifest
from components.artifacts.documents import canonical_json, digest, sign
from components.encryption.bfv.words import MODULUS, RING_DEGREE, WORDS, add_residues
from components.encryption.framing import HEADER_BYTES
from tests.components.encryption.refusals.walk import signing_key, with_words, words_of
from tests.components.rounds.walks import Walked

SITE = "alpha"
USED_SLOTS = 30
"""Slots that hold an update of the small model, a value each; all others must open to zero."""
VALUE_BITS = 35
"""Flips of lower bits than this, above the noise, stay in the first of a slot's two fields."""
NOISE_BITS = 13
"""Flips of lower bits than this drown in the noise of a BFV ciphertext, which may be up to q / 2p = 8192."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What lies in the exchange for the site.

    Attributes:
        kind: of the mutant.
        document: the manifest.
        blob: the sealed update.
    """

    kind: str
    document: bytes
    blob: bytes


class Mutants:
    """Mutants of one site's upload.

    Args:
        walked: an attempt in which everybody has sealed.
        seed: of all that is drawn.
        resigned: whether the site signs what it alters, or somebody alters what it has signed.
    """

    def __init__(self, walked: Walked, *, seed: int, resigned: bool) -> None:
        self._three, self._resigned = walked.three, resigned
        self._generator = np.random.default_rng([seed, resigned])
        self._key = signing_key(walked.three, SITE)
        self._blob, self._document = walked.blob(SITE).read_bytes(), walked.manifest(SITE).read_bytes()
        self._other_blob, self._other_document = (
            walked.blob("beta").read_bytes(),
            walked.manifest("beta").read_bytes(),
        )
        attempt = walked.three.attempt()
        self._manifest = attempt.manifest(attempt.roster(), SITE)

    def of_blobs(self, counts: Mapping[str, int]) -> Iterator[Upload]:
        """So many of each kind of `BLOBS`."""
        for kind, count in counts.items():
            for _ in range(count):
                yield self._upload(kind, BLOBS[kind](self))

    def of_manifests(self, counts: Mapping[str, int]) -> Iterator[Upload]:
        """So many of each kind of `DOCUMENTS`, or of `FIELDS` where the site signs."""
        for kind, count in counts.items():
            for _ in range(count):
                if self._resigned:
                    body = asdict(self._manifest) | FIELDS[kind](self)
                    body = {name: value for name, value in body.items() if value is not _GONE}
                    document = sign(self._key, domain=DOMAIN, signer=SITE, body=body)
                else:
                    document = DOCUMENTS[kind](self)
                yield Upload(kind=kind, document=document, blob=self._blob)

    def of_cutoffs(self, honest: Cutoff, counts: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """So many of each kind of `CUTOFFS`, by kind."""
        for kind, count in counts.items():
            for _ in range(count):
                yield kind, CUTOFFS[kind](self, honest)

    def honest(self) -> Upload:
        """What the site has uploaded."""
        return Upload(kind="honest", document=self._document, blob=self._blob)

    def _upload(self, kind: str, blob: bytes) -> Upload:
        document = self._document
        if self._resigned:
            document = replace(self._manifest, blob=digest(blob), size=len(blob)).signed(self._key)
        return Upload(kind=kind, document=document, blob=blob)

    def below(self, bound: int) -> int:
        """A number from zero."""
        return int(self._generator.integers(0, bound))

    def flipped_word(self, *, first: int, last: int, lowest: int, highest: int) -> bytes:
        """One bit of one word."""
        words, word = words_of(self._blob), first + self.below(last - first)
        words[word] ^= np.uint64(1 << (lowest + self.below(highest - lowest)))
        return with_words(self._blob, words)

    def flipped(self, content: bytes, bits: int) -> bytes:
        """One of the first bits."""
        position = self.below(bits)
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        return bytes(changed)

    def forged_size(self) -> bytes:
        """The header announces another length, number of parts or size of a part."""
        changed, field = bytearray(self._blob), 56 + 8 * self.below(3)
        changed[field : field + 8] = (2 ** (20 + self.below(44)) - 1).to_bytes(8, "little")
        return bytes(changed)

    def seal_serialisation(self) -> bytes:
        """What SEAL would parse, forged sizes and all, where words belong."""
        forged = b"\x0a\x04" + self._generator.bytes(4) + b"\x12" + self._generator.bytes(3)
        forged += b"\x5e\xa1\x10\x04\x03\x02\x00\x00" + self._generator.bytes(8 * WORDS)
        return self._blob[:HEADER_BYTES] + forged[: 8 * WORDS]

    def of_another_round(self) -> bytes:
        """Words of a ciphertext that has nothing to do with this round's: uniform."""
        return with_words(self._blob, self._generator.integers(0, MODULUS, WORDS, dtype=np.uint64))

    def multiple(self, blob: bytes) -> bytes:
        """A site that is in the sum several times over, up to seven: of more the noise would not open."""
        words = words_of(blob)
        total = words.copy()
        for _ in range(1 + self.below(6)):
            add_residues(total, words)
        return with_words(self._blob, total)

    @property
    def blob(self) -> bytes:
        """What the site has sealed."""
        return self._blob

    @property
    def other_blob(self) -> bytes:
        """What another site has sealed."""
        return self._other_blob

    @property
    def document(self) -> bytes:
        """What the site has signed."""
        return self._document

    @property
    def other_document(self) -> bytes:
        """What another site has signed."""
        return self._other_document

    def elsewhere(self) -> bytes:
        """What the site has signed for another round."""
        names = ("charter", "ticket", "roster")
        changed: dict[str, Any] = {names[self.below(3)]: self._generator.bytes(32).hex()}
        return replace(self._manifest, **changed).signed(self._key)

    def by_another(self) -> bytes:
        """What another site signs in the site's name, of a size that is drawn."""
        manifest: SealedManifest = replace(self._manifest, size=1 + self.below(1 << 30))
        return sign(signing_key(self._three, "beta"), domain=DOMAIN, signer=SITE, body=asdict(manifest))

    def repeated(self, honest: Cutoff) -> bytes:
        """Members in any order, some of them several times over."""
        again = [honest.members[self.below(3)] for _ in range(1 + self.below(2000))]
        members = self._generator.permutation([*honest.members, *again]).tolist()
        return canonical_json({"roster": honest.roster, "members": members, "left_out": {}})

    def nested(self) -> bytes:
        """JSON that a recursive reader descends into without end."""
        depth = 2000 + self.below(20_000)
        return b'{"body":' + b"[" * depth + b"]" * depth + b"}"

    def junk(self) -> Any:
        """A value that no field of a manifest has."""
        number = self.below(2**40) + 2**38
        return [None, [number], {"size": number}, number + 0.5, True][self.below(5)]


_GONE = object()

BLOBS: Mapping[str, Callable[[Mutants], bytes]] = {
    "noise": lambda m: m.flipped_word(first=0, last=WORDS, lowest=0, highest=NOISE_BITS),
    "value": lambda m: m.flipped_word(first=0, last=USED_SLOTS, lowest=NOISE_BITS + 1, highest=VALUE_BITS),
    "zero slot": lambda m: m.flipped_word(
        first=USED_SLOTS, last=RING_DEGREE, lowest=NOISE_BITS + 1, highest=60
    ),
    "second polynomial": lambda m: m.flipped_word(
        first=RING_DEGREE, last=WORDS, lowest=NOISE_BITS + 1, highest=60
    ),
    "high bit": lambda m: m.flipped_word(first=0, last=WORDS, lowest=60, highest=64),
    "header bit": lambda m: m.flipped(m.blob, 8 * HEADER_BYTES),
    "forged size": Mutants.forged_size,
    "truncated": lambda m: m.blob[: m.below(len(m.blob))],
    "prolonged": lambda m: m.blob + bytes(1 + m.below(1 << 16)),
    "SEAL's own form": Mutants.seal_serialisation,
    "another round's": Mutants.of_another_round,
    "another site's": lambda m: m.other_blob,
    "several times": lambda m: m.multiple(m.blob),
    "another several times": lambda m: m.multiple(m.other_blob),
}
"""Of sealed updates."""

DOCUMENTS: Mapping[str, Callable[[Mutants], bytes]] = {
    "bit": lambda m: m.flipped(m.document, 8 * len(m.document)),
    "truncated": lambda m: m.document[: m.below(len(m.document))],
    "prolonged": lambda m: m.document + b" " * (1 + m.below(1000)),
    "oversized": lambda m: m.document + b" " * (1 << 16) + b"}" * m.below(1000),
    "another site's": lambda m: m.other_document,
    "another round's": Mutants.elsewhere,
    "signed by another": Mutants.by_another,
    "nested": Mutants.nested,
}
"""Of manifests that somebody alters, or puts in their place."""

FIELDS: Mapping[str, Callable[[Mutants], dict[str, Any]]] = {
    "size": lambda m: {"size": 2 ** m.below(34)},
    "no size": lambda m: {"size": m.junk()},
    "length": lambda m: {"length": 31 + m.below(2**53 - 40)},
    "no length": lambda m: {"length": m.junk()},
    "digest": lambda m: {"blob": m._generator.bytes(32).hex()},
    "no digest": lambda m: {"blob": m.junk()},
    "another round": lambda m: {
        ("charter", "ticket", "roster", "certificate")[m.below(4)]: m._generator.bytes(32).hex()
    },
    "another purpose": lambda m: {("purpose", "protection", "site")[m.below(3)]: f"beta{m.below(99)}"},
    "a field too many": lambda m: {f"size{m.below(10**6)}": m.junk()},
    "a field too few": lambda m: {list(asdict(m._manifest))[m.below(10)]: _GONE},
}
"""Of manifests that the site signs."""

CUTOFFS: Mapping[str, Callable[[Mutants, Cutoff], bytes]] = {
    "repeated members": Mutants.repeated,
    "a stranger": lambda m, c: replace(c, members=(*c.members, f"delta{m.below(99)}")).to_json(),
    "another roster's": lambda m, c: replace(c, roster=m._generator.bytes(32).hex()).to_json(),
    "no list": lambda m, c: canonical_json(
        {"roster": c.roster, "members": [[m.below(9)]], "left_out": m.below(9)}
    ),
    "truncated": lambda m, c: c.to_json()[: m.below(len(c.to_json()))],
    "nested": lambda m, c: m.nested(),
}
"""Of cut-offs, which anybody may write."""
