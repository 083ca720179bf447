"""One training with canaries, from the commitments of every round to the model that follows from its sum.

Every sum is sealed, added, released and opened as in a federation, with keys of its own (`Sums.protected`).
There are as few sites as the charter lets be in a sum, so that the noise is what the claim counts on and no
more: u_min less t honest ones, and the colluding ones, at least one, whose vectors the adversary knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.released_sum import released_sum, shapes_of
from components.agreement.server_optimizer import next_model
from components.agreement.server_steps import split
from components.agreement.ticket import UPDATE, Ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.encryption.update_vector import from_sum
from components.errors import UsageError
from components.evaluation.attacks.canaries import drawn_canaries
from components.evaluation.audit import orthogonal_canaries
from components.evaluation.audit.orthogonal_canaries import OrthogonalCanaries, guessed_right
from components.evaluation.audit.site_work import Asked, Vector, Work, noise_source
from components.evaluation.audit.views import NO_CLIPPING, Seen, possible_views, scores
from components.evaluation.rehearsal.dealing import taken
from components.evaluation.rehearsal.protected_sums import Sums
from components.privacy.accounting import ledger_epsilon
from components.privacy.round_noise import round_event, round_mechanism
from components.training.features import Examples
from components.training.heads import Head
from components.training.local_training.contributions import contribution

BACKGROUND_ROWS: Final = 2048
"""Rows in random directions that are in every training, and that the adversary knows: without any, the count
that a mean gradient is divided by could be lost in its noise."""
GUESSED: Final = 5
"""One canary of so many is guessed, half of them as included and half as left out: fixed beforehand, as a
bound holds for no other number."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A federation as it is audited.

    Attributes:
        charter: with `sites` sites, whose places follow the order of their names: the honest ones first.
        committed: the model that the first round starts from, with the optimiser's state.
    """

    charter: Charter
    committed: Mapping[str, NDArray[np.generic]]

    @property
    def honest(self) -> int:
        """Sites whose noise the claim counts on."""
        return self.charter.min_sum_sites - self.charter.colluding_sites

    @property
    def rounds(self) -> range:
        """Numbers of the rounds of the schedule."""
        terms = self.charter.privacy
        return range(terms.first_round, terms.last_round + 1) if terms else range(0)

    @property
    def head(self) -> Head:
        """The linear head that the first round starts from.

        Raises:
            UsageError: it has hidden units.
        """
        model = split(self.committed)[0]
        if set(model) != {"output.weight", "output.bias"}:
            raise UsageError("an audit's canaries are for linear heads: set head.hidden_units to 0")
        return model

    @property
    def canaries(self) -> int:
        """How many are drawn in one run: m."""
        classes, features = self.head["output.weight"].shape
        return int(features) * orthogonal_canaries.labels_each(features, classes)

    @property
    def guesses(self) -> int:
        """How many of them are guessed: r, an even number."""
        return max(2, 2 * (self.canaries // (2 * GUESSED)))

    @property
    def views(self) -> tuple[str, ...]:
        """Ways of looking that the schedule allows."""
        mechanisms = [
            (released_sum(self.charter, number, shapes_of(self.head)), self.deviation(number))
            for number in self.rounds
        ]
        return possible_views([(released.of, deviation) for released, deviation in mechanisms])

    def deviation(self, number: int) -> float:
        """Of the noise that the honest sites leave on each value of a round's sum."""
        return round_mechanism(self.charter, number, shapes_of(self.head)).sum_deviation(self.honest)

    def claimed(self, delta: float) -> float:
        """Epsilon of all rounds as the ledgers of the sites have it."""
        shapes = shapes_of(self.head)
        return ledger_epsilon([round_event(self.charter, number, shapes) for number in self.rounds], delta)


def audited_run(audited: Audited, work: Work, *, seed: int | None) -> dict[str, int]:
    """Trains once with canaries and guesses them.

    Args:
        audited: the federation.
        work: what its sites do.
        seed: of all randomness but that of keys and masks, in tests; None for the operating system's.

    Returns:
        Right guesses, of `audited.guesses`, by view.
    """
    return _Run(audited, work, seed).right()


class _Run:
    def __init__(self, audited: Audited, work: Work, seed: int | None) -> None:
        self._audited, self._work, self._seed = audited, work, seed
        self._secret = secrets.randbits(63) if seed is None else seed
        generator = np.random.Generator(np.random.PCG64(secrets.randbits(128) if seed is None else seed))
        classes, features = audited.head["output.weight"].shape
        honest = audited.honest
        self._asked = orthogonal_canaries.drawn(features, classes, owners=honest, generator=generator)
        background = drawn_canaries(
            BACKGROUND_ROWS, sites=honest, features=features, classes=classes, generator=generator
        )
        self._background = background.examples
        self._sites: dict[str, Examples] = {
            site: _rows_of(place, self._asked, background.examples, background.owners)
            for place, site in enumerate(audited.charter.site_names)
        }
        self._sums = Sums(
            audited.charter.protection,
            sites=len(self._sites),
            values_per_slot=audited.charter.values_per_slot,
            min_sum_sites=audited.charter.min_sum_sites,
            colluding_sites=audited.charter.colluding_sites,
        )

    def right(self) -> dict[str, int]:
        """Right guesses by view."""
        committed, seen = self._audited.committed, []
        for number in self._audited.rounds:
            model = split(committed)[0]
            vectors = self._vectors(number, model)
            total = self._sums.protected(vectors).opened.astype(np.int64, copy=False)
            seen.append(self._seen(number, model, vectors, total))
            committed = next_model(
                self._audited.charter,
                committed,
                self._numbers(total, number),
                round_number=number,
                members=len(vectors),
            )
        included, guesses = self._asked.canaries.included, self._audited.guesses
        return {
            view: guessed_right(found, included, guesses) for view, found in scores(seen, self._asked).items()
        }

    def _vectors(self, number: int, model: Head) -> dict[str, Vector]:
        ticket = self._ticket(number)
        return {
            site: self._work(
                Asked(
                    charter=self._audited.charter,
                    ticket=ticket,
                    site=site,
                    place=place,
                    model=model,
                    examples=examples,
                    run_secret=self._secret,
                    random_bytes=noise_source(self._seed, number, place),
                )
            )
            for place, (site, examples) in enumerate(self._sites.items())
        }

    def _seen(self, number: int, model: Head, vectors: Mapping[str, Vector], total: Vector) -> Seen:
        """The round as the adversary has it."""
        charter, honest = self._audited.charter, self._audited.honest
        released = released_sum(charter, number, shapes_of(model))
        # Clipped as agreed, and as they are: the adversary does not know what a faulty site does.
        unclipped = replace(charter, clipping_norm=NO_CLIPPING, largest_value=NO_CLIPPING)
        known, unclipped_known = (
            contribution(terms, self._ticket(number), "", model, self._background, device="cpu")[0]
            for terms in (charter, unclipped)
        )
        colluding = list(vectors.values())[honest:]
        return Seen(
            of=released.of,
            model=model,
            clipping_norm=released.clipping_norm,
            total=self._numbers(total, number)[:-1],
            known=known,
            unclipped_known=unclipped_known,
            own=self._numbers(np.sum(colluding, axis=0), number)[:-1],
            one=self._numbers(colluding[0], number)[:-1],
            members=len(vectors),
            deviation=self._audited.deviation(number),
        )

    def _numbers(self, vector: NDArray[np.generic], number: int) -> NDArray[np.float64]:
        shapes = shapes_of(self._audited.head)
        return from_sum(self._audited.charter, vector, round_number=number, shapes=shapes)

    def _ticket(self, number: int) -> Ticket:
        charter = self._audited.charter
        return Ticket(
            charter=charter.digest,
            federation=charter.federation,
            round_number=number,
            attempt=1,
            void="",
            purpose=UPDATE,
            model=digest(tensors.encode(dict(self._audited.committed))),
            previous="",
            previous_folder="",
            snapshot="2026-01-01T00:00:00+00:00",
            local_epochs=1,
            learning_rate=charter.learning_rate,
            batch_size=charter.batch_size,
            seed=0,
        )


def most_rows(audited: Audited) -> int:
    """Rows that a site of an audit may have: all canaries and all the background."""
    return audited.canaries + BACKGROUND_ROWS


def _rows_of(
    place: int, asked: OrthogonalCanaries, background: Examples, owners: NDArray[np.int64]
) -> Examples:
    """Training rows of one site: its included canaries and its part of the background."""
    canaries = asked.canaries
    own = taken(canaries.examples, canaries.included & (canaries.owners == place))
    rest = taken(background, owners == place)
    return Examples(
        features=np.concatenate([own.features, rest.features]),
        labels=np.concatenate([own.labels, rest.labels]),
    )
