"""What a site step holds: its name, its keys, its own store, and the exchange it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import Parties, load_parties, load_signing_key
from components.agreement.ticket import Ticket, read_ticket
from components.artifacts.documents import digest
from components.artifacts.stores import Store, key_of, open_store
from components.artifacts.tensors import Tensors, decode
from components.errors import DigestMismatchError, RefusedError
from components.execution.outcome import Outcome
from components.execution.site_step import SiteStep

MAX_MODEL_BYTES = 8 * 2**30


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """One site at work under one ticket."""

    site: str
    store: Store
    exchange: Store
    parties: Parties
    key: Ed25519PrivateKey
    ticket: Ticket

    @classmethod
    def open(cls, *, site: str, store_uri: str, exchange_uri: str, keys_uri: str, ticket: str) -> Workplace:
        """Opens the stores, loads the site's keys and verifies the ticket.

        Raises:
            SignatureError: the ticket is not the coordinator's.
            RefusedError: the ticket does not name this site.
        """
        parties = load_parties(keys_uri)
        exchange = open_store(exchange_uri)
        verified = read_ticket(exchange.read(key_of(exchange, ticket), limit=1 << 16), parties)
        if site not in verified.sites:
            text = f"the ticket of round {verified.round_number} does not name {site}"
            raise RefusedError(text, disclosed=text)
        return cls(
            site=site,
            store=open_store(store_uri),
            exchange=exchange,
            parties=parties,
            key=load_signing_key(keys_uri, site),
            ticket=verified,
        )

    def model(self) -> Tensors:
        """The global model that the ticket names."""
        return read_model(self.exchange, self.ticket.model)


def model_key(model: str) -> str:
    """Where a model lies in the exchange, by its digest."""
    return f"models/{model}.safetensors"


def read_model(exchange: Store, model: str) -> Tensors:
    """The model with this SHA-256.

    Raises:
        DigestMismatchError: what lies there is another.
    """
    content = exchange.read(model_key(model), limit=MAX_MODEL_BYTES)
    if digest(content) != model:
        raise DigestMismatchError(f"the model in the exchange is not the one with digest {model[:12]}")
    return decode(content)


def run_at_site(
    name: str,
    work: Callable[[Workplace], Outcome],
    *,
    site: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    ticket: str,
    deadline_s: int,
    reason: str = "",
) -> Outcome:
    """Does a step's work at a site, guarded: whatever happens becomes an outcome.

    Args:
        name: of the step.
        work: is given the opened workplace, in a process of its own.
        site: name of the site.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        ticket: reference of the round's ticket.
        deadline_s: seconds the work may take.
        reason: why the site is left out already; then nothing is done.
    """
    step = SiteStep(
        name=name,
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        ticket=ticket,
        deadline_s=deadline_s,
    )

    def at_work() -> Outcome:
        return work(
            Workplace.open(
                site=site, store_uri=store_uri, exchange_uri=exchange_uri, keys_uri=keys_uri, ticket=ticket
            )
        )

    return step.run(at_work, reason=reason)
