"""As whom a site reads BigQuery: its workload's identity, never a key in a file.

Credentials are found as every Google client finds them (`google.auth.default`): the file that
GOOGLE_APPLICATION_CREDENTIALS names, the file that gcloud writes, then the metadata server. A file may hold a
workload identity federation or a person's own credentials; a service account's key is refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import RefusedError, SourceUnreachableError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/bigquery",)
_KEYS = ("service_account", "gdch_service_account")
_KINDS = {
    "external_account": "workload identity federation",
    "authorized_user": "a person's own credentials",
    "external_account_authorized_user": "a person's own credentials",
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whoever reads.

    Attributes:
        credentials: for Google's clients.
        kind: in words, for messages.
        in_google_cloud: whether this identity exists inside Google Cloud only.
    """

    credentials: Credentials
    kind: str
    in_google_cloud: bool


def anonymous() -> Identity:
    """Nobody: for a service on this machine, which asks for no credentials and sends nothing away."""
    from google.auth.credentials import AnonymousCredentials

    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return Identity(credentials=nobody, kind="no identity", in_google_cloud=True)


def application_default() -> Identity:
    """The identity that this process has.

    Raises:
        RefusedError: it is a service account's key.
        SourceUnreachableError: there is none, or its file cannot be used.
    """
    import google.auth
    from google.auth.credentials import with_scopes_if_required
    from google.auth.exceptions import GoogleAuthError

    file = _credentials_file()
    kind = "the metadata server's workload identity" if file is None else _kind(file, _document(file))
    try:
        # Given scopes, it would exchange a federated token to look up a project's name, before it is known
        # whether this reader may read at all.
        credentials, _ = google.auth.default()
    except GoogleAuthError as error:
        raise SourceUnreachableError(
            f"there is no identity to read BigQuery with ({_first_line(error)}): give the workload one "
            "(Workload Identity on GKE, or a workload identity federation file elsewhere), or run 'gcloud "
            "auth application-default login'",
            disclosed="the site has no identity to read its warehouse with",
        ) from None
    scoped = with_scopes_if_required(credentials, SCOPES)  # type: ignore[no-untyped-call]
    return Identity(credentials=scoped, kind=kind, in_google_cloud=file is None)


def _credentials_file() -> Path | None:
    """The file that google.auth.default reads first, or None where it asks the metadata server."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if named:
        return Path(named)
    folder = os.environ.get("CLOUDSDK_CONFIG") or str(Path.home() / ".config" / "gcloud")
    file = Path(folder) / "application_default_credentials.json"
    return file if file.is_file() else None


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(file, type(error).__name__) from None
    if not isinstance(document, dict):
        raise _unusable(file, "it is no JSON object")
    return document


def _kind(file: Path, document: dict[str, Any]) -> str:
    """What identity `document` holds, in words; of an impersonation, the identity behind it."""
    kind = document.get("type")
    if kind in _KEYS:
        raise RefusedError(
            f"{file} holds the key of a service account, which anybody who copies it can use anywhere: give "
            "the workload an identity instead (Workload Identity on GKE, or a workload identity federation "
            "file elsewhere), and delete the key",
            disclosed="the site's identity is a key that can be copied",
        )
    source = document.get("source_credentials")
    if kind == "impersonated_service_account" and isinstance(source, dict):
        return _kind(file, source)
    if kind not in _KINDS:
        raise _unusable(file, f"type {kind!r} is unknown")
    return _KINDS[kind]


def _unusable(file: Path, why: str) -> SourceUnreachableError:
    return SourceUnreachableError(
        f"{file} holds no credentials that can be used ({why}): write a workload identity federation file "
        "with 'gcloud iam workload-identity-pools create-cred-config'",
        disclosed="the site has no identity to read its warehouse with",
    )


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).split("\n", maxsplit=1)[0][:200]
