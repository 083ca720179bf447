"""A connected endpoint: kfp's client with deadlines, a token that may rotate, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import kfp_server_api
from kfp.client import Client
from kfp.client.token_credentials_base import TokenCredentialsBase

from components.errors import CrosscloudError, UsageError
from pipelines.kubeflow.address import Address
from pipelines.kubeflow.refusals import EndpointError, ForeignEndpointError
from pipelines.kubeflow.transport import PATIENCE, Patience, PatientTransport

_Answer = TypeVar("_Answer")
PAGE = 100
MOST_PAGES = 100
"""A list of ten thousand is looked through; what an endpoint holds beyond is told to be too much."""


class FileToken(TokenCredentialsBase):  # type: ignore[misc]
    """The token in a file, as it is at the time of each request: whoever mounts it replaces it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def refresh_api_key_hook(self, config: Any) -> None:
        """Puts the token where the generated client takes it from.

        Raises:
            UsageError: there is none in the file.
        """
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the token in {self._path} cannot be read: {type(error).__name__}") from None
        if not token or any(not character.isprintable() or character == " " for character in token):
            raise UsageError(f"{self._path} must hold one token and nothing else")
        config.api_key["authorization"] = token


class _PatientClient(Client):  # type: ignore[misc]
    """kfp's client, which asks once whether the endpoint is well and writes no file in the user's home."""

    def __init__(self, patience: Patience, **terms: Any) -> None:
        self.patience = patience
        super().__init__(**terms)
        self._be_patient()

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """Asks within the deadlines that all requests have, and repeats only as they do."""
        del sleep_duration
        self._be_patient()
        return self._healthz_api.healthz_service_get_healthz()

    def set_user_namespace(self, namespace: str) -> None:
        """For this client alone; the base class would set it for every later command of the user."""
        self._context_setting["namespace"] = namespace.strip()

    def _be_patient(self) -> None:
        """The base class asks before its constructor has ended."""
        api = self._healthz_api.api_client
        if not isinstance(api.rest_client, PatientTransport):
            api.rest_client = PatientTransport(api.configuration, self.patience)


class Endpoint:
    """One Kubeflow Pipelines API, asked as one user. For one thread."""

    def __init__(self, address: Address, client: Client, *, many_users: bool) -> None:
        self.address = address
        self.client = client
        self.many_users = many_users

    @property
    def namespace(self) -> str:
        """Of the profile that is asked; empty where the installation has none."""
        return str(self.client.get_user_namespace() or "") if self.many_users else ""

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """What one call of the client gives; what the client prints or warns about is dropped.

        Raises:
            EndpointError: it gives nothing that can be used.
        """
        with _understood(self.address.url), _quiet():
            return question()

    def pages(self, question: Callable[..., Any], field: str, **terms: Any) -> Iterator[Any]:
        """All objects of a list, page by page as they are asked for.

        Args:
            question: a method of the client that lists.
            field: of its answer that holds the objects.
            terms: of the list: filter, order, namespace.

        Raises:
            EndpointError: the list cannot be had, or does not end.
        """
        token = ""
        for _ in range(MOST_PAGES):
            given = {"page_size": PAGE, "page_token": token, **terms}
            answer = self.ask(lambda given=given: question(**given))  # type: ignore[misc]
            yield from getattr(answer, field) or ()
            token = answer.next_page_token or ""
            if not token:
                return
        raise EndpointError(
            f"{self.address.url} lists more than {PAGE * MOST_PAGES:,} {field.replace('_', ' ')}: delete "
            "what is no longer needed there"
        )


def connect(address: Address, *, patience: Patience = PATIENCE) -> Endpoint:
    """Connects to an endpoint and sees that it is a Kubeflow Pipelines API that answers us.

    Raises:
        UsageError: it cannot be asked; why, in one line.
    """
    # Google's sign-in flows print what the person at the terminal has to do: not into what programs read.
    with _understood(address.url), _quiet(sys.stderr):
        client = _client(address, patience)
        health = client.get_kfp_healthz()
    if not health.multi_user:
        # A namespace that the user chose for another installation is of no meaning in this one.
        client.set_user_namespace("")
    elif address.namespace:
        client.set_user_namespace(address.namespace)
    endpoint = Endpoint(address, client, many_users=bool(health.multi_user))
    if endpoint.many_users and not endpoint.namespace:
        raise UsageError(
            f"{address.url} is an installation for many users: name the namespace of your profile with "
            "--namespace"
        )
    if address.namespace and not endpoint.many_users:
        raise UsageError(
            f"--namespace {address.namespace}: {address.url} is an installation for one user, which has no "
            "namespaces to choose from: leave it out"
        )
    return endpoint


def required(found: Any, field: str) -> str:
    """An id of an answer.

    Raises:
        ForeignEndpointError: it has none.
    """
    value = getattr(found, field, None)
    if not isinstance(value, str) or not value:
        raise ForeignEndpointError(
            f"the endpoint answers without {field}: it must be Kubeflow Pipelines 2, of a version near 2.17"
        )
    return value


def equals(**wanted: str) -> str:
    """A filter of lists: every field has its value."""
    predicates = [{"operation": "EQUALS", "key": key, "stringValue": value} for key, value in wanted.items()]
    return json.dumps({"predicates": predicates})


def _client(address: Address, patience: Patience) -> Client:
    try:
        return _PatientClient(
            patience,
            host=address.url,
            ui_host=address.pages_url,
            namespace=address.namespace or "kubeflow",
            credentials=FileToken(address.token_file) if address.token_file else None,
            ssl_ca_cert=str(address.ca_file) if address.ca_file else None,
        )
    except CrosscloudError:
        raise
    except Exception as error:
        # Identity-Aware Proxy and Google's own hosts bring sign-in flows of their own, with errors of theirs.
        raise UsageError(
            f"no client for {address.url} can be made: {type(error).__name__}; see that --ca-file holds "
            "certificates, or name a file that holds a token with --token-file"
        ) from None


@contextlib.contextmanager
def _understood(place: str) -> Iterator[None]:
    """An answer of a form that the client does not know is told as that."""
    try:
        yield
    except CrosscloudError:
        raise
    except (kfp_server_api.OpenApiException, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ForeignEndpointError(
            f"{place} answers in a form this version does not know ({type(error).__name__}): it must be "
            "Kubeflow Pipelines 2, of a version near 2.17"
        ) from error


@contextlib.contextmanager
def _quiet(aside: TextIO | None = None) -> Iterator[None]:
    """The client prints links and hints for notebooks; commands print their own."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(aside or io.StringIO()):
        warnings.simplefilter("ignore")
        yield
