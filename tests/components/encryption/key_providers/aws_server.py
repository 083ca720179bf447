"""A small AWS KMS on loopback: Encrypt and Decrypt over HTTP, AES-GCM for real, and faults on request."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


@dataclass(kw_only=True)
class AwsServer:
    """Keys by ARN, and what goes wrong.

    Attributes:
        keys: 32 bytes by a key's ARN.
        faults: status and code that the next calls are answered with, first things first.
        slow_s: seconds that every answer takes.
        changes: of the next answers.
        asked: every call's name and body.
        signed: the Authorization header of every call.
    """

    keys: dict[str, bytes] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slow_s: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    endpoint: str = ""

    def add(self, arn: str) -> str:
        self.keys[arn] = secrets.token_bytes(32)
        return arn

    def answer(self, call: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        self.asked.append((call, body))
        time.sleep(self.slow_s)
        if self.faults:
            status, code = self.faults.pop(0)
            return status, {"__type": code, "message": f"told to fail; the request was {body}"}
        arn = body["KeyId"]
        if arn not in self.keys:
            return 400, {"__type": "NotFoundException", "message": f"Key {arn} does not exist"}
        cipher = AESGCM(self.keys[arn])
        aad = json.dumps(body.get("EncryptionContext", {}), sort_keys=True).encode()
        if call == "Encrypt":
            nonce = secrets.token_bytes(12)
            sealed = cipher.encrypt(nonce, base64.b64decode(body["Plaintext"]), aad)
            blob = len(arn).to_bytes(1, "big") + arn.encode() + nonce + sealed
            return 200, {"KeyId": arn, "CiphertextBlob": base64.b64encode(blob).decode()} | self.changes
        blob = base64.b64decode(body["CiphertextBlob"])
        length = blob[0] if blob else 0
        made_by, rest = blob[1 : 1 + length], blob[1 + length :]
        if made_by.decode(errors="replace") in self.keys and made_by.decode() != arn:
            return 400, {"__type": "IncorrectKeyException", "message": "The key ID is not the one"}
        try:
            # The name that is not encrypted is authenticated all the same.
            aad += b"" if made_by.decode(errors="replace") == arn else b"altered"
            plaintext = cipher.decrypt(rest[:12], rest[12:], aad)
        except (InvalidTag, ValueError):
            return 400, {"__type": "InvalidCiphertextException", "message": ""}
        return 200, {"KeyId": arn, "Plaintext": base64.b64encode(plaintext).decode()} | self.changes


@contextmanager
def running() -> Iterator[AwsServer]:
    """Serves on a free port of this machine."""
    made = AwsServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.signed.append(self.headers.get("Authorization", ""))
            status, answer = made.answer(self.headers["X-Amz-Target"].rpartition(".")[2], body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
