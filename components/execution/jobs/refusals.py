"""How a site's cluster says no, as the words that the roster knows.

    ClusterError                 the site is left out, with one of these words
    ├── ClusterUnreachableError  unreachable: the API server does not answer, or not as one
    ├── ClusterDeniedError       denied: identity, rights, quota or an admission policy
    ├── JobRefusedError          failed: the cluster has another Job, or takes none of this form
    └── TemplateError            failed: the site's template is not of the agreed form

The cluster's own messages may hold names and values of the site. They are read for the few words below
and for the name of a policy, and go no further.
"""

from __future__ import annotations

import json
import re
from typing import ClassVar

from components.errors import SiteError
from components.execution.outcome import plain

_POLICY = re.compile(
    r"ValidatingAdmissionPolicy '([a-z0-9][a-z0-9.-]{0,62})' (?:with binding|denied request)"
)
_WEBHOOK = re.compile(r'admission webhook "([a-z0-9][a-z0-9.-]{0,62})" denied the request')
_QUOTA = re.compile(r"(?:exceeded|failed|status unknown for) quota: ")
_MISSING_NAMESPACE = re.compile(r'namespaces "[^"]*" not found')


class ClusterError(SiteError):
    """The site's cluster does not do what it was asked; `disclosed` is code words only."""

    @property
    def told(self) -> str:
        """The reason as the roster reads it."""
        return plain(f"{self.reason}: {self.disclosed}" if self.disclosed else self.reason)


class ClusterUnreachableError(ClusterError):
    """The API server does not answer."""

    reason: ClassVar[str] = "unreachable"


class ClusterDeniedError(ClusterError):
    """The API server, or an admission policy behind it, refuses."""

    reason: ClassVar[str] = "denied"


class JobRefusedError(ClusterError):
    """The Job cannot be made as it is."""

    reason: ClassVar[str] = "failed"


class TemplateError(ClusterError):
    """The site's template does not have the form that the dispatcher relies on."""

    reason: ClassVar[str] = "failed"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(
            f"the Job template of the site (ConfigMap crosscloud-step, job.yaml): {plain(field)} {rule}",
            disclosed=f"template {plain(field)[:120]}",
        )


class RefusedRequestError(Exception):
    """An answer of the API server that is an error.

    Attributes:
        status: HTTP status; 0 when no TLS connection came about.
        message: the cluster's own. Never told to others.
        retry_after_s: what the server asked to wait.
    """

    def __init__(self, status: int, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


def message_of(body: bytes | str | None) -> str:
    """The message of a `Status` document, or empty."""
    try:
        status = json.loads(body or b"")
    except (ValueError, RecursionError):
        return ""
    message = status.get("message") if isinstance(status, dict) else None
    return message if isinstance(message, str) else ""


def refusal(error: RefusedRequestError, *, of: str) -> ClusterError:
    """The error in words of the roster, for a refusal that waiting does not mend.

    Args:
        error: the API server's answer.
        of: what was asked for, two or three words: `create jobs`.
    """
    kind, word = _in_words(error, of)
    return kind(f"the cluster refused to {of} (HTTP {error.status}): {error.message}", disclosed=word)


def _in_words(error: RefusedRequestError, of: str) -> tuple[type[ClusterError], str]:
    named = _POLICY.search(error.message) or _WEBHOOK.search(error.message)
    if named:
        return ClusterDeniedError, f"policy {named[1]}"
    if _QUOTA.search(error.message):
        return ClusterDeniedError, "quota"
    if "because it is being terminated" in error.message:
        return JobRefusedError, "the namespace is being deleted"
    if _MISSING_NAMESPACE.search(error.message):
        return JobRefusedError, "no such namespace"
    by_status: dict[int, tuple[type[ClusterError], str]] = {
        400: (JobRefusedError, "the Job is not valid there"),
        401: (ClusterDeniedError, "the token is not known"),
        403: (ClusterDeniedError, f"no right to {of}"),
        404: (JobRefusedError, f"nothing there to {of}"),
        422: (JobRefusedError, "the Job is not valid there"),
    }
    return by_status.get(error.status, (JobRefusedError, f"HTTP {error.status}"))
