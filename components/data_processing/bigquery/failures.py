"""What BigQuery answers, as the house's errors: one line for the site's people, and what others may read.

BigQuery's messages quote row values (`Bad int64 value: Ada Lovelace`), so nothing of them is disclosed but a
name that the query itself writes, and they are never chained: a trace may be written to a log.
"""

from __future__ import annotations

import concurrent.futures
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from components.errors import (
    BadDataError,
    DeadlineExceededError,
    RefusedError,
    SiteError,
    SourceUnreachableError,
)

_ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser on the project",
    "bigquery.readsessions": "roles/bigquery.readSessionUser on the project",
    "bigquery.tables.getdata": "roles/bigquery.dataViewer on the table",
    "bigquery.tables.get": "roles/bigquery.metadataViewer on the dataset",
    "bigquery.datasets.get": "roles/bigquery.metadataViewer on the dataset",
    "permission to query table": "roles/bigquery.dataViewer on the table",
    "policy tag": "roles/datacatalog.categoryFineGrainedReader on the policy tag",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageConsumer on the project",
}
_UNKNOWN_NAME = re.compile(r"Unrecognized name: `?([\w.]+)`?|Name (\w+) not found inside")
_LOST_TABLE = re.compile(r"Not found: (?:Table|Dataset) ([^\s]+)")
_PASSING = frozenset(
    {
        "rateLimitExceeded",
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
    }
)
# Google's client gives a job's failure status 500 where it does not know the reason.
_LASTING = frozenset({"bytesBilledLimitExceeded", "timeout", "stopped", "notImplemented"})
_QUOTA = frozenset({"quotaExceeded", "billingNotEnabled", "billingTierLimitExceeded"})
_OUT_OF_WINDOW = re.compile(r"time travel|system[_ ]time|snapshot time|Cannot read before", re.IGNORECASE)
OUT_OF_WINDOW = (
    "the snapshot lies outside the table's time travel window (7 days at most): run the round again, a new "
    "attempt has a new one; to train on older records restore a table snapshot into a table of its own "
    "(CREATE TABLE … CLONE …) and name that in the sql"
)
OUT_OF_WINDOW_DISCLOSED = "the snapshot lies outside the warehouse's time travel window"


@contextmanager
def explained(written: Collection[str]) -> Iterator[None]:
    """Turns what Google's clients raise into a `SiteError`.

    Args:
        written: lower-case names that the query writes, the only ones that are disclosed.

    Raises:
        SiteError: of the kind that fits.
    """
    import requests  # type: ignore[import-untyped]
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (
        GoogleAPIError,
        GoogleAuthError,
        requests.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
    ) as error:
        raise site_error(error, written) from None


def site_error(error: BaseException, written: Collection[str]) -> SiteError:
    """`error`, raised by one of Google's clients, as the house's error."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError

    error = _cause(error)
    text = _message(error)
    reason = _reason(error)
    if isinstance(error, concurrent.futures.TimeoutError) or reason in {"timeout", "stopped"}:
        return DeadlineExceededError(
            "the query did not end within the terms' deadline_s and was cancelled: raise it, or ask for less",
            disclosed="the warehouse did not answer in time",
        )
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return SourceUnreachableError(
            f"BigQuery's identity service refused the site's identity: {text}",
            disclosed="the site's identity was refused",
        )
    if reason == "bytesBilledLimitExceeded":
        return RefusedError(
            f"BigQuery refused the query under maximum_bytes_billed: {text} Raise it in the site's terms, or "
            "read fewer columns or partitions",
            disclosed="the query would be billed more than the site allows",
        )
    if isinstance(error, exceptions.ClientError) and not is_passing(error):
        return _refusal(error, text, written)
    return SourceUnreachableError(
        f"BigQuery cannot be reached, or does not answer as it should: {text}",
        disclosed="the warehouse cannot be reached",
    )


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: too much asked at once, or a fault of the service."""
    from google.api_core import exceptions

    reason = _reason(error)
    passing = (exceptions.TooManyRequests, exceptions.ServerError, exceptions.Aborted)
    return reason in _PASSING or (isinstance(error, passing) and reason not in _LASTING)


def storage_refused(error: BaseException) -> bool:
    """Whether `error` says that the Storage Read API cannot be used here at all.

    It is denied, not enabled, not there, or behind a network that does not let it through: rows can still be
    read through the REST API.
    """
    from google.api_core import exceptions

    return isinstance(
        _cause(error),
        exceptions.Forbidden
        | exceptions.Unauthorized
        | exceptions.ServiceUnavailable
        | exceptions.GatewayTimeout
        | exceptions.MethodNotImplemented
        | exceptions.NotFound
        | exceptions.FailedPrecondition,
    )


def _cause(error: BaseException) -> BaseException:
    """What failed at last, where trying again was given up."""
    from google.api_core.exceptions import RetryError

    return error.cause if isinstance(error, RetryError) and error.cause is not None else error


def _refusal(error: BaseException, text: str, written: Collection[str]) -> SiteError:
    from google.api_core import exceptions

    if _reason(error) in _QUOTA:
        return SourceUnreachableError(
            f"BigQuery turns the project away: {text} Mend: raise the project's quota, or enable its billing",
            disclosed="the warehouse turns the site's project away",
        )
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
        return _denied(text)
    if isinstance(error, exceptions.NotFound):
        return _not_found(text, written)
    return _bad_query(text, written, _reason(error))


def _denied(text: str) -> SourceUnreachableError:
    lowered = text.lower()
    role = next((role for words, role in _ROLES.items() if words in lowered), "")
    mend = f"grant the site's identity {role}" if role else "grant the site's identity what it names"
    return SourceUnreachableError(
        f"BigQuery denies access: {text} Mend: {mend}", disclosed="the warehouse denies the site's identity"
    )


def _not_found(text: str, written: Collection[str]) -> BadDataError:
    lost = _LOST_TABLE.search(text)
    name = re.split(r"[.:]", lost[1])[-1] if lost else ""
    known = name.lower() in written
    return BadDataError(
        f"the query failed: {text} Mend: correct the name or the location in the site's terms, or grant its "
        "identity roles/bigquery.dataViewer (BigQuery says so too of what may not be seen)",
        disclosed="the query failed: there is no table or column " + repr(name)
        if known
        else "the query failed: something it names is not there",
    )


def _bad_query(text: str, written: Collection[str], reason: str) -> BadDataError:
    if _OUT_OF_WINDOW.search(text):
        return BadDataError(f"{OUT_OF_WINDOW} (BigQuery: {text})", disclosed=OUT_OF_WINDOW_DISCLOSED)
    unknown = _UNKNOWN_NAME.search(text)
    name = next((group for group in unknown.groups() if group), "") if unknown else ""
    if name and name.split(".")[-1].lower() in written:
        disclosed = f"the query failed: there is no table or column {name.split('.')[-1]!r}"
    else:
        disclosed = "the query failed" + (f": {reason}" if reason in {"invalidQuery", "invalid"} else "")
    return BadDataError(f"the query failed: {text}", disclosed=disclosed)


def _reason(error: Any) -> str:
    """BigQuery's own word for an error, such as `invalidQuery`."""
    errors = getattr(error, "errors", None) or [{}]
    first = errors[0]
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def _message(error: BaseException) -> str:
    """BigQuery's message in one line, without the address that was called and the job's own footer."""
    errors = getattr(error, "errors", None)
    first = errors[0] if errors and isinstance(errors[0], dict) else {}
    text = str(first.get("message") or getattr(error, "message", "") or error or type(error).__name__)
    text = re.sub(r"^(GET|POST) \S+: ", "", text.split("\n\nLocation:", maxsplit=1)[0])
    text = " ".join(text.split())[:500]
    return text if text.endswith(".") else f"{text}."
