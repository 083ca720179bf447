"""What stands between a federation file and its next round, told before a round is refused."""

from __future__ import annotations

from components.agreement.charter import KEY_HOLDER, Charter
from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import private_folder
from components.agreement.site_policy import POLICY, load_policy
from components.errors import UsageError
from pipelines.charter_comparison import differences, policy_problems
from pipelines.chartering import newest_edition, unsigned
from pipelines.federation import Federation


def charter_problems(federation: Federation, owner: str = "") -> list[str]:
    """Missing signatures, differences from the charter in force, and what policies would refuse.

    Args:
        federation: as its file says.
        owner: the site, or key holder, whose policy alone is looked at and must be there; by
            default all policies on this machine.

    Raises:
        UnknownSiteError: `owner` is neither.
        SignatureError: an edition or a signature was altered.
    """
    if owner and owner != KEY_HOLDER:
        federation.site(owner)
    newest, problems = newest_edition(federation), list[str]()
    if newest:
        problems += [
            f"edition {newest.edition} of the charter waits for {signer}: "
            f"'crosscloud charter sign --as {signer}'"
            for signer in unsigned(federation, newest)
        ]
    try:
        charter = charter_in_force(federation.keys_uri)
    except UsageError as error:
        return problems or [str(error)]
    problems += differences(federation, charter)
    looked_at = [site for site in federation.sites if owner in {"", site.name}]
    problems += policy_problems(federation.model_copy(update={"sites": looked_at}), charter)
    return problems + _other_policy_problems(federation, charter, owner)


def _other_policy_problems(federation: Federation, charter: Charter, owner: str) -> list[str]:
    """A policy that must be there and is not, and the key holder's, which no site's section is about."""
    party = owner or KEY_HOLDER
    path = private_folder(federation.keys_uri, party) / POLICY
    if not path.is_file():
        return [f"{owner}: there is no {path}: 'crosscloud charter sign --as {owner}'"] if owner else []
    policy = load_policy(federation.keys_uri, party)
    if party == KEY_HOLDER and charter.digest not in {policy.charter, policy.next_charter}:
        return [
            f"{party}: {path} pins another charter than the one in force: "
            f"'crosscloud charter sign --as {party}'"
        ]
    return []
