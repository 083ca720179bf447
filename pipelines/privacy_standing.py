"""Where the privacy budgets on this machine stand, by the sites' own ledgers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from components.agreement.charter import Charter
from components.agreement.noise_terms import NoiseTerms
from components.agreement.private_keys import private_folder
from components.agreement.released_sum import Shapes, shapes_of
from components.agreement.site_policy import POLICY, PrivacyPolicy, load_policy
from components.agreement.ticket import METRICS, ticket_digest
from components.artifacts.stores import Store, open_store
from components.errors import UsageError
from components.privacy.charging import open_ledger
from components.privacy.events import Composed, Event
from components.privacy.ledger import Ledger, Statement
from components.privacy.round_noise import round_event
from components.rounds.monthly_allowance import issued, month_of, next_month
from components.rounds.privacy_account import rounds_left_in_month
from components.rounds.state import committed_rounds, is_finished, next_round_number
from pipelines.charter_comparison import shape
from pipelines.federation import Federation


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One site's budget.

    Attributes:
        site: whose it is.
        policy: its terms.
        statement: what is spent and left.
        rounds_left: of the schedule that the charter has, or of the running month, as far as this budget
            holds them.
    """

    site: str
    policy: PrivacyPolicy
    statement: Statement
    rounds_left: int


def standings(federation: Federation, charter: Charter, *, now: datetime) -> list[Standing]:
    """The budgets of all sites whose policies lie on this machine.

    Raises:
        IntegrityError: a ledger was altered or cut.
    """
    return [
        Standing(
            site=site,
            policy=policy,
            statement=ledger.statement(now=now),
            rounds_left=_rounds_left(federation, charter, ledger, now),
        )
        for site, policy, ledger in _ledgers(federation)
    ]


def require_rounds(federation: Federation, charter: Charter, rounds: int, *, now: datetime) -> None:
    """Passes a run of so many rounds that schedule and budgets hold.

    Raises:
        UsageError: they do not; every reason, one a line, before anything runs.
    """
    terms = charter.privacy
    if terms is None:
        return
    state = open_store(federation.state_uri)
    upcoming, done = next_round_number(state), committed_rounds(state)
    unfinished = bool(done) and not is_finished(state, done[-1])
    left = max(0, terms.last_round - upcoming + 1) + unfinished
    if terms.per == "month":
        exchange = open_store(federation.exchange_uri)
        left = rounds_left_in_month(exchange, charter, now=now) + _is_issued(exchange, upcoming) + unfinished
        if rounds > left:
            raise UsageError(_month_used_up(terms, rounds, left, now))
    if rounds > left:
        raise UsageError(
            f"{rounds} round{'s are' if rounds != 1 else ' is'} asked for, the charter's schedule has "
            f"{left} of {len(terms.noise_multipliers)} left, which together cost epsilon "
            f"{terms.target_epsilon:g} at delta {terms.delta:g}: "
            + (f"run --rounds {left}" if left else _START_OVER)
        )
    problems = [
        f"{site}: its privacy ledger has spent epsilon {ledger.statement(now=now).epsilon_spent:.3g} of "
        f"{policy.epsilon:g} on {policy.protected}, which does not hold another round: {_START_OVER}"
        for site, policy, ledger in _ledgers(federation)
        if not _is_charged(ledger, federation, upcoming)
        if not unfinished and not _rounds_left(federation, charter, ledger, now)
    ]
    if problems:
        raise UsageError("\n".join(problems))


def _month_used_up(terms: NoiseTerms, rounds: int, left: int, now: datetime) -> str:
    month, asked = month_of(now), f"{rounds} round{'s are' if rounds != 1 else ' is'} asked for"
    return (
        f"{asked}, {month} has {left} of its {len(terms.noise_multipliers)} left, which together cost "
        f"epsilon {terms.target_epsilon:g} at delta {terms.delta:g}: "
        + (f"run --rounds {left}, " if left else "")
        + f"the next allowance starts on {next_month(month):%Y-%m-%d} (UTC)"
    )


def _is_issued(exchange: Store, round_number: int) -> bool:
    """Whether a round has its ticket already: what it costs is counted, and it goes on."""
    return any(number == round_number for number, _ in issued(exchange))


_START_OVER = (
    "more needs a new charter and budgets that its sites agree to ('crosscloud charter new'); "
    "the quick start begins again after 'make clean', which makes new data"
)


def _ledgers(federation: Federation) -> list[tuple[str, PrivacyPolicy, Ledger]]:
    found = []
    for site in federation.sites:
        if not (private_folder(federation.keys_uri, site.name) / POLICY).is_file():
            continue
        policy = load_policy(federation.keys_uri, site.name).privacy
        if policy is not None:
            found.append((site.name, policy, open_ledger(policy)))
    return found


def _rounds_left(federation: Federation, charter: Charter, ledger: Ledger, now: datetime) -> int:
    if charter.privacy is None:
        return 0
    shapes = shapes_of(shape(federation).weights())
    first = max(next_round_number(open_store(federation.state_uri)), charter.privacy.first_round)
    numbers = range(first, charter.privacy.last_round + 1)
    if charter.privacy.per == "month":
        left = rounds_left_in_month(open_store(federation.exchange_uri), charter, now=now)
        numbers = range(first, first + left)
    return ledger.rounds_left([_of_round(charter, number, shapes) for number in numbers], now=now)


def _of_round(charter: Charter, number: int, shapes: Shapes) -> Event:
    """All that a round releases: its update's sum, and that of its metrics where it has some."""
    update = round_event(charter, number, shapes)
    if charter.privacy is None or not charter.privacy.metrics_in(number):
        return update
    return Composed(events=(update, round_event(charter, number, shapes, METRICS)))


def _is_charged(ledger: Ledger, federation: Federation, round_number: int) -> bool:
    """Whether this federation's next round was begun and paid for."""
    place = (federation.federation, round_number)
    charges = [entry.charge for entry in ledger.entries()]
    begun = [each.ticket for each in charges if (each.federation, each.round_number) == place]
    return any(_open(federation, ticket) for ticket in begun)


def _open(federation: Federation, ticket: str) -> bool:
    """Whether a ticket lies in this federation's exchange."""
    exchange = open_store(federation.exchange_uri)
    return any(
        ticket_digest(exchange.read(key, limit=1 << 16)) == ticket
        for key in exchange.keys("rounds")
        if key.endswith("/ticket.json")
    )
