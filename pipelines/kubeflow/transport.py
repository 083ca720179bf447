"""One HTTP request to an endpoint: with a deadline, repeated where that is safe, its failure told in a line.

The generated client has no deadline of its own, repeats requests that make things, follows redirects to
login pages and takes such a page for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from kfp_server_api import Configuration
from kfp_server_api.exceptions import ApiException
from kfp_server_api.rest import RESTClientObject, RESTResponse
from urllib3 import exceptions

from pipelines.kubeflow.answers import object_in, refusal
from pipelines.kubeflow.refusals import EndpointError, EndpointUnreachableError
from pipelines.spec_check.findings import one_line

_CA = "name the authority that signed its certificate with --ca-file"
_NAME = "its certificate is for another name: use that name in --endpoint"
_CERTIFICATE_MENDS = {
    "unable to get local issuer": _CA,
    "self-signed": _CA,
    "self signed": _CA,
    "mismatch": _NAME,
    "not valid for": _NAME,
    "certificate has expired": "its certificate has expired and must be renewed there",
    "record layer failure": "it may not speak TLS: within your own cluster use http://",
    "wrong version number": "it does not speak TLS: within your own cluster use http://",
}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an endpoint is waited for.

    Attributes:
        connect_s: seconds until a connection stands.
        read_s: seconds until the next byte of an answer.
        pauses_s: seconds before each repetition of a request that changes nothing.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    pauses_s: tuple[float, ...] = (0.5, 2.0)


PATIENCE = Patience()


class PatientTransport(RESTClientObject):  # type: ignore[misc, unused-ignore]
    """What the generated client sends its requests through."""

    def __init__(
        self,
        configuration: Configuration,
        patience: Patience,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # Repeating is decided here, and a redirect leads to a login page as a rule.
        configuration.retries = urllib3.Retry(total=0, redirect=False)
        super().__init__(configuration)
        self._patience = patience
        self._sleep = sleep
        self._place = configuration.host

    def request(self, method: str, url: str, **terms: Any) -> RESTResponse:
        """As the base class, within the deadlines; only what reads is repeated.

        Raises:
            EndpointError: what went wrong, in one line.
        """
        terms["_request_timeout"] = (self._patience.connect_s, self._patience.read_s)
        pauses = list(self._patience.pauses_s) if method == "GET" else []
        while True:
            try:
                return self._once(method, url, terms)
            except EndpointUnreachableError:
                if not pauses:
                    raise
                self._sleep(pauses.pop(0))

    def _once(self, method: str, url: str, terms: dict[str, Any]) -> RESTResponse:
        try:
            answer = super().request(method, url, **terms)
        except ApiException as error:
            if not error.status:
                raise self._lost(method, error) from None
            raise refusal(self._place, error.status, error.body or b"", error.headers or {}) from None
        except (exceptions.HTTPError, OSError) as error:
            raise self._lost(method, error) from None
        object_in(self._place, answer.data)
        return answer

    def _lost(self, method: str, error: Exception) -> EndpointError:
        """No answer, and whether the request may have been carried out all the same."""
        inner = getattr(error, "reason", None)
        reason = inner if isinstance(inner, Exception) else error
        text = one_line(str(reason))
        for sign, mend in _CERTIFICATE_MENDS.items():
            if sign in text.lower():
                return EndpointError(f"{self._place} is not trusted: {mend}")
        if isinstance(reason, exceptions.SSLError):
            return EndpointError(f"{self._place} is not trusted ({text[:120]}): {_CA}")
        if isinstance(reason, exceptions.NewConnectionError | exceptions.ProxyError):
            return EndpointUnreachableError(
                f"{self._place} cannot be reached ({_cause(reason)}): see that the server runs, or name "
                "another --endpoint"
            )
        if isinstance(reason, exceptions.ConnectTimeoutError):
            return EndpointUnreachableError(
                f"{self._place} cannot be reached within {self._patience.connect_s:g} s: look at the network "
                "between here and there, or name another --endpoint"
            )
        # An upload or a creation that was sent may have been done although nobody heard of it.
        doubt = "" if method == "GET" else "; it may have been done: look before you ask again"
        if isinstance(reason, exceptions.TimeoutError):
            return EndpointUnreachableError(
                f"{self._place} does not answer within {self._patience.read_s:g} s{doubt}"
            )
        return EndpointUnreachableError(
            f"the connection to {self._place} broke ({type(reason).__name__}){doubt}"
        )


def _cause(error: BaseException) -> str:
    """Such as `connection refused`, without addresses and object names."""
    cause = error.__cause__ or error.__context__
    text = getattr(cause, "strerror", None)
    return str(text).lower() if text else type(error).__name__
