"""What an attack's scores are worth: the area under its ROC curve, and the advantage over a coin.

An attack says of each thing, a row or a class, how likely it was in the training data. AUC is the chance
that a random member gets a higher score than a random other (Hanley and McNeil 1982, "The Meaning and Use
of the Area under a ROC Curve", Radiology 143); advantage = 2·AUC − 1 is 0 for a coin and 1 for certainty.

Whoever takes the best of many attacks on the things it is measured on finds an advantage where there is
none. So an attack is chosen on one half of the things and measured on the other, both ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.errors import IntegrityError, UsageError

Float = NDArray[np.float64]
SURE: Final = 2.0
"""Deviations by which an attack must stand out to be preferred to a surer one."""


def auc(members: Float, others: Float) -> float:
    """Chance that a random member scores higher than a random other; ties count half.

    Mann and Whitney 1947, from the members' mid-ranks in all scores.

    Args:
        members: scores of what was in the training data, (m,), finite, m at least 1.
        others: scores of what was not, (n,), finite, n at least 1.

    Raises:
        UsageError: one of them is empty, or a score is not finite.
    """
    if not (len(members) and len(others)):
        raise UsageError(f"an AUC needs members and others, got {len(members)} and {len(others)}")
    scores = np.concatenate([members, others])
    if not np.isfinite(scores).all():
        raise UsageError("a score is not a finite number: an attack must say something of everything")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    mid_ranks = last_ranks - (counts - 1) / 2
    least = len(members) * (len(members) + 1) / 2
    return float((mid_ranks[place[: len(members)]].sum() - least) / (len(members) * len(others)))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One variant of one attack on one view.

    Attributes:
        attack: its name, as `canaries`.
        view: who is attacking: `aggregator`, `participant` or `model`.
        variant: of the attack.
        auc_halves: AUC on each half of the scored things, in [0, 1].
        members: things that were in the training data, both halves.
        others: things that were not.
    """

    attack: str
    view: str
    variant: str
    auc_halves: tuple[float, float]
    members: int
    others: int

    @property
    def advantage(self) -> float:
        """2·AUC − 1 of the mean of both halves, not below 0: of this variant, had it been chosen before."""
        return max(0.0, sum(self.auc_halves) - 1)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"auc_halves": list(self.auc_halves)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Attempt:
        """Inverse of `to_dict`.

        Raises:
            IntegrityError: it is no such document.
        """
        try:
            first, second = map(float, document["auc_halves"])
            found = cls(
                attack=str(document["attack"]),
                view=str(document["view"]),
                variant=str(document["variant"]),
                auc_halves=(first, second),
                members=int(document["members"]),
                others=int(document["others"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"no attempt of an attack: {error}") from error
        if not all(0 <= value <= 1 for value in found.auc_halves):
            raise IntegrityError(f"an AUC lies in [0, 1], got {list(found.auc_halves)}")
        return found


def attempt(
    attack: str,
    view: str,
    variant: str,
    *,
    scores: Float,
    is_member: NDArray[np.bool_],
    half: NDArray[np.bool_],
) -> Attempt:
    """Measures scores on each half of the scored things.

    Args:
        attack: its name.
        view: who is attacking.
        variant: of the attack.
        scores: (n,), higher where the attack rather believes in a member.
        is_member: (n,), the truth.
        half: (n,), of `halves`; the first AUC is of where it is false.

    Raises:
        UsageError: a half lacks members or others, or a score is not finite.
    """
    first, second = (auc(scores[part & is_member], scores[part & ~is_member]) for part in (~half, half))
    members = int(is_member.sum())
    return Attempt(
        attack=attack,
        view=view,
        variant=variant,
        auc_halves=(first, second),
        members=members,
        others=len(is_member) - members,
    )


def halves(count: int, seed: int) -> NDArray[np.bool_]:
    """A random half of so many things, (count,): with an odd number the first half has one more."""
    chosen = np.zeros(count, bool)
    chosen[np.random.Generator(np.random.PCG64(seed)).permutation(count)[: count // 2]] = True
    return chosen


def strongest(attempts: Iterable[Attempt]) -> float:
    """The advantage of whoever takes the best attack: chosen on one half, measured on the other.

    The attack that is chosen has the largest lower bound, `SURE` deviations of chance below its advantage:
    with few things to score, chance alone makes some attack look strong. One whose AUC is below a half on
    the half it is chosen on is taken the other way round. The mean over both ways is unbiased for what the
    choice is worth; below 0 it says that there was nothing to choose, and is 0.

    Raises:
        UsageError: there are no attempts.
    """
    made = list(attempts)
    if not made:
        raise UsageError("no attack was made: protection cannot be told")
    advantages = np.array([found.auc_halves for found in made]) * 2 - 1
    by_chance = np.array([2 * _chance_deviation(found.members / 2, found.others / 2) for found in made])
    measured = []
    for chosen_on, measured_on in ((0, 1), (1, 0)):
        best = int((np.abs(advantages[:, chosen_on]) - SURE * by_chance).argmax())
        measured.append(float(np.sign(advantages[best, chosen_on]) * advantages[best, measured_on]))
    return max(0.0, sum(measured) / 2)


def chance_interval(members: int, others: int, confidence: float) -> tuple[float, float]:
    """Where the AUC of scores that know nothing lies with so much confidence.

    ½ ± z·√((m + n + 1) / (12·m·n)), the variance that Mann and Whitney 1947 give, which is exact without
    ties and smaller with them; normal from some ten members and others on.

    Args:
        members: m, at least 1.
        others: n, at least 1.
        confidence: in (0, 1), two-sided.

    Raises:
        UsageError: an argument is out of range.
    """
    if members < 1 or others < 1 or not 0 < confidence < 1:
        raise UsageError(
            "members and others from 1 and a confidence in (0, 1) are needed, "
            f"got {members}, {others} and {confidence:g}"
        )
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * _chance_deviation(members, others)
    return max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)


def _chance_deviation(members: float, others: float) -> float:
    """Deviation of the AUC of scores that know nothing."""
    return math.sqrt((members + others + 1) / (12 * members * others))
