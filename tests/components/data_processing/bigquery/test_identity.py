from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.data_processing.bigquery.connection import connect
from components.data_processing.bigquery.identity import application_default
from components.data_processing.bigquery.residency import DataResidency
from components.data_processing.bigquery.terms import BigQueryTerms
from components.errors import RefusedError, SourceUnreachableError

FEDERATED = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/secrets/token"},
}
PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
AWS = DataResidency(warehouse="EU", reader="aws:eu-central-1", may_leave=True)


def key() -> dict[str, Any]:
    """A service account's key as Google writes it, with a private key that nobody else has."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "demo",
        "private_key": private.decode(),
        "client_email": "reader@demo.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def terms(**changes: Any) -> BigQueryTerms:
    plain: dict[str, Any] = {"project": "demo", "location": "EU", "maximum_bytes_billed": 1}
    return BigQueryTerms(**(plain | changes))


@pytest.fixture(params=["named", "well known"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Either file in which credentials are looked for."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # where gcloud is installed, it would be asked for a project
    if request.param == "well known":
        return tmp_path / "application_default_credentials.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "named.json"))
    return tmp_path / "named.json"


def test_a_service_accounts_key_is_refused_with_the_reason(place: Path) -> None:
    place.write_text(json.dumps(key()))
    with pytest.raises(RefusedError, match="anybody who copies it can use anywhere") as caught:
        application_default()
    assert str(place) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(place) not in caught.value.disclosed


def test_a_key_behind_an_impersonation_is_a_key(place: Path) -> None:
    url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken"
    kind = "impersonated_service_account"
    document = {"type": kind, "service_account_impersonation_url": url, "source_credentials": key()}
    place.write_text(json.dumps(document))
    with pytest.raises(RefusedError, match="the key of a service account"):
        application_default()


@pytest.mark.parametrize(
    ("document", "kind"),
    [(FEDERATED, "workload identity federation"), (PERSON, "a person's own credentials")],
)
def test_identities_that_are_used_outside_google_cloud(
    place: Path, document: dict[str, Any], kind: str
) -> None:
    place.write_text(json.dumps(document))
    identity = application_default()
    assert (identity.kind, identity.in_google_cloud) == (kind, False)
    assert connect(terms(data_residency=AWS)).identity.kind == kind
    with pytest.raises(RefusedError, match=f"reading BigQuery with {kind} moves rows out of Google Cloud"):
        connect(terms())


@pytest.mark.parametrize("content", ["", "[]", '{"type": "secret_thing"}', "{}"])
def test_a_file_without_credentials_is_said_to_be_one(place: Path, content: str) -> None:
    place.write_text(content)
    with pytest.raises(SourceUnreachableError, match="no credentials that can be used") as caught:
        application_default()
    assert caught.value.disclosed == "the site has no identity to read its warehouse with"


def test_a_named_file_that_is_missing_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    (tmp_path / "application_default_credentials.json").write_text(json.dumps(PERSON))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    with pytest.raises(SourceUnreachableError, match=r"gone\.json"):
        application_default()


@pytest.fixture
def metadata_server() -> Iterator[str]:
    """What a pod on GKE finds at its metadata address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "application/text")
            self.end_headers()
            self.wfile.write(b"demo")

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


PROGRAM = """
from components.data_processing.bigquery.identity import application_default
from components.errors import SiteError
try:
    identity = application_default()
    print(identity.kind, identity.in_google_cloud)
except SiteError as error:
    print(type(error).__name__, error)
"""


def identity_in_a_fresh_process(folder: Path, **variables: str) -> str:
    """google.auth reads where the metadata server is when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "GCE_"))}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**kept, "CLOUDSDK_CONFIG": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return answer.stdout.strip()


def test_the_metadata_server_gives_an_identity_inside_google_cloud(
    metadata_server: str, tmp_path: Path
) -> None:
    variables = {"GCE_METADATA_HOST": metadata_server, "GCE_METADATA_IP": metadata_server}
    found = identity_in_a_fresh_process(tmp_path, **variables)
    assert found == "the metadata server's workload identity True"


def test_without_any_identity_the_mend_is_named(tmp_path: Path) -> None:
    found = identity_in_a_fresh_process(tmp_path, NO_GCE_CHECK="true")
    assert found.startswith("SourceUnreachableError there is no identity to read BigQuery with")
    assert "gcloud auth application-default login" in found
    assert "\n" not in found


def test_a_service_on_this_machine_is_never_shown_credentials(place: Path) -> None:
    place.write_text(json.dumps(key()))
    identity = connect(terms(endpoint="http://127.0.0.1:1")).identity
    assert type(identity.credentials).__name__ == "AnonymousCredentials"


def test_no_variable_can_send_the_sites_token_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text(json.dumps(FEDERATED))
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://evil.example")
    client = connect(terms(data_residency=AWS)).client
    assert client._connection.API_BASE_URL == "https://bigquery.googleapis.com"
