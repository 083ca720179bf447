"""Provider `gcpkms`: Google's own client against a KMS on loopback."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from components.artifacts.documents import canonical_json
from components.encryption.key_providers.gcp_kms import GcpKmsKey
from components.errors import UsageError
from tests.components.encryption.key_providers import gcp_server
from tests.components.encryption.key_providers.gcp_server import GcpServer
from tests.components.encryption.key_providers.traces import found_in, traces
from tests.contracts.key_provider import BOUND, KeyProviderContract, refused

RING = "projects/bank/locations/europe-west3/keyRings/crosscloud/cryptoKeys"
Status = grpc.StatusCode


@pytest.fixture(scope="module")
def started() -> Iterator[GcpServer]:
    with gcp_server.running() as server:
        yield server


@pytest.fixture
def server(started: GcpServer) -> GcpServer:
    started.faults, started.slow_s, started.asked = [], 0.0, []
    started.garble = lambda answer: None
    started.add(f"{RING}/master")
    return started


@pytest.fixture
def key(server: GcpServer) -> GcpKmsKey:
    return named(server, "master")


def named(server: GcpServer, name: str, deadline_s: float = 30.0) -> GcpKmsKey:
    return GcpKmsKey(key=f"{RING}/{name}", endpoint=server.endpoint, encrypted=False, deadline_s=deadline_s)


class TestGcpKms(KeyProviderContract):
    @pytest.fixture
    def provider(self, key: GcpKmsKey) -> GcpKmsKey:
        return key

    @pytest.fixture
    def other(self, server: GcpServer) -> GcpKmsKey:
        server.add(f"{RING}/another")
        return named(server, "another")


def test_what_it_is_bound_to_is_authenticated_and_everything_has_a_checksum(
    server: GcpServer, key: GcpKmsKey
) -> None:
    """The server refuses a request without the right checksums; a request without any would pass as zero."""
    key.unwrap(key.wrap(b"\1" * 32, bound=BOUND), bound=BOUND)
    encrypt, decrypt = server.asked
    assert encrypt.name == decrypt.name == f"{RING}/master"
    assert bytes(encrypt.additional_authenticated_data) == canonical_json(BOUND)
    assert all(
        each
        for each in (
            encrypt.plaintext_crc32c,
            encrypt.additional_authenticated_data_crc32c,
            decrypt.ciphertext_crc32c,
            decrypt.additional_authenticated_data_crc32c,
        )
    )


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (
            Status.PERMISSION_DENIED,
            "answers PERMISSION_DENIED for .*/master: give this identity roles/cloudkms",
        ),
        (Status.UNAUTHENTICATED, "answers UNAUTHENTICATED for .*/master: see that this machine has a Google"),
        (Status.INVALID_ARGUMENT, "answers INVALID_ARGUMENT .*: what should unwrap was altered, or wrapped"),
        (Status.FAILED_PRECONDITION, "answers FAILED_PRECONDITION .*: a version of the key is disabled"),
        (Status.UNIMPLEMENTED, "answers UNIMPLEMENTED .*: see KMS's own log"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_what_does_not_pass_is_told_at_once_and_without_the_servers_text(
    server: GcpServer, key: GcpKmsKey, status: Any, mend: str
) -> None:
    data_key = secrets.token_bytes(32)
    server.faults = [status]
    with refused(data_key, b"told to fail".ljust(24), match=mend):
        key.wrap(data_key, bound=BOUND)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [Status.RESOURCE_EXHAUSTED, Status.UNAVAILABLE, Status.INTERNAL])
def test_what_passes_is_tried_again_until_the_deadline(server: GcpServer, status: Any) -> None:
    key, data_key = named(server, "master"), secrets.token_bytes(32)
    server.faults = [status] * 2
    assert key.unwrap(key.wrap(data_key, bound=BOUND), bound=BOUND) == data_key
    assert len(server.asked) == 4
    server.faults = [status] * 1000
    start = time.monotonic()
    with refused(data_key, match="answers DEADLINE_EXCEEDED for .*: run again, or give it more time"):
        replace(key, deadline_s=1.0).wrap(data_key, bound=BOUND)
    # A machine under load is slower: what matters is that it ends.
    assert time.monotonic() - start < 20


def test_a_server_that_is_slow_or_gone_ends_with_the_deadline(server: GcpServer) -> None:
    data_key = secrets.token_bytes(32)
    server.slow_s = 1.0
    with refused(data_key, match="answers DEADLINE_EXCEEDED"):
        named(server, "master", 0.2).wrap(data_key, bound=BOUND)
    gone = GcpKmsKey(key=f"{RING}/master", endpoint="http://127.0.0.1:9", encrypted=False, deadline_s=0.3)
    with refused(data_key, match="answers (DEADLINE_EXCEEDED|UNAVAILABLE) for"):
        gone.wrap(data_key, bound=BOUND)


def test_an_unknown_key_is_told(server: GcpServer) -> None:
    with refused(match="answers NOT_FOUND for .*/lost: mend 'key' in provider.yaml"):
        named(server, "lost").wrap(bytes(32), bound=BOUND)


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda answer: setattr(answer, name, value)


@pytest.mark.parametrize(
    "garble",
    [
        _set("ciphertext_crc32c", 1),
        _set("ciphertext", b"other bytes"),
        _set("verified_plaintext_crc32c", False),
        _set("verified_additional_authenticated_data_crc32c", False),
        _set("name", f"{RING}/another/cryptoKeyVersions/1"),
    ],
)
def test_an_answer_that_was_altered_on_its_way_wraps_nothing(
    server: GcpServer, key: GcpKmsKey, garble: Callable[[Any], None]
) -> None:
    data_key = secrets.token_bytes(32)
    server.garble = garble
    with refused(
        data_key, match="what Google KMS answered for .* was altered on its way, or is another key's"
    ):
        key.wrap(data_key, bound=BOUND)


@pytest.mark.parametrize("garble", [_set("plaintext_crc32c", 1), _set("plaintext", b"\2" * 32)])
def test_nor_unwraps(server: GcpServer, key: GcpKmsKey, garble: Callable[[Any], None]) -> None:
    data_key = secrets.token_bytes(32)
    wrapped = key.wrap(data_key, bound=BOUND)
    server.garble = garble
    with refused(data_key, match="was altered on its way"):
        key.unwrap(wrapped, bound=BOUND)


def test_nothing_of_a_request_is_logged(
    server: GcpServer, key: GcpKmsKey, caplog: pytest.LogCaptureFixture
) -> None:
    """Google's client writes whole requests at level DEBUG, and this test would see them."""
    data_key = secrets.token_bytes(32)
    loud = logging.getLogger("google.cloud.kms_v1.services.key_management_service.transports.grpc")
    for logger in (logging.getLogger(), logging.getLogger("google"), loud):
        caplog.set_level(logging.DEBUG, logger=logger.name)
    logging.getLogger("google").propagate = True
    assert key.unwrap(key.wrap(data_key, bound=BOUND), bound=BOUND) == data_key
    assert loud.level == logging.DEBUG
    told = "\n".join(str(vars(record)) for record in caplog.records).encode()
    assert not found_in(told, traces(data_key))


def test_a_machine_without_an_identity_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key file, no metadata server: nothing is sent."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    public = GcpKmsKey(key=f"{RING}/master", endpoint="", encrypted=True, deadline_s=1.0)
    with refused(match="this machine has no Google identity for .*/master"):
        public.wrap(bytes(32), bound=BOUND)


def test_without_the_client_it_says_what_to_install(key: GcpKmsKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.kms_v1", None)
    monkeypatch.setattr("google.cloud.kms_v1", None, raising=False)
    monkeypatch.delattr("google.cloud.kms_v1", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'crosscloud\[gcpkms\]'"):
        key.wrap(bytes(32), bound=BOUND)
