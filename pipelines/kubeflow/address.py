"""Where an endpoint is and what opens it, from a command's options and Kubeflow's usual environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from components.errors import UsageError

ENDPOINT = "KF_PIPELINES_ENDPOINT"
UI_ENDPOINT = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105
IAP_CLIENT = "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"


@dataclass(frozen=True, kw_only=True)
class Address:
    """An endpoint, and as whom it is asked.

    Attributes:
        url: of the API, with its scheme and without a slash at its end.
        pages_url: of the pages that people open.
        token_file: whose content is shown as a bearer token, read anew for each request.
        ca_file: certificates of the authorities that are trusted, instead of the usual ones.
        namespace: of the profile, in installations for many users; empty in others.
    """

    url: str
    pages_url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    namespace: str = ""

    def run_page(self, run_id: str) -> str:
        """Link to the page of a run."""
        return f"{self.pages_url}/#/runs/details/{run_id}"

    def recurring_run_page(self, recurring_run_id: str) -> str:
        """Link to the page of a recurring run."""
        return f"{self.pages_url}/#/recurringrun/details/{recurring_run_id}"


def find_address(
    *,
    endpoint: str = "",
    token_file: Path | None = None,
    ca_file: Path | None = None,
    namespace: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Address | None:
    """The endpoint that options or else the environment name; None where neither does.

    Raises:
        UsageError: what they name cannot be used as asked.
    """
    named = endpoint or environment.get(ENDPOINT, "")
    if not named:
        return None
    url = _url(named, "--endpoint" if endpoint else ENDPOINT)
    pages = environment.get(UI_ENDPOINT, "")
    path = environment.get(TOKEN_PATH, "")
    if token_file is not None and environment.get(IAP_CLIENT):
        raise UsageError(
            f"--token-file and {IAP_CLIENT} are two ways to say who asks: unset the one that is not meant"
        )
    if token_file is None and path and not environment.get(IAP_CLIENT):
        token_file = Path(path)
    if token_file is not None:
        _require_privacy(url)
    for file, option in ((token_file, "--token-file"), (ca_file, "--ca-file")):
        if file is not None and not file.is_file():
            raise UsageError(f"{option}: there is no file {file}")
    return Address(
        url=url,
        pages_url=_url(pages, UI_ENDPOINT) if pages else url,
        token_file=token_file,
        ca_file=ca_file,
        namespace=namespace,
    )


def require_address(address: Address | None) -> Address:
    """Passes an endpoint on.

    Raises:
        UsageError: none was named.
    """
    if address is None:
        raise UsageError(
            f"no Kubeflow endpoint is named: name one with --endpoint or in {ENDPOINT}, such as "
            "https://kubeflow.example.com/pipeline"
        )
    return address


def _url(text: str, source: str) -> str:
    """The address with its scheme, https where none is written."""
    full = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(full)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host or any(c.isspace() for c in text):
        raise UsageError(f"{source} must be an http or https address, got {_shown(text)!r}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"{source} must be an address alone, without a user, a password or a query, got "
            f"{_shown(text)!r}: a token goes into a file, named by --token-file"
        )
    return full.rstrip("/")


def _shown(text: str) -> str:
    """An address without what may be a secret in it."""
    scheme, separator, rest = text.partition("://")
    place = (rest if separator else text).rpartition("@")[2]
    return f"{scheme}{separator}{place.partition('?')[0]}" if separator else place.partition("?")[0]


def _require_privacy(url: str) -> None:
    """A token is shown under TLS, or where nobody else is on the line."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host.endswith((".svc", ".svc.cluster.local")) or "." not in host:
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise UsageError(
        f"a token is not sent to {url} without TLS: name it by https://, or reach it by a port forwarded to "
        "127.0.0.1"
    )
