"""What an edition that goes back to an earlier model takes back, told before anybody signs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from components.agreement.charter import Charter
from components.agreement.charter_book import ancestry, charter_in_force, editions, read_edition
from components.agreement.model_sums import EarlierSum, hides_sites, largest_grouped, least_group
from components.artifacts.stores import open_store
from components.errors import UsageError
from components.rounds.privacy_account import account
from components.rounds.state import RoundRecord, committed_rounds, next_round_number, records, standing_record
from pipelines.federation import Federation


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """What an edition with a `restart` does to the rounds before it.

    Attributes:
        rounds: taken back, ascending.
        source: round that made the model which is gone back to, 0 for the genesis.
        earlier: the rounds that have started from it before.
    """

    rounds: tuple[int, ...]
    source: int
    earlier: tuple[EarlierSum, ...]


def next_restart(
    federation: Federation, newest: Charter | None, take_back: int | None, *, keep_rounds: bool
) -> str:
    """SHA-256 of the model that the next edition goes back to; empty for the last receipt's.

    Args:
        federation: whose it is.
        newest: edition that the next one will follow, if there is one.
        take_back: round to be taken back with all after it; None for none.
        keep_rounds: lets rounds stand that `newest` takes back and no round has yet.

    Raises:
        UsageError: no such round stands, or it is not said what becomes of what `newest` takes back.
    """
    if take_back is not None:
        return _model_before(_records(federation), take_back)
    if newest and is_waiting(federation, newest) and not keep_rounds:
        found = taken_back(federation, newest)
        first = found.rounds[0] if found and found.rounds else 1
        raise UsageError(
            f"edition {newest.edition} takes rounds back and no round under it is committed yet: say "
            f"'--take-back {first}' again, or '--keep-rounds' to let them stand"
        )
    return ""


def says_nothing_new(federation: Federation, newest: Charter, draft: Charter) -> bool:
    """Whether a draft says nothing that the newest edition does not say for the next round."""
    lasting = newest.restart if is_waiting(federation, newest) else ""
    same = replace(draft, edition=newest.edition, previous=newest.previous, restart=newest.restart)
    return same == newest and draft.restart == lasting


def _model_before(committed: Sequence[RoundRecord], round_number: int) -> str:
    """SHA-256 of the model that a round started from, if the one it made is gone on from."""
    named = {record.round_number: record for record in committed}
    if round_number not in named:
        known = ", ".join(map(str, named)) or "none"
        raise UsageError(f"round {round_number} is not committed and cannot be taken back: {known} are")
    if round_number not in _leading_to(committed, committed[-1].model):
        raise UsageError(f"round {round_number} was taken back before: its model is not gone on from")
    return named[round_number].parent


def taken_back(federation: Federation, charter: Charter) -> TakenBack | None:
    """What an edition takes back; None where it takes nothing back.

    Raises:
        UsageError: it goes back to a model that no round has committed.
    """
    if not charter.restart:
        return None
    committed = _records(federation)
    under = [record.charter for record in committed]
    before = committed[: under.index(charter.digest)] if charter.digest in under else committed
    made = [record.round_number for record in before if record.model == charter.restart]
    if not made and charter.restart != charter.genesis:
        raise UsageError(
            f"edition {charter.edition} of the charter goes back to the model {charter.restart[:12]}, which "
            "no round has committed: do not sign it"
        )
    standing = _leading_to(before, before[-1].model) if before else set[int]()
    return TakenBack(
        rounds=tuple(sorted(standing - _leading_to(before, charter.restart))),
        source=made[-1] if made else 0,
        earlier=tuple(
            EarlierSum(round_number=record.round_number, members=frozenset(record.members))
            for record in before
            if record.parent == charter.restart
        ),
    )


def rounds_taken_back(federation: Federation, in_force: Charter) -> set[int]:
    """Numbers of the committed rounds that the model which stands does not rest on.

    Raises:
        SignatureError: a record or an edition was altered.
    """
    if not any(edition.restart for edition in ancestry(federation.keys_uri, in_force)):
        return set()
    committed = _records(federation)
    newest = committed[-1] if committed else None
    standing = standing_record(open_store(federation.state_uri), federation.keys_uri, in_force, newest)
    kept = _leading_to(committed, standing.model) if standing else set[int]()
    return {record.round_number for record in committed} - kept


def is_waiting(federation: Federation, charter: Charter) -> bool:
    """Whether an edition takes rounds back and no round under it is committed yet."""
    if not charter.restart:
        return False
    return all(record.charter != charter.digest for record in _records(federation))


def require_possible(federation: Federation, charter: Charter) -> None:
    """Passes an edition whose first round its sites can have.

    Raises:
        UsageError: without noise no set of its sites may be summed from the model that it goes back to.
    """
    found = taken_back(federation, charter)
    if found is None or not hides_sites(charter):
        return
    sites = largest_grouped(found.earlier, charter.site_names, charter)
    least = max(charter.min_sites, charter.min_sum_sites)
    if len(sites) < least:
        rounds = _listed(each.round_number for each in found.earlier)
        raise UsageError(
            f"this edition cannot take back {_rounds(found.rounds)}: without noise the sum of its first "
            f"round and that of round {rounds}, from the same model, would show fewer than "
            f"{least_group(charter)} sites apart from the others, so {_same_sites(found)} must be in it: "
            "change the sites in an edition after that round, or take back more rounds"
        )


def told(federation: Federation, charter: Charter) -> list[str]:
    """What an edition takes back and what that costs, in words; empty where it takes nothing back."""
    found = taken_back(federation, charter)
    if found is None:
        return _told_of_one_that_lapses(federation, charter)
    source = f"the model of round {found.source}" if found.source else "the genesis model"
    lines = [
        f"takes back {_rounds(found.rounds)}: the first round under this edition starts from {source}, "
        f"{charter.restart[:16]}; round numbers, receipts and ledgers go on",
        "what was published of these rounds stays published: models, opened sums, figures",
    ]
    if charter.privacy is not None:
        return [*lines, *_told_of_noise(federation, charter)]
    if hides_sites(charter) and found.earlier:
        rounds = _listed(each.round_number for each in found.earlier)
        lines.append(
            f"its first round is a second sum from the model that round {rounds} started from, without "
            f"noise: it is opened of {_same_sites(found)} or where at least {least_group(charter)} together "
            "stay away or come anew, so that the difference shows nobody alone"
        )
    return lines


def _told_of_noise(federation: Federation, charter: Charter) -> list[str]:
    noise = charter.privacy
    upcoming = next_round_number(open_store(federation.state_uri))
    spent = account(open_store(federation.exchange_uri), charter, charter.genesis, through=upcoming - 1)
    if noise is None or spent is None:
        return []
    when = f"in {spent.month}" if spent.month else "so far"
    return [
        f"what these rounds have cost stays spent: epsilon {spent.epsilon_spent:.3g} of "
        f"{noise.target_epsilon:g} at delta {noise.delta:g} {when}, "
        f"and {spent.rounds_left} of {len(noise.noise_multipliers)} rounds of the "
        f"{'month' if spent.month else 'schedule'} are left"
    ]


def _told_of_one_that_lapses(federation: Federation, charter: Charter) -> list[str]:
    """An edition before, in force or not, whose `restart` no round has used and this one does not repeat."""
    store = open_store(federation.keys_uri)
    if charter.edition - 1 not in editions(store):
        return []
    before = read_edition(store, charter.edition - 1)
    if not is_waiting(federation, before) or _has_rounds(federation, charter):
        return []
    found = taken_back(federation, before)
    rounds = _rounds(found.rounds) if found else "rounds"
    return [f"lets {rounds} stand, which edition {before.edition} takes back and no round has done so yet"]


def _has_rounds(federation: Federation, charter: Charter) -> bool:
    return any(record.charter == charter.digest for record in _records(federation))


def _records(federation: Federation) -> list[RoundRecord]:
    """All committed rounds, ascending; each was committed under the edition in force or one before it."""
    state = open_store(federation.state_uri)
    if not committed_rounds(state):
        return []
    return records(state, federation.keys_uri, charter_in_force(federation.keys_uri))


def _leading_to(committed: Sequence[RoundRecord], model: str) -> set[int]:
    """Rounds that a model rests on: the one that made it, the one that made its parent, and so on."""
    made = {record.model: record for record in committed}
    found: set[int] = set()
    while model in made and made[model].round_number not in found:
        found.add(made[model].round_number)
        model = made[model].parent
    return found


def _same_sites(found: TakenBack) -> str:
    newest = max(found.earlier, key=lambda each: each.round_number)
    return f"the same sites as round {newest.round_number}, {', '.join(sorted(newest.members))},"


def _rounds(numbers: Sequence[int]) -> str:
    if not numbers:
        return "no round"
    return f"round {numbers[0]}" if len(numbers) == 1 else f"rounds {_listed(numbers)}"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
