"""`awskms`: a symmetric key in AWS KMS, which wraps data keys and lets nobody copy it.

What a data key is bound to is the request's encryption context, so that the key's own policy can ask for a
federation, and CloudTrail shows what each request was for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from components.encryption.key_providers.request_logs import without_request_logs
from components.errors import KeyProviderError, UsageError

_LOGGERS: Final = ("botocore", "urllib3")
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_ALTERED: Final = "what should unwrap was altered, or wrapped under another key"
_LATER: Final = "run again once KMS can be reached"
_MORE_TIME: Final = "run again, or give it more time ('deadline_s')"
_MENDS: Final[Mapping[str, str]] = {
    "AccessDeniedException": "the key's policy must allow this role kms:Encrypt and kms:Decrypt",
    "ConnectTimeoutError": _MORE_TIME,
    "DependencyTimeoutException": _LATER,
    "DisabledException": "the key is disabled: enable it again",
    "EndpointConnectionError": _LATER,
    "IncorrectKeyException": _ALTERED,
    "InvalidCiphertextException": _ALTERED,
    "KMSInternalException": _LATER,
    "KMSInvalidStateException": "the key waits for deletion or for its material: cancel that",
    "KeyUnavailableException": _LATER,
    "NoCredentialsError": "give this machine an AWS role",
    "NotFoundException": "mend 'key' in provider.yaml",
    "ParamValidationError": _ALTERED,
    "ProxyConnectionError": _LATER,
    "ReadTimeoutError": _MORE_TIME,
    "ThrottlingException": "KMS has a quota on requests: run again later, or ask for more",
}
_PASSING: Final = frozenset(
    {"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "ThrottlingException"}
)


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """Why there is no answer: the code, and whether it may pass. Nothing else of what was sent is kept."""

    code: str
    passes: bool


@dataclass(frozen=True, kw_only=True)
class AwsKmsKey:
    """A key by its ARN.

    Attributes:
        key: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
        endpoint: another address than the region's public one; empty for that.
        deadline_s: seconds that a call may take with all its tries.
    """

    key: str
    endpoint: str
    deadline_s: float

    provider: ClassVar[str] = "awskms"

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        answer = self._ask("encrypt", Plaintext=data_key, EncryptionContext=dict(bound))
        return self._part(answer, "CiphertextBlob")

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        answer = self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(bound))
        return self._part(answer, "Plaintext")

    def _ask(self, call: str, **request: Any) -> dict[str, Any]:
        """One call; what fails for a reason that passes is tried again until the deadline."""
        end, pause = time.monotonic() + self._third, min(_FIRST_PAUSE_S, self._third)
        while True:
            answer = self._tried(call, request)
            if isinstance(answer, dict):
                return answer
            if not answer.passes or time.monotonic() + pause >= end:
                word = answer.code if answer.code.isalnum() else "an error"
                mend = _MENDS.get(answer.code, "see CloudTrail")
                raise KeyProviderError(f"AWS KMS answers {word} for {self.key}: {mend}")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _tried(self, call: str, request: Mapping[str, Any]) -> dict[str, Any] | _Refusal:
        """An answer, or why there is none; returned, since an error carries along what it was raised for."""
        try:
            from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        except ImportError:
            raise UsageError("AWS's KMS needs its client: pip install 'crosscloud[awskms]'") from None
        try:
            with without_request_logs(*_LOGGERS):
                answer: dict[str, Any] = getattr(self._client, call)(KeyId=self.key, **request)
                return answer
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return _Refusal(code=code, passes=code in _PASSING or status == 429 or status >= 500)
        except BotoCoreError as error:
            return _Refusal(code=type(error).__name__, passes=isinstance(error, HTTPClientError))

    def _part(self, answer: Mapping[str, Any], name: str) -> bytes:
        if answer.get("KeyId") != self.key or not isinstance(answer.get(name), bytes):
            raise KeyProviderError(
                f"AWS KMS answered for {self.key} with another key or nothing: mend 'key' or 'endpoint'"
            )
        return bytes(answer[name])

    @property
    def _third(self) -> float:
        """Seconds in which tries begin, that the last one may connect in, and then may wait in."""
        return self.deadline_s / 3

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        settings = Config(
            connect_timeout=self._third,
            read_timeout=self._third,
            retries={"mode": "standard", "total_max_attempts": 1},
            # An environment variable or a profile could send data keys elsewhere.
            ignore_configured_endpoint_urls=True,
        )
        region = self.key.split(":")[3]
        return botocore.session.Session().create_client(
            "kms", region_name=region, endpoint_url=self.endpoint or None, config=settings
        )
