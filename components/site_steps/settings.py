"""What a process of a site's own is told by the site: its name and where its stores are."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_of, pinned_charter
from components.agreement.site_policy import SitePolicy, load_policy
from components.artifacts.stores import open_store
from components.errors import SignatureError, UsageError
from components.site_steps.request import StepRequest, read_request

SETTINGS = {
    "site": "CROSSCLOUD_SITE",
    "store_uri": "CROSSCLOUD_STORE_URI",
    "exchange_uri": "CROSSCLOUD_EXCHANGE_URI",
    "keys_uri": "CROSSCLOUD_KEYS_URI",
}


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """A site's own settings, which no request can change.

    Attributes:
        site: its name.
        store_uri: its own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the charters.
    """

    site: str
    store_uri: str
    exchange_uri: str
    keys_uri: str

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str] = os.environ, *, optional: Collection[str] = ()
    ) -> SiteSettings:
        """The settings that the site's template of a Job gives.

        Args:
            environment: holds them.
            optional: names of settings that may be missing, and are empty then.

        Raises:
            UsageError: some are missing.
        """
        missing = [
            variable
            for name, variable in SETTINGS.items()
            if name not in optional and not environment.get(variable)
        ]
        if missing:
            raise UsageError(f"the site's own manifest must set {', '.join(missing)}")
        return cls(**{name: environment.get(variable, "") for name, variable in SETTINGS.items()})

    def policy(self) -> SitePolicy:
        """Its policy."""
        return load_policy(self.keys_uri, self.site)

    def charters(self) -> list[Charter]:
        """The charters it may be asked under: the pinned one, or the next it has signed once in force.

        Raises:
            SignatureError: the pinned edition is not there, or not signed by everybody.
        """
        policy = self.policy()
        in_force = pinned_charter(self.keys_uri, policy.charter, policy.next_charter)
        if in_force.digest == policy.charter:
            return [in_force]
        try:
            return [in_force, charter_of(self.keys_uri, policy.charter)]
        except SignatureError:
            return [in_force]


def agreed_request(named: str, site: SiteSettings, charters: Sequence[Charter]) -> StepRequest:
    """A request of the exchange that the coordinator of a charter this site works under has signed.

    Args:
        named: its digest.
        site: that is asked.
        charters: of `SiteSettings.charters`.

    Raises:
        SignatureError: it is not; see `read_request`.
        ObjectMissingError: there is none of this name.
    """
    exchange = open_store(site.exchange_uri)
    refusals: list[SignatureError] = []
    for charter in charters:
        try:
            return read_request(exchange, site.site, named, charter)
        except SignatureError as error:
            refusals.append(error)
    raise refusals[0]
