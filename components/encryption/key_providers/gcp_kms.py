"""`gcpkms`: a symmetric key in Google Cloud KMS, which wraps data keys and lets nobody copy it.

Every request and answer carries CRC32C checksums, which both sides verify, as Google asks of its clients: a
bit that flips on the way would otherwise wrap something that nobody can unwrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from components.encryption.key_providers.provider import bound_bytes
from components.encryption.key_providers.request_logs import without_request_logs
from components.errors import KeyProviderError, UsageError

if TYPE_CHECKING:
    from google.cloud.kms_v1 import KeyManagementServiceClient

PUBLIC_ENDPOINT: Final = "https://cloudkms.googleapis.com"
_LOGGERS: Final = ("google.cloud.kms_v1", "google.api_core", "google.auth", "urllib3")
_MENDS: Final[Mapping[str, str]] = {
    "PERMISSION_DENIED": "give this identity roles/cloudkms.cryptoKeyEncrypterDecrypter on this key alone",
    "UNAUTHENTICATED": "see that this machine has a Google identity",
    "NOT_FOUND": "mend 'key' in provider.yaml",
    "INVALID_ARGUMENT": "what should unwrap was altered, or wrapped under another key",
    "FAILED_PRECONDITION": "a version of the key is disabled or destroyed: enable it again",
    "RESOURCE_EXHAUSTED": "KMS has a quota on requests: run again later, or ask for more",
    "DEADLINE_EXCEEDED": "run again, or give it more time ('deadline_s')",
    "UNAVAILABLE": "run again once KMS can be reached",
    "INTERNAL": "run again once KMS works",
}


@dataclass(frozen=True, kw_only=True)
class GcpKmsKey:
    """A key by its whole name.

    Attributes:
        key: `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
        endpoint: another address than the public one; empty for that.
        encrypted: whether the connection is TLS; only a server on this machine is spoken to without.
        deadline_s: seconds that a call may take with all its tries.
    """

    key: str
    endpoint: str
    encrypted: bool
    deadline_s: float

    provider: ClassVar[str] = "gcpkms"

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        aad = bound_bytes(bound)
        answer = self._ask(
            "encrypt",
            plaintext=data_key,
            plaintext_crc32c=_crc32c(data_key),
            additional_authenticated_data=aad,
            additional_authenticated_data_crc32c=_crc32c(aad),
        )
        whole = (
            answer.verified_plaintext_crc32c
            and answer.verified_additional_authenticated_data_crc32c
            and answer.name.startswith(f"{self.key}/cryptoKeyVersions/")
        )
        ciphertext = bytes(answer.ciphertext)
        if not whole or answer.ciphertext_crc32c != _crc32c(ciphertext):
            raise self._garbled()
        return ciphertext

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        aad = bound_bytes(bound)
        answer = self._ask(
            "decrypt",
            ciphertext=wrapped,
            ciphertext_crc32c=_crc32c(wrapped),
            additional_authenticated_data=aad,
            additional_authenticated_data_crc32c=_crc32c(aad),
        )
        data_key = bytes(answer.plaintext)
        if answer.plaintext_crc32c != _crc32c(data_key):
            raise self._garbled()
        return data_key

    def _ask(self, call: str, **request: Any) -> Any:
        """One call; what fails for a reason that passes is tried again until the deadline."""
        answer = self._tried(call, request)
        if isinstance(answer, KeyProviderError):
            raise answer
        return answer

    def _tried(self, call: str, request: Mapping[str, Any]) -> Any:
        """An answer, or the error to raise; returned, since an error carries along what it was raised for."""
        try:
            from google.api_core import exceptions
            from google.auth.exceptions import GoogleAuthError
        except ImportError:
            raise _not_installed() from None
        try:
            with without_request_logs(*_LOGGERS), self._client() as client:
                asked: Callable[..., Any] = getattr(client, call)
                named = {**request, "name": self.key}
                return asked(request=named, retry=self._retry(), timeout=self.deadline_s)
        except exceptions.RetryError:
            return self._refused("DEADLINE_EXCEEDED")
        except exceptions.GoogleAPICallError as error:
            code = error.grpc_status_code
            return self._refused(code.name if code is not None else type(error).__name__)
        except GoogleAuthError as error:
            return KeyProviderError(
                f"this machine has no Google identity for {self.key} ({type(error).__name__}): give its "
                "workload one, or run 'gcloud auth application-default login'"
            )

    def _client(self) -> KeyManagementServiceClient:
        try:
            from google.api_core.client_options import ClientOptions
            from google.cloud import kms_v1
        except ImportError:
            raise _not_installed() from None
        if not self.encrypted:
            import grpc  # type: ignore[import-untyped]
            from google.cloud.kms_v1.services.key_management_service import transports

            address = self.endpoint.removeprefix("http://").rstrip("/")
            channel = grpc.insecure_channel(address)
            return kms_v1.KeyManagementServiceClient(
                transport=transports.KeyManagementServiceGrpcTransport(channel=channel)
            )
        options = ClientOptions(
            api_endpoint=(self.endpoint or PUBLIC_ENDPOINT).removeprefix("https://").rstrip("/")
        )
        return kms_v1.KeyManagementServiceClient(client_options=options)

    def _retry(self) -> Any:
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type

        passing = (
            exceptions.ResourceExhausted,
            exceptions.ServiceUnavailable,
            exceptions.InternalServerError,
        )
        first = min(0.2, self.deadline_s / 4)
        return Retry(
            predicate=if_exception_type(*passing), initial=first, maximum=5.0, timeout=self.deadline_s
        )

    def _refused(self, code: str) -> KeyProviderError:
        mend = _MENDS.get(code, "see KMS's own log of requests")
        return KeyProviderError(f"Google KMS answers {code} for {self.key}: {mend}")

    def _garbled(self) -> KeyProviderError:
        return KeyProviderError(
            f"what Google KMS answered for {self.key} was altered on its way, or is another key's: run again"
        )


def _crc32c(content: bytes) -> int:
    try:
        import google_crc32c
    except ImportError:
        raise _not_installed() from None
    return int(google_crc32c.value(content))


def _not_installed() -> UsageError:
    return UsageError("Google's KMS needs its client: pip install 'crosscloud[gcpkms]'")
