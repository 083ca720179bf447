"""Rounds of a federation rehearsed in one process, through the modules that the pipeline's steps call.

A round here is what `train`, `seal`, `aggregate`, `open` and `commit_round` compute, one after another and
without stores, keys and signatures: `contribution` and `to_vector` at every site, the sum under the
protection, `from_sum` and `next_model`. Nothing of a method is written a second time. Noise is drawn from a
seed, as only a rehearsal may: the same plan on the same rows gives the same models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from components.agreement.adaptive_norm import norm_of
from components.agreement.charter import LOCAL_PRIVACY, Charter
from components.agreement.released_sum import WEIGHTED_UPDATES, ReleasedSum, Shapes, released_sum, shapes_of
from components.agreement.server_optimizer import next_model, with_state
from components.agreement.server_steps import split
from components.agreement.ticket import Ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.encryption.update_vector import from_sum, to_vector
from components.evaluation.rehearsal.plans import Plan, charter_of, ticket_of
from components.evaluation.rehearsal.protected_sums import ProtectedSum, Sums
from components.privacy.round_noise import round_mechanism, shares_noise
from components.training import heads
from components.training.features import Examples
from components.training.local_training.contributions import contribution

Float64 = NDArray[np.float64]
_SEEDS = 1 << 63


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """What became of one round.

    Attributes:
        number: from 1.
        of: what its sum is of, see `released_sum`.
        clipping_norm: largest norm of one row's part in it, under DP-SGD in one step; None for no bound.
        before: the model that it started from.
        vectors: what each site committed to and sealed, noise included.
        total: what was opened of them.
        opened: the same as numbers: contributions' sum or Σn·Δw, and the count behind it; (d + 1,).
        after: the model that it committed.
    """

    number: int
    of: str
    clipping_norm: float | None
    before: heads.Head
    vectors: Mapping[str, NDArray[np.generic]]
    total: NDArray[np.generic]
    opened: Float64
    after: heads.Head


class Rehearsal:
    """One federation under one plan."""

    def __init__(
        self, plan: Plan, sites: Mapping[str, Examples], *, classes: int, seed: int, public_corpus: str = ""
    ) -> None:
        """Nothing is computed yet.

        Args:
            plan: of the method.
            sites: training rows by site.
            classes: outputs of the head.
            seed: of genesis, order of rows and noise.
            public_corpus: SHA-256 of the texts that features are centred on; empty for none.

        Raises:
            UsageError: the plan makes no charter.
        """
        self.plan, self.sites, self.seed = plan, dict(sites), seed
        features = next(iter(sites.values())).features.shape[1]
        self.genesis = plan.genesis(features, classes, seed)
        self._shapes: Shapes = shapes_of(self.genesis)
        rows = {site: len(examples.labels) for site, examples in sites.items()}
        first = with_state(plan.optimizer, self.genesis)
        name = digest(tensors.encode(first))
        self.charter: Charter = charter_of(plan, rows, name, public_corpus=public_corpus)
        self._committed: Mapping[str, NDArray[np.generic]] = first
        self._sums = Sums(
            plan.protection,
            sites=len(sites),
            values_per_slot=self.charter.values_per_slot,
            min_sum_sites=self.charter.min_sum_sites,
            colluding_sites=self.charter.colluding_sites,
        )

    def rounds(self) -> Iterator[Round]:
        """All rounds of the plan in their order.

        Raises:
            BadDataError: training diverged.
            IntegrityError: the sum left the range of the model.
        """
        for number in range(1, self.plan.rounds + 1):
            yield self.round(number)

    def round(self, number: int) -> Round:
        """The next round: the model of the one before is its start."""
        before = self.model
        ticket = self.ticket(number)
        vectors = {site: self.vector(ticket, before, site, examples) for site, examples in self.sites.items()}
        shown = self.shown(number, before, vectors)
        self._committed = next_model(
            self.charter, self._committed, shown.opened, round_number=number, members=len(self.sites)
        )
        return replace(shown, after=self.model)

    @property
    def model(self) -> heads.Head:
        """The model that was committed last."""
        return split(self._committed)[0]

    @property
    def clipping_norm(self) -> float:
        """Norm that gradients of the next round are clipped to."""
        return norm_of(self.charter, split(self._committed)[1])

    def shown(self, number: int, before: heads.Head, vectors: Mapping[str, NDArray[np.generic]]) -> Round:
        """What a round with these vectors shows; nothing is committed, and `after` is the model before."""
        total = self._sums.add(vectors)
        released = released_sum(self.charter, number, self._shapes)
        return Round(
            number=number,
            of=released.of,
            clipping_norm=self._row_bound(released),
            before=before,
            vectors=vectors,
            total=total,
            opened=self.decoded(total, number),
            after=before,
        )

    def ticket(self, number: int) -> Ticket:
        """What is asked in a round."""
        return ticket_of(self.charter, self.plan, round_number=number, seed=self.seed)

    def vector(
        self, ticket: Ticket, model: heads.Head, site: str, examples: Examples, *, repetition: int = 0
    ) -> NDArray[np.generic]:
        """What a site with these rows commits to; each repetition draws noise of its own."""
        values, count = self.contribution(ticket, model, site, examples, repetition=repetition)
        noise = np.random.Generator(np.random.PCG64(self._entropy(ticket, site, 2 * repetition + 1)))
        return to_vector(
            self.charter,
            values,
            count,
            round_number=ticket.round_number,
            shapes=self._shapes,
            random_bytes=noise.bytes,
        )

    def contribution(
        self, ticket: Ticket, model: heads.Head, site: str, examples: Examples, *, repetition: int = 0
    ) -> tuple[Float64, int]:
        """What rows add to the round's sum before shared noise, (d,), and their number."""
        entropy = self._entropy(ticket, site, 2 * repetition)
        seed = int(np.random.Generator(np.random.PCG64(entropy)).integers(_SEEDS))
        return contribution(
            self.charter,
            ticket,
            site,
            model,
            examples,
            device="cpu",
            seed=seed,
            clipping_norm=self.clipping_norm,
        )

    def protected(self, vectors: Mapping[str, NDArray[np.generic]]) -> ProtectedSum:
        """What the parties of a round upload and open of these vectors, each time under fresh keys."""
        return self._sums.protected(vectors)

    def decoded(self, total: NDArray[np.generic], number: int) -> Float64:
        """An opened sum, or one site's vector where it is shown, as numbers and a count; (d + 1,)."""
        return from_sum(self.charter, total, round_number=number, shapes=self._shapes)

    def noise_deviation(self, number: int, shares: float) -> float:
        """Deviation of the noise in each coordinate of a decoded sum that carries so many sites' shares.

        0 where sites share no noise: what local DP-SGD adds is not a sum's.
        """
        if not shares_noise(self.charter):
            return 0.0
        one = round_mechanism(self.charter, number, self._shapes).sum_deviation(1)
        return one * math.sqrt(shares)

    def _row_bound(self, released: ReleasedSum) -> float | None:
        if released.of != WEIGHTED_UPDATES:
            return released.clipping_norm
        return self.plan.max_grad_norm if self.plan.algorithm == LOCAL_PRIVACY else None

    def _entropy(self, ticket: Ticket, site: str, use: int) -> np.random.SeedSequence:
        place = sorted(self.sites).index(site)
        return np.random.SeedSequence([self.seed, ticket.round_number, place, use])


def accuracy(model: Mapping[str, NDArray[np.float32]], examples: Examples) -> float:
    """Share of rows that a model sorts right; 0 for none."""
    if not len(examples.labels):
        return 0.0
    return float((heads.logits(model, examples.features).argmax(axis=1) == examples.labels).mean())
