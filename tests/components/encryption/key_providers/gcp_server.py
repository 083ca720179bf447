"""A small Cloud KMS on loopback: Encrypt and Decrypt over gRPC, AES-GCM for real, and faults on request."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import grpc  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud import kms_v1

SERVICE = "google.cloud.kms.v1.KeyManagementService"


@dataclass(kw_only=True)
class GcpServer:
    """Keys by name, and what goes wrong.

    Attributes:
        keys: 32 bytes by a key's name.
        faults: codes that the next calls are answered with, first things first.
        slow_s: seconds that every answer takes.
        garble: changes an answer before it is sent.
        asked: every request, in order.
    """

    keys: dict[str, bytes] = field(default_factory=dict)
    faults: list[Any] = field(default_factory=list)
    slow_s: float = 0.0
    garble: Callable[[Any], None] = lambda answer: None
    asked: list[Any] = field(default_factory=list)
    endpoint: str = ""

    def add(self, name: str) -> str:
        self.keys[name] = secrets.token_bytes(32)
        return name

    def encrypt(self, request: Any, context: Any) -> Any:
        cipher = self._begin(request, context)
        aad = bytes(request.additional_authenticated_data)
        _require_sums(context, (request.plaintext, request.plaintext_crc32c))
        _require_sums(context, (aad, request.additional_authenticated_data_crc32c))
        nonce = secrets.token_bytes(12)
        ciphertext = b"\x0a" + nonce + cipher.encrypt(nonce, bytes(request.plaintext), aad)
        answer = kms_v1.EncryptResponse(
            name=f"{request.name}/cryptoKeyVersions/1",
            ciphertext=ciphertext,
            ciphertext_crc32c=google_crc32c.value(ciphertext),
            verified_plaintext_crc32c=True,
            verified_additional_authenticated_data_crc32c=True,
        )
        self.garble(answer)
        return answer

    def decrypt(self, request: Any, context: Any) -> Any:
        cipher = self._begin(request, context)
        aad, ciphertext = bytes(request.additional_authenticated_data), bytes(request.ciphertext)
        _require_sums(context, (ciphertext, request.ciphertext_crc32c))
        _require_sums(context, (aad, request.additional_authenticated_data_crc32c))
        try:
            # The byte before the nonce is authenticated too.
            aad += b"" if ciphertext[:1] == b"\x0a" else b"altered"
            plaintext = cipher.decrypt(ciphertext[1:13], ciphertext[13:], aad)
        except (InvalidTag, ValueError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed: the ciphertext is invalid.")
        answer = kms_v1.DecryptResponse(
            plaintext=plaintext, plaintext_crc32c=google_crc32c.value(plaintext), used_primary=True
        )
        self.garble(answer)
        return answer

    def _begin(self, request: Any, context: Any) -> AESGCM:
        self.asked.append(request)
        time.sleep(self.slow_s)
        if self.faults:
            secret = bytes(getattr(request, "plaintext", b"")) or b"nothing"
            context.abort(self.faults.pop(0), f"told to fail; the request was {secret.hex()}")
        if request.name not in self.keys:
            context.abort(grpc.StatusCode.NOT_FOUND, f"CryptoKey {request.name} not found.")
        return AESGCM(self.keys[request.name])


def _require_sums(context: Any, *pairs: tuple[Any, int]) -> None:
    for content, told in pairs:
        if told != google_crc32c.value(bytes(content)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The checksum does not match.")


@contextmanager
def running() -> Iterator[GcpServer]:
    """Serves on a free port of this machine."""
    made = GcpServer()
    handlers = {
        "Encrypt": grpc.unary_unary_rpc_method_handler(
            made.encrypt,
            request_deserializer=kms_v1.EncryptRequest.deserialize,
            response_serializer=kms_v1.EncryptResponse.serialize,
        ),
        "Decrypt": grpc.unary_unary_rpc_method_handler(
            made.decrypt,
            request_deserializer=kms_v1.DecryptRequest.deserialize,
            response_serializer=kms_v1.DecryptResponse.serialize,
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield made
    finally:
        server.stop(grace=None)
