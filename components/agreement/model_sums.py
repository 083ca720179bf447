"""Whose sums start from one model: what several of them say together.

Without noise a site's update depends on the model and on its rows alone, as far as a guarantee goes: a
seed changes the order of rows, a full batch not even that. Sums of sets U and V from the same model so
give away their differences, and any combination of such sums is one of the sums over *groups*: sites that
were in exactly the same sums. A round that goes back to a model which was summed from before is therefore
opened only where every group has at least t + 2 sites, two of which are honest whichever t collude. Of the
same sites once more, there is one group and nothing new to learn. Where the noise of a schedule is in
every sum, each is paid for in the ledgers, and no set is refused; in clear there is nothing to hide.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from components.agreement.charter import Charter
from components.agreement.lineage import OpenedRound, opened_round, round_before
from components.agreement.protections import NONE
from components.agreement.ticket import UPDATE, Ticket
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, RefusedError


@dataclass(frozen=True, kw_only=True)
class EarlierSum:
    """A committed round from the same model, and the sites in its sum."""

    round_number: int
    members: frozenset[str]


def hides_sites(charter: Charter) -> bool:
    """Whether a charter's sums hide single updates and have no noise to do it with."""
    return charter.protection != NONE and charter.privacy is None


def is_summed_again(ticket: Ticket, charter: Charter) -> bool:
    """Whether earlier sums of a ticket's model matter: its edition goes back to it, and has no noise."""
    return hides_sites(charter) and ticket.purpose == UPDATE and ticket.model == charter.restart


def least_group(charter: Charter) -> int:
    """Fewest sites of a group: two honest ones beside all that may collude."""
    return charter.colluding_sites + 2


def earlier_sums(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> tuple[EarlierSum, ...]:
    """Rounds with a receipt that started from a ticket's model; none where that does not matter.

    The ticket names the last receipt by its digest, and every receipt the one before: whoever shows the
    chain can leave nothing out. Sums that were opened since and could not be committed count as well, as
    far as their receipts are there.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        ticket: verified.
        charter: of the ticket.

    Raises:
        IntegrityError: a receipt or ticket of the chain is not what digests and signatures say.
        ObjectMissingError: one is not in the exchange any more.
    """
    if not is_summed_again(ticket, charter):
        return ()
    return tuple(
        EarlierSum(round_number=opened.ticket.round_number, members=frozenset(opened.receipt.members))
        for opened in (
            *_committed_before(exchange, keys_uri, ticket, charter),
            *_opened_since(exchange, keys_uri, ticket, charter),
        )
        if opened.ticket.model == ticket.model
    )


def _committed_before(
    exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter
) -> Iterator[OpenedRound]:
    while ticket.previous:
        opened = round_before(exchange, keys_uri, ticket, charter)
        yield opened
        ticket, charter = opened.ticket, opened.charter


def _opened_since(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> Iterator[OpenedRound]:
    """Rounds after the last receipt's and before the ticket's: they are void, and no chain names them."""
    last = int(ticket.previous_folder.removeprefix("rounds/").partition("-")[0] or 0)
    for number in range(last + 1, ticket.round_number):
        for attempt in itertools.count(1):
            folder = f"rounds/{number:05d}-{attempt}"
            if not exchange.exists(f"{folder}/ticket.json"):
                break
            # What the key holder did not sign is no sum that was opened.
            with contextlib.suppress(IntegrityError, ObjectMissingError):
                yield opened_round(exchange, keys_uri, folder, charter)


def groups(earlier: Iterable[EarlierSum], members: Iterable[str]) -> list[tuple[str, ...]]:
    """Sites by the sums that they are in, the new one included: each sorted, the smallest group first."""
    sums = [*(each.members for each in earlier), frozenset(members)]
    by_sums: dict[tuple[bool, ...], list[str]] = {}
    for site in sorted(frozenset[str]().union(*sums)):
        by_sums.setdefault(tuple(site in each for each in sums), []).append(site)
    return sorted(map(tuple, by_sums.values()), key=lambda group: (len(group), group))


def require_grouped(earlier: Sequence[EarlierSum], members: Collection[str], charter: Charter) -> None:
    """Passes a set of sites whose sum shows no small group of them, together with the earlier ones.

    Raises:
        RefusedError: it would.
    """
    small = _small_groups(earlier, members, charter)
    if small:
        text = shown_apart(earlier, small[0], charter)
        raise RefusedError(text, disclosed=text)


def require_counted_together(
    earlier: Iterable[frozenset[str]], members: Collection[str], charter: Charter
) -> None:
    """Passes a set of sites whose counts show no small group of them, together with other sums of counts.

    Without noise a site's test rows by class are the same whatever model they are counted for, so sums of
    counts differ by the sites alone that they are of.

    Args:
        earlier: the sets that other sums of counts are of.
        members: of this one.
        charter: says how many sites hide each other.

    Raises:
        RefusedError: they would show some.
    """
    sums = [EarlierSum(round_number=number, members=each) for number, each in enumerate(earlier)]
    small = _small_groups(sums, members, charter)
    if small:
        text = (
            f"without noise these counts and those of earlier rounds would show {', '.join(small[0])} apart "
            "from all others: the same sites must take part as before, or at least "
            f"{least_group(charter)} stay away or come together"
        )
        raise RefusedError(text, disclosed=text)


def shown_apart(earlier: Sequence[EarlierSum], group: Sequence[str], charter: Charter) -> str:
    """What another sum of one model would give away, and the rule."""
    rounds = ", ".join(str(number) for number in sorted(each.round_number for each in earlier))
    return (
        f"without noise this sum and that of round {rounds}, which started from the same model, would show "
        f"{', '.join(group)} apart from all others: the same sites must take part as in that round, or at "
        f"least {least_group(charter)} stay away or come together"
    )


def sits_out(earlier: Sequence[EarlierSum], charter: Charter) -> str:
    """Why a site that could take part is left out of another sum of one model."""
    rounds = ", ".join(str(number) for number in sorted(each.round_number for each in earlier))
    return (
        f"refused: the round goes back to the model that round {rounds} started from, and without noise "
        f"both sums would show fewer than {least_group(charter)} sites apart from the others"
    )


def largest_grouped(
    earlier: Sequence[EarlierSum], available: Collection[str], charter: Charter
) -> tuple[str, ...]:
    """Most of the available sites that `require_grouped` passes, sorted; empty where it passes none.

    Which sites sit out where some must goes by their names: every party finds the same.
    """
    present = frozenset(available)
    if not earlier:
        return tuple(sorted(present))
    candidates = [each.members for each in earlier if each.members <= present]
    candidates.append(_whole_groups(earlier, present, least_group(charter)))
    passing = [each for each in candidates if each and not _small_groups(earlier, each, charter)]
    if not passing:
        return ()
    largest = max(passing, key=len)
    return tuple(sorted(largest))


def _small_groups(
    earlier: Sequence[EarlierSum], members: Collection[str], charter: Charter
) -> list[tuple[str, ...]]:
    """Groups that are too small; none where there is but one sum, or the same sites are summed again."""
    if not earlier or any(each.members == frozenset(members) for each in earlier):
        return []
    return [group for group in groups(earlier, members) if len(group) < least_group(charter)]


def _whole_groups(earlier: Sequence[EarlierSum], present: frozenset[str], least: int) -> frozenset[str]:
    """Of every group as many sites as leave `least` of it in the sum, and as many or none out of it."""
    chosen: set[str] = set()
    summed = frozenset[str]().union(*(each.members for each in earlier))
    for group in groups(earlier, summed | present):
        here = [site for site in group if site in present]
        # Whoever was in a sum and stays away now is a group of its own; a newcomer who does is in no sum.
        if summed.issuperset(group) and 0 < len(group) - len(here) < least:
            here = here[: max(0, len(group) - least)]
        if len(here) >= least:
            chosen.update(here)
    return frozenset(chosen)
