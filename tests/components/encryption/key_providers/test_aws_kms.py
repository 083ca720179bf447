"""Provider `awskms`: AWS's own client against two KMS on loopback, ours with faults and moto's without."""

from __future__ import annotations

import functools
import logging
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from moto.server import ThreadedMotoServer

from components.encryption.key_providers.aws_kms import AwsKmsKey
from components.errors import UsageError
from tests.components.encryption.key_providers import aws_server
from tests.components.encryption.key_providers.aws_server import AwsServer
from tests.components.encryption.key_providers.traces import found_in, traces
from tests.contracts.key_provider import BOUND, KeyProviderContract, refused

ARN = "arn:aws:kms:eu-central-1:111122223333:key"
MASTER = f"{ARN}/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's: the servers here take any signature."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTONLY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-no-use-anywhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """AWS's descriptions of its services, a third of a second for every client, are read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(scope="module")
def started() -> Iterator[AwsServer]:
    with aws_server.running() as server:
        yield server


@pytest.fixture
def server(started: AwsServer) -> AwsServer:
    started.faults, started.slow_s, started.changes, started.asked, started.signed = [], 0.0, {}, [], []
    started.add(MASTER)
    return started


@pytest.fixture
def key(server: AwsServer) -> AwsKmsKey:
    return AwsKmsKey(key=MASTER, endpoint=server.endpoint, deadline_s=60.0)


class TestAwsKms(KeyProviderContract):
    @pytest.fixture
    def provider(self, key: AwsKmsKey) -> AwsKmsKey:
        return key

    @pytest.fixture
    def other(self, server: AwsServer) -> AwsKmsKey:
        return AwsKmsKey(key=server.add(f"{ARN}/another"), endpoint=server.endpoint, deadline_s=60.0)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class TestMotosKms(KeyProviderContract):
    """An implementation that is not ours."""

    @pytest.fixture
    def provider(self, moto: str) -> AwsKmsKey:
        return self._made(moto)

    @pytest.fixture
    def other(self, moto: str) -> AwsKmsKey:
        return self._made(moto)

    def _made(self, endpoint: str) -> AwsKmsKey:
        session = botocore.session.Session()
        client = session.create_client("kms", region_name="eu-central-1", endpoint_url=endpoint)
        arn = client.create_key()["KeyMetadata"]["Arn"]
        return AwsKmsKey(key=arn, endpoint=endpoint, deadline_s=60.0)


def test_requests_are_signed_name_the_key_and_say_what_they_are_for(
    server: AwsServer, key: AwsKmsKey
) -> None:
    """A key's policy can ask for `kms:EncryptionContext:federation`."""
    key.unwrap(key.wrap(bytes(32), bound=BOUND), bound=BOUND)
    assert [call for call, _ in server.asked] == ["Encrypt", "Decrypt"]
    assert all(body["KeyId"] == MASTER for _, body in server.asked)
    assert all(body["EncryptionContext"] == BOUND for _, body in server.asked)
    assert all("/eu-central-1/kms/aws4_request" in header for header in server.signed)


@pytest.mark.parametrize(
    ("status", "code", "mend"),
    [
        (400, "AccessDeniedException", "answers AccessDeniedException for .*: the key's policy must allow"),
        (403, "AccessDeniedException", "answers AccessDeniedException for .*: the key's policy must allow"),
        (400, "DisabledException", "the key is disabled: enable it again"),
        (400, "KMSInvalidStateException", "the key waits for deletion or for its material"),
        (400, "NotFoundException", "mend 'key' in provider.yaml"),
        (400, "Odd; and <long>", "answers an error for .*: see CloudTrail"),
    ],
)
def test_what_does_not_pass_is_told_at_once_and_without_the_servers_text(
    server: AwsServer, key: AwsKmsKey, status: int, code: str, mend: str
) -> None:
    data_key = secrets.token_bytes(32)
    server.faults = [(status, code)]
    with refused(b"told to fail; the request", match=mend):
        key.wrap(data_key, bound=BOUND)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ThrottlingException"), (429, "TooMany"), (500, "KMSInternalException")]
)
def test_what_passes_is_tried_again_until_the_deadline(
    server: AwsServer, key: AwsKmsKey, status: int, code: str
) -> None:
    data_key = secrets.token_bytes(32)
    server.faults = [(status, code)]
    assert key.unwrap(key.wrap(data_key, bound=BOUND), bound=BOUND) == data_key
    assert len(server.asked) == 3
    server.faults = [(status, code)] * 100
    with refused(data_key, match=f"answers {code} for"):
        replace(key, deadline_s=6.0).wrap(data_key, bound=BOUND)
    # At 0, 0.2, 0.6 and 1.4 seconds, or fewer on a machine under load; not at 3.
    assert 1 <= 100 - len(server.faults) <= 4


def test_a_server_that_is_slow_or_gone_ends_with_the_deadline(server: AwsServer) -> None:
    data_key = secrets.token_bytes(32)
    server.slow_s = 1.5
    start = time.monotonic()
    with refused(data_key, match="answers ReadTimeoutError for .*: run again, or give it more time"):
        AwsKmsKey(key=MASTER, endpoint=server.endpoint, deadline_s=0.5).wrap(data_key, bound=BOUND)
    with refused(data_key, match="answers EndpointConnectionError for .*: run again once KMS can be reached"):
        AwsKmsKey(key=MASTER, endpoint="http://127.0.0.1:9", deadline_s=0.5).wrap(data_key, bound=BOUND)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("changes", [{"KeyId": f"{ARN}/another"}, {"KeyId": None}, {"Plaintext": None}])
def test_an_answer_of_another_key_is_refused(
    server: AwsServer, key: AwsKmsKey, changes: dict[str, Any]
) -> None:
    data_key = secrets.token_bytes(32)
    wrapped = key.wrap(data_key, bound=BOUND)
    server.changes = changes
    with refused(data_key, match="with another key or nothing: mend 'key' or 'endpoint'"):
        key.unwrap(wrapped, bound=BOUND)


def test_the_environment_sends_nothing_elsewhere(
    server: AwsServer, key: AwsKmsKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_ENDPOINT_URL would have a data key sent to whoever could set it; this request reaches nobody."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with refused(match="answers ProxyConnectionError for"):
        AwsKmsKey(key=MASTER, endpoint="", deadline_s=0.5).wrap(bytes(32), bound=BOUND)
    assert server.asked == []


def test_nothing_of_a_request_is_logged(
    server: AwsServer, key: AwsKmsKey, caplog: pytest.LogCaptureFixture
) -> None:
    """Botocore writes whole requests and answers at level DEBUG, and this test would see them."""
    data_key = secrets.token_bytes(32)
    loud = logging.getLogger("botocore.endpoint")
    for name in ("", "botocore", "botocore.endpoint", "botocore.parsers", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    assert key.unwrap(key.wrap(data_key, bound=BOUND), bound=BOUND) == data_key
    assert loud.level == logging.DEBUG
    told = "\n".join(str(vars(record)) + record.getMessage() for record in caplog.records).encode()
    assert not found_in(told, traces(data_key))


def test_a_machine_without_a_role_is_told(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    key = AwsKmsKey(key=MASTER, endpoint=server.endpoint, deadline_s=30.0)
    with refused(match="answers NoCredentialsError for .*: give this machine an AWS role"):
        key.wrap(bytes(32), bound=BOUND)
    assert server.asked == []


def test_without_the_client_it_says_what_to_install(key: AwsKmsKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(UsageError, match=r"pip install 'crosscloud\[awskms\]'"):
        key.wrap(bytes(32), bound=BOUND)
