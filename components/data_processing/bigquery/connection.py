"""Google's clients for one site's terms, and the pace at which they try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.data_processing.bigquery.failures import is_passing
from components.data_processing.bigquery.identity import Identity, anonymous, application_default
from components.data_processing.bigquery.residency import check_reader
from components.data_processing.bigquery.terms import PUBLIC_ENDPOINT, BigQueryTerms
from components.errors import UsageError

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud import bigquery, bigquery_storage

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The REST client of a site, and as whom it speaks."""

    client: bigquery.Client
    identity: Identity


def connect(terms: BigQueryTerms) -> Connection:
    """A client on `terms`; nothing is sent yet.

    Raises:
        RefusedError: the identity is a key, or its rows may not leave Google Cloud.
        SourceUnreachableError: there is no identity.
        UsageError: Google's client is not installed.
    """
    try:
        from google.api_core.client_options import ClientOptions
        from google.cloud import bigquery
    except ImportError:
        raise UsageError("reading BigQuery needs its client: pip install 'crosscloud[bigquery]'") from None
    identity = anonymous() if terms.on_this_machine else application_default()
    check_reader(terms.data_residency, identity=identity.kind, in_google_cloud=identity.in_google_cloud)
    # The public endpoint is named, or BIGQUERY_EMULATOR_HOST could send the site's token elsewhere.
    options = ClientOptions(api_endpoint=terms.endpoint or PUBLIC_ENDPOINT)
    client = bigquery.Client(
        project=terms.project,
        location=terms.location,
        credentials=identity.credentials,
        client_options=options,
    )
    return Connection(client=client, identity=identity)


def storage_client(terms: BigQueryTerms, identity: Identity) -> bigquery_storage.BigQueryReadClient:
    """A client of the Storage Read API that goes with the terms' endpoint; nothing is sent yet."""
    from google.api_core.client_options import ClientOptions
    from google.cloud import bigquery_storage

    reader: Callable[..., bigquery_storage.BigQueryReadClient] = bigquery_storage.BigQueryReadClient
    if terms.on_this_machine:
        import grpc  # type: ignore[import-untyped]
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
            BigQueryReadGrpcTransport,
        )

        channel = grpc.insecure_channel(terms.storage_endpoint)
        return reader(transport=BigQueryReadGrpcTransport(channel=channel))
    options = ClientOptions(api_endpoint=terms.storage_endpoint) if terms.storage_endpoint else None
    return reader(credentials=identity.credentials, client_options=options)


def has_storage(terms: BigQueryTerms) -> bool:
    """Whether the terms lead to a Storage Read API: an endpoint of one's own needs one named beside it."""
    return bool(terms.storage_endpoint) or not terms.endpoint


def retrying(seconds: float) -> Retry:
    """Tries again, at growing pauses, what fails for a reason that passes; for `seconds` at most."""
    import requests  # type: ignore[import-untyped]
    from google.api_core.retry import Retry
    from google.auth.exceptions import TransportError

    lost = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        TransportError,
    )

    def passing(error: BaseException) -> bool:
        unsafe = isinstance(error, requests.exceptions.SSLError)
        return not unsafe and (is_passing(error) or isinstance(error, lost))

    return Retry(
        predicate=passing,
        initial=min(_FIRST_PAUSE_S, seconds / 4),
        maximum=_LONGEST_PAUSE_S,
        multiplier=2.0,
        timeout=seconds,
    )
