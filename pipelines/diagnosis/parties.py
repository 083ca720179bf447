"""What a site has on this machine: its policy, its keys and its privacy ledger, against the charter."""

from __future__ import annotations

from datetime import datetime

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import private_folder
from components.agreement.site_policy import POLICY, PrivacyPolicy
from components.errors import UsageError
from pipelines.charter_comparison import differences, policy_problems
from pipelines.chartering import newest_edition, unsigned
from pipelines.diagnosis.findings import NotCheckedError
from pipelines.federation import Federation
from pipelines.federation_sections import Site
from pipelines.keyring import is_local, key_problems
from pipelines.privacy_standing import standings

OFFLINE = "--offline asks no network"


def has_policy(federation: Federation, owner: str) -> bool:
    """Whether the policy of a party lies on this machine."""
    try:
        return (private_folder(federation.keys_uri, owner) / POLICY).is_file()
    except UsageError:
        # The charter is remote, and no folder of this machine is set for private keys.
        return False


def require_local(uri: str, *, offline: bool) -> None:
    """`NotCheckedError` where a store is on another machine and no network may be asked."""
    if offline and not is_local(uri):
        raise NotCheckedError(f"{uri} is not on this machine, and {OFFLINE}")


def charter_signed(federation: Federation, *, offline: bool) -> Charter:
    """The charter in force, which is the newest edition.

    Raises:
        NotCheckedError: there is none yet, or it lies on another machine.
        UsageError: a signature is missing; one problem a line.
        SignatureError: an edition or a signature was altered.
    """
    require_local(federation.keys_uri, offline=offline)
    require_local(federation.state_uri, offline=offline)
    newest = newest_edition(federation)
    if newest is None:
        raise NotCheckedError(
            f"there is none at {federation.keys_uri} yet: 'crosscloud run' makes one where all parties are "
            "on one machine, 'crosscloud charter new' elsewhere"
        )
    waiting = [
        f"edition {newest.edition} waits for {signer}: 'crosscloud charter sign --as {signer}'"
        for signer in unsigned(federation, newest)
    ]
    if waiting:
        raise UsageError("\n".join(waiting))
    return charter_in_force(federation.keys_uri)


def file_agrees(federation: Federation, charter: Charter) -> str:
    """The federation file asks for what the charter has.

    Raises:
        UsageError: it does not; one problem a line.
    """
    problems = differences(federation, charter)
    if problems:
        raise UsageError("\n".join(problems))
    return f"edition {charter.edition} is in force, and the file asks for nothing else"


def policy_agrees(federation: Federation, site: Site, charter: Charter | None) -> str:
    """A site's policy pins the charter, and admits what the federation file asks.

    Raises:
        UsageError: it does not; one problem a line.
    """
    if charter is None:
        return "it can be read; no charter is known to be in force to compare it with"
    problems = policy_problems(federation.model_copy(update={"sites": [site]}), charter)
    if problems:
        raise UsageError("\n".join(problems))
    return "it pins the charter and admits what the federation file asks"


def keys(federation: Federation, site: Site, *, offline: bool) -> str:
    """A site's private keys are there, private, and those that the others know.

    Raises:
        UsageError: they are not; one problem a line.
    """
    require_local(federation.keys_uri, offline=offline)
    problems = key_problems(federation, [site.name]).wrong
    if problems:
        raise UsageError("\n".join(problems))
    return "the site's private keys are those that the others know"


def privacy(
    federation: Federation,
    site: Site,
    terms: PrivacyPolicy | None,
    charter: Charter | None,
    *,
    now: datetime,
    offline: bool,
) -> str:
    """A site's ledger is whole and its budget holds the next round.

    Args:
        federation: as its file says.
        site: whose ledger it is.
        terms: of its policy.
        charter: in force; None where that is not known.
        now: with its time zone.
        offline: whether no network may be asked.

    Raises:
        NotCheckedError: there is no charter, or the ledger lies on another machine.
        UsageError: the budget does not hold another round.
        IntegrityError: the ledger was altered or cut.
    """
    if charter is None:
        raise NotCheckedError("no charter is known to be in force, whose rounds the budget would hold")
    if charter.privacy is None:
        return f"the charter has no differential privacy, its algorithm is {charter.algorithm}"
    if terms is None:
        raise NotCheckedError("the site's policy sets no budget")
    require_local(terms.ledger_uri, offline=offline)
    require_local(federation.state_uri, offline=offline)
    (standing,) = standings(federation.model_copy(update={"sites": [site]}), charter, now=now)
    statement, left = standing.statement, standing.rounds_left
    spent = f"epsilon {statement.epsilon_spent:.3g} of {terms.epsilon:g} is spent"
    if not left:
        raise UsageError(
            f"{spent} on {terms.protected}, or the charter's schedule has ended: no round is left, and more "
            "needs a new charter and a budget that the site agrees to ('crosscloud charter new')"
        )
    return f"the ledger is whole, {spent}, {left} rounds are left"
