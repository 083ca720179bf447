"""What a method's training is told, and the charter that says so: the terms a real round would have."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from components.agreement.charter import (
    AVERAGE,
    FORMAT,
    GRADIENT_SUMS,
    LOCAL_PRIVACY,
    Charter,
    SitePublicKeys,
    least_sum_sites,
)
from components.agreement.methods import METHODS
from components.agreement.noise_terms import AdaptiveClipping, LocalTraining, NoiseTerms
from components.agreement.protections import NONE
from components.agreement.ticket import UPDATE, Ticket
from components.errors import UsageError
from components.execution.padding import padded
from components.privacy.analytic_gaussian import gaussian_sigma
from components.training import heads

DELTA: Final = 1e-5
COLLUDING_SITES: Final = 1
COUNT_WEIGHT: Final = 0.1
SAMPLE_RATE: Final = 0.25
LARGEST_UPDATE: Final = 100.0
"""C of an update of federated averaging, the default of federation files."""
LARGEST_WEIGHT: Final = 4.0
"""M of it: no step of the learning rates compared is scaled down by it."""
OPEN_UPDATE: Final = 1e4
"""C and M of an update that is sent in clear with noise of its own: it clips nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one method trains; rates and norms are for features of norm √d.

    Attributes:
        method: its name, of `METHODS`.
        rounds: of training, from 1; the schedule of noise has as many.
        learning_rate: of local steps; of the server's step under `ours`.
        epsilon: of all rounds together at `DELTA`, example level; None for a method without.
        hidden_units: of the head; 0 for a linear one.
        skip: whether features are led past the hidden units.
        batch_size: rows a local step of federated averaging.
        optimizer: server step of `ours`.
        max_grad_norm: C of an example's gradient, where gradients are clipped.
        start_fraction: share of `ours`' budget for a first round of class sums; 0 for none.
        local_steps: of DP-SGD in a round.
        adaptive: rule by which the norm of `ours` follows the gradients from `max_grad_norm` on; None for
            one norm.
        noise_multiplier: σ of every local step of DP-SGD; 0 for the others, whose noise follows from ε.
    """

    method: str
    rounds: int
    learning_rate: float
    epsilon: float | None = None
    hidden_units: int = 0
    skip: bool = False
    batch_size: int = 64
    optimizer: str = AVERAGE
    max_grad_norm: float = 1.0
    start_fraction: float = 0.0
    local_steps: int = 1
    noise_multiplier: float = 0.0
    adaptive: AdaptiveClipping | None = None

    @property
    def protection(self) -> str:
        """How its updates are sealed."""
        return METHODS[self.method][0]

    @property
    def algorithm(self) -> str:
        """How its sites train."""
        return METHODS[self.method][1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        if self.adaptive is None:
            # Outcomes that were kept before there was such a rule are found by the same bytes.
            del document["adaptive"]
        return document

    def genesis(self, features: int, classes: int, seed: int) -> heads.Head:
        """The model that the first round starts from."""
        return heads.initial(features, self.hidden_units, classes, seed, self.skip)

    def noise_multipliers(self) -> tuple[float, ...]:
        """σ of every round; empty without ε.

        Under `ours` T Gaussian sums cost what one costs with 1/√Σ 1/σᵢ², in closed form (Balle and Wang
        2018): comparisons price both sides numerically, the product's ledger goes by zCDP, some 6 to 9 %
        dearer.
        """
        if self.epsilon is None:
            return ()
        if self.algorithm == LOCAL_PRIVACY:
            return (self.noise_multiplier,) * self.rounds
        whole = gaussian_sigma(self.epsilon, DELTA)
        if not self.start_fraction:
            return (whole * math.sqrt(self.rounds),) * self.rounds
        later = whole * math.sqrt((self.rounds - 1) / (1 - self.start_fraction))
        return (whole / math.sqrt(self.start_fraction), *(later,) * (self.rounds - 1))


def charter_of(plan: Plan, site_rows: Mapping[str, int], genesis: str, *, public_corpus: str = "") -> Charter:
    """The charter under which a rehearsal's rounds are computed: in order, though nobody has signed it.

    Args:
        plan: of the method.
        site_rows: training rows by site, two sites or more.
        genesis: SHA-256 of the model that the first round starts from.
        public_corpus: SHA-256 of the texts that features are centred on; empty for none.

    Raises:
        UsageError: the plan breaks a rule of charters.
    """
    sites, local = len(site_rows), plan.algorithm == LOCAL_PRIVACY
    least = min(least_sum_sites(sites, COLLUDING_SITES), sites)
    rows = math.ceil(sum(site_rows.values()) / sites) if local else padded(max(site_rows.values()))
    norm, value = _bounds(plan)
    charter = Charter(
        federation="rehearsal",
        edition=1,
        previous="",
        sites={site: _keys(site) for site in site_rows},
        coordinator=_key("coordinator"),
        key_holder=_key("key holder"),
        rotation_rounds=1000,
        protection=plan.protection,
        values_per_slot=1,
        algorithm=plan.algorithm,
        server_optimizer=plan.optimizer,
        genesis=genesis,
        encoder="",
        colluding_sites=COLLUDING_SITES,
        min_sum_sites=least,
        min_sites=least,
        clipping_norm=norm,
        largest_value=value,
        max_examples=rows,
        local_epochs=1,
        learning_rate=max(1.0, plan.learning_rate),
        batch_size=plan.batch_size,
        max_rounds=plan.rounds,
        server_learning_rate=plan.learning_rate if plan.algorithm == GRADIENT_SUMS else 1.0,
        public_corpus=public_corpus,
        privacy=_noise_terms(plan),
        format=FORMAT,
    )
    if problems := charter.problems():
        raise UsageError(f"{plan.method}: {problems[0]}")
    return charter


def ticket_of(charter: Charter, plan: Plan, *, round_number: int, seed: int) -> Ticket:
    """What a coordinator would ask in one round."""
    return Ticket(
        charter=charter.digest,
        federation=charter.federation,
        round_number=round_number,
        attempt=1,
        void="",
        purpose=UPDATE,
        model=charter.genesis,
        previous="",
        previous_folder="",
        snapshot="2026-01-01T00:00:00+00:00",
        local_epochs=1,
        learning_rate=plan.learning_rate,
        batch_size=plan.batch_size,
        seed=seed,
    )


def site_names(count: int) -> Sequence[str]:
    """Names of a rehearsal's sites, in order."""
    return tuple(f"cloud-{number}" for number in range(1, count + 1))


def _bounds(plan: Plan) -> tuple[float, float]:
    """Clipping norm and largest value of a charter."""
    if plan.algorithm == GRADIENT_SUMS:
        return plan.max_grad_norm, plan.max_grad_norm
    if plan.protection == NONE and plan.algorithm == LOCAL_PRIVACY:
        return OPEN_UPDATE, OPEN_UPDATE
    return LARGEST_UPDATE, LARGEST_WEIGHT


def _noise_terms(plan: Plan) -> NoiseTerms | None:
    if plan.epsilon is None:
        return None
    local = LocalTraining(
        steps=plan.local_steps,
        sample_rate=SAMPLE_RATE,
        learning_rate=plan.learning_rate,
        max_grad_norm=plan.max_grad_norm,
    )
    return NoiseTerms(
        target_epsilon=plan.epsilon,
        delta=DELTA,
        public_population=50_000,
        first_round=1,
        noise_multipliers=plan.noise_multipliers(),
        count_weight=COUNT_WEIGHT,
        rows_per_unit=1,
        class_sum_start=plan.start_fraction > 0,
        local=local if plan.algorithm == LOCAL_PRIVACY else None,
        adaptive=plan.adaptive,
    )


def _keys(site: str) -> SitePublicKeys:
    return SitePublicKeys(signing=_key(f"{site} signing"), agreement=_key(f"{site} agreement"))


def _key(owner: str) -> str:
    """32 bytes in the place of a public key: a rehearsal signs nothing."""
    return base64.b64encode(hashlib.sha256(owner.encode()).digest()).decode()
