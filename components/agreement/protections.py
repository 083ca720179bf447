"""What sets the protections apart, by name: what is sealed, who masks it, which steps and keys that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a protection asks of a round.

    Attributes:
        integers: an update is sealed in fixed point, and sums are exact; float64 otherwise.
        masked: sites mask each other, so every site commits with a key of the attempt, and an opened set
            must be large enough that no second one could be opened.
        lifted_by: step by which sites lift what masks a sum; empty where nothing is masked.
        keyed: the key holder has a key for it, which a certificate names.
    """

    integers: bool
    masked: bool
    lifted_by: Literal["", "release", "unmask"]
    keyed: bool


NONE, HE, SMC, MASKED, SEALED = "none", "he", "smc", "masked", "sealed"
RELEASE: Literal["release"] = "release"
UNMASK: Literal["unmask"] = "unmask"

TRAITS: Mapping[str, Traits] = {
    NONE: Traits(integers=False, masked=False, lifted_by="", keyed=False),
    HE: Traits(integers=False, masked=False, lifted_by="", keyed=True),
    SMC: Traits(integers=True, masked=True, lifted_by=UNMASK, keyed=False),
    MASKED: Traits(integers=True, masked=True, lifted_by=RELEASE, keyed=True),
    SEALED: Traits(integers=True, masked=True, lifted_by=RELEASE, keyed=True),
}
"""By name, as federation files and charters have them."""

MEANINGS: Mapping[str, str] = {
    NONE: "updates are sent in clear",
    HE: "CKKS under one key: whoever holds it, or an aggregator that hands over one update, opens it",
    SMC: "masks alone (Bonawitz et al. 2017): one agreed sum can be read, by everybody who sees the exchange",
    MASKED: "masks of 32 bits, and a pad that only the key holder can take off one agreed sum",
    SEALED: "one agreed sum is opened and nothing else",
}
"""In a few words, for those who are to agree to one."""
