"""Sums under a protection, run for real in one process: what is uploaded, what is opened, what it takes.

`protected_sum` is one round's protection with all its parties, keys and documents. `Sums.add` comes to the
same opened values without them where they are exact: masks cancel to the last bit, and no sum leaves its
field, as every site's values are held to the bound that the sealers hold them to. CKKS is not exact, so
there it seals, adds and opens.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import least_sum_sites
from components.agreement.protections import HE, NONE, SEALED, SMC, TRAITS
from components.encryption.bfv.packing import Packing
from components.encryption.protection import Opener, Sealer, Summer, generate_contexts, opener, sealer, summer
from components.encryption.ring import LARGEST_SUM
from components.encryption.vectors import require_integers, require_sealable
from components.errors import QuorumNotReachedError, UsageError
from components.evaluation.rehearsal.rehearsed_attempt import RehearsedAttempt, SumTerms

SITE, AGGREGATOR, KEY_HOLDER = "site", "aggregator", "key holder"


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one step takes from one party.

    Attributes:
        step: `commit`, `share`, `seal`, `aggregate`, `release`, `unmask` or `open`.
        who: `site`, `aggregator` or `key holder`; under `smc` the last needs no key.
        seconds: of the wall clock; one site's, on average over the sites.
        num_bytes: that the party uploads; the most that a site does.
    """

    step: str
    who: str
    seconds: float
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProtectedSum:
    """One round's sum.

    Attributes:
        sealed: what each site uploads, as the aggregator sees it.
        opened: what is opened: int32 under `masked` and `smc`, int64 under `sealed`, float64 elsewhere.
        steps: in their order.
    """

    sealed: Mapping[str, bytes]
    opened: NDArray[np.generic]
    steps: tuple[StepCost, ...]


def protected_sum(
    protection: str,
    vectors: Mapping[str, NDArray[np.generic]],
    *,
    values_per_slot: Literal[1, 2] = 2,
    min_sum_sites: int,
    colluding_sites: int,
) -> ProtectedSum:
    """Runs one round's protection among the sites of a charter; see `Sums.protected`.

    Raises:
        UsageError: an unknown protection, or a quorum that its release rule forbids.
    """
    return Sums(
        protection,
        sites=len(vectors),
        values_per_slot=values_per_slot,
        min_sum_sites=min_sum_sites,
        colluding_sites=colluding_sites,
    ).protected(vectors)


class Sums:
    """The sums of a federation under one protection and, where it has one, one key of the key holder.

    Args:
        protection: by name.
        sites: K, sites of the charter: as many vectors as may be summed.
        values_per_slot: one or two; of meaning for `sealed` alone.
        min_sum_sites: u_min, fewest sites in a sum that is opened.
        colluding_sites: t, sites that may work against the others.

    Raises:
        UsageError: an unknown protection, or a quorum that its release rule forbids.
    """

    def __init__(
        self,
        protection: str,
        *,
        sites: int,
        values_per_slot: Literal[1, 2] = 2,
        min_sum_sites: int,
        colluding_sites: int,
    ) -> None:
        if protection not in TRAITS:
            raise UsageError(f"unknown protection {protection!r}: choose one of {', '.join(sorted(TRAITS))}")
        least = least_sum_sites(sites, colluding_sites) if TRAITS[protection].masked else 1
        if not least <= min_sum_sites <= sites:
            raise UsageError(
                f"min_sum_sites must be from {least} to {sites} for {sites} sites of which "
                f"{colluding_sites} may collude, got {min_sum_sites}"
            )
        self._terms = SumTerms(
            protection=protection,
            sites=sites,
            values_per_slot=values_per_slot,
            min_sum_sites=min_sum_sites,
        )

    def protected(self, vectors: Mapping[str, NDArray[np.generic]]) -> ProtectedSum:
        """Runs a whole attempt, with fresh keys of all sites: every call uploads other bytes.

        The key holder's key is drawn once, before the first of them, and in no step's time.

        Args:
            vectors: by site, all of shape (length,): float64 under `none` and `he`, int32 under `masked` and
                `smc`, int32 or int64 under `sealed`; not changed.

        Raises:
            BadDataError: a value is outside the protection's range.
            QuorumNotReachedError: fewer sites than `min_sum_sites`.
            UsageError: more sites than the charter has.
            ValueError: vectors of another form.
        """
        self._require_vectors(vectors)
        sites, lifted_by = sorted(vectors), TRAITS[self._terms.protection].lifted_by
        attempt = RehearsedAttempt(self._terms, self._contexts, vectors)
        steps = [_of_sites("commit", sites, attempt.commit)]
        if self._terms.protection == SMC:
            steps.append(_of_sites("share", sites, attempt.share))
        steps.append(_of_sites("seal", sites, attempt.seal))
        steps.append(_cost("aggregate", AGGREGATOR, [attempt.aggregate]))
        if lifted_by:
            steps.append(_of_sites(lifted_by, sites, attempt.lift))
        steps.append(_cost("open", KEY_HOLDER, [attempt.open]))
        return ProtectedSum(sealed=attempt.sealed, opened=attempt.opened, steps=tuple(steps))

    def add(self, vectors: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
        """What `protected` would open, bit for bit but for the noise of CKKS; as `protected` otherwise."""
        self._require_vectors(vectors)
        ordered = [vectors[site] for site in sorted(vectors)]
        if self._terms.protection == HE:
            return self._through_ckks(ordered)
        for vector in ordered:
            self._require_sealable(vector)
        total = np.zeros(ordered[0].size, self._opened_type)
        for vector in ordered:
            total += vector.astype(self._opened_type, copy=False)
        return total

    @cached_property
    def _contexts(self) -> tuple[bytes, bytes]:
        return generate_contexts(self._terms.protection)

    @cached_property
    def _ckks(self) -> tuple[Sealer, Summer, Opener]:
        public, secret = self._contexts
        return sealer(HE, public), summer(HE, public), opener(HE, secret)

    @property
    def _opened_type(self) -> type[np.int32 | np.int64 | np.float64]:
        if self._terms.protection == NONE:
            return np.float64
        return np.int64 if self._terms.protection == SEALED else np.int32

    def _through_ckks(self, vectors: Sequence[NDArray[Any]]) -> NDArray[np.generic]:
        sealing, adding, opening = self._ckks
        blobs = [io.BytesIO(b"".join(sealing.seal(vector))) for vector in vectors]
        length = vectors[0].size
        opened: NDArray[np.generic] = opening.open(io.BytesIO(b"".join(adding.add(blobs, length))), length)
        return opened

    def _require_vectors(self, vectors: Mapping[str, NDArray[np.generic]]) -> None:
        terms = self._terms
        if len(vectors) < terms.min_sum_sites:
            raise QuorumNotReachedError(
                f"a sum of {len(vectors)} sites is not opened, the charter asks for {terms.min_sum_sites}"
            )
        if len(vectors) > terms.sites:
            raise UsageError(f"a charter of {terms.sites} sites sums no {len(vectors)}: give it more")
        if len({vector.shape for vector in vectors.values()}) != 1:
            raise ValueError("the vectors of one sum have one shape")

    def _require_sealable(self, vector: NDArray[Any]) -> None:
        """As the sealers do, so that no sum leaves its field."""
        terms = self._terms
        if terms.protection == NONE:
            require_sealable(vector, protection=NONE)
        elif terms.protection == SEALED:
            Packing(values_per_slot=terms.values_per_slot, sites=terms.sites).require_packable(vector)
        else:
            bound, name = LARGEST_SUM // terms.sites, terms.protection
            require_integers(vector, dtypes=(np.int32,), bound=bound, sites=terms.sites, name=name)


def _of_sites(step: str, sites: Iterable[str], work: Callable[[str], int]) -> StepCost:
    return _cost(step, SITE, [partial(work, site) for site in sites])


def _cost(step: str, who: str, works: Sequence[Callable[[], int]]) -> StepCost:
    """Runs the same work of several parties, one after another."""
    start = time.perf_counter()
    sizes = [work() for work in works]
    seconds = (time.perf_counter() - start) / len(works)
    return StepCost(step=step, who=who, seconds=seconds, num_bytes=max(sizes))
