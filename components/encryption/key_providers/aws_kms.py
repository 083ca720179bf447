"""`awskms`: a symmetric key in AWS KMS, which wraps data keys and lets nobody copy it.

What a data key is bound to is the request's encryption context, so that the key's own policy can ask for a
federation, and CloudTrail shows what each request was for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from components.encryption.key_providers.request_logs import without_request_logs
from components.errors import KeyProviderError, UsageError

_LOGGERS: Final = ("botocore", "urllib3")
_TRIES: Final = 5
_ALTERED: Final = "what should unwrap was altered, or wrapped under another key"
_LATER: Final = "run again once KMS can be reached"
_MENDS: Final[Mapping[str, str]] = {
    "AccessDeniedException": "the key's policy must allow this role kms:Encrypt and kms:Decrypt",
    "DependencyTimeoutException": _LATER,
    "DisabledException": "the key is disabled: enable it again",
    "IncorrectKeyException": _ALTERED,
    "InvalidCiphertextException": _ALTERED,
    "KMSInternalException": _LATER,
    "KMSInvalidStateException": "the key waits for deletion or for its material: cancel that",
    "KeyUnavailableException": _LATER,
    "NotFoundException": "mend 'key' in provider.yaml",
    "ThrottlingException": "KMS has a quota on requests: run again later, or ask for more",
}


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

    provider: Final = "awskms"

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        answer = self._ask("encrypt", Plaintext=data_key, EncryptionContext=dict(bound))
        return self._part(answer, "CiphertextBlob")

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        answer = self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(bound))
        return self._part(answer, "Plaintext")

    def _ask(self, call: str, **request: Any) -> dict[str, Any]:
        """One call; botocore tries again what fails for a reason that passes."""
        try:
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                ConnectTimeoutError,
                HTTPClientError,
                ReadTimeoutError,
            )
        except ImportError:
            raise UsageError("AWS's KMS needs its client: pip install 'crosscloud[awskms]'") from None
        try:
            with without_request_logs(*_LOGGERS):
                answer: dict[str, Any] = getattr(self._client(), call)(KeyId=self.key, **request)
        except ClientError as error:
            raise self._refused(str(error.response.get("Error", {}).get("Code", "an error"))) from None
        except (ConnectTimeoutError, ReadTimeoutError):
            raise self._refused("nothing in time", "run again, or give it more time ('deadline_s')") from None
        except HTTPClientError as error:
            raise self._refused(type(error).__name__, _LATER) from None
        except BotoCoreError as error:
            raise self._refused(type(error).__name__, "see that this machine has an AWS role") from None
        return answer

    def _part(self, answer: Mapping[str, Any], name: str) -> bytes:
        if answer.get("KeyId") != self.key or not isinstance(answer.get(name), bytes):
            raise KeyProviderError(
                f"AWS KMS answered for {self.key} with another key or nothing: mend 'key' or 'endpoint'"
            )
        return bytes(answer[name])

    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        each = self.deadline_s / _TRIES
        settings = Config(
            connect_timeout=each,
            read_timeout=each,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            # An environment variable or a profile could send data keys elsewhere.
            ignore_configured_endpoint_urls=True,
        )
        return botocore.session.Session().create_client(
            "kms", region_name=self.key.split(":")[3], endpoint_url=self.endpoint or None, config=settings
        )

    def _refused(self, code: str, mend: str = "") -> KeyProviderError:
        """The code is a word of AWS's; a server's text is never shown."""
        word = code if code.replace(" ", "").isalnum() else "an error"
        mend = mend or _MENDS.get(code, "see CloudTrail")
        return KeyProviderError(f"AWS KMS answers {word} for {self.key}: {mend}")
