"""`provider.yaml`: what wraps the key holder's secret keys, in a file that only the key holder can write.

It lies in the key holder's private folder, beside `signing.key`, and names places and keys, never a secret.
It is nobody else's business: neither the federation file nor a compiled spec knows of it.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from components.agreement.owned_file import read_owned
from components.encryption.key_providers.aws_kms import AwsKmsKey
from components.encryption.key_providers.gcp_kms import GcpKmsKey
from components.encryption.key_providers.key_file import KeyFile
from components.encryption.key_providers.pkcs11_token import Pkcs11Key
from components.encryption.key_providers.provider import KeyProvider

PROVIDER = "provider.yaml"


def _endpoint(text: str) -> str:
    """https, or this very machine: a data key in the clear goes that way."""
    parts = urlsplit(text)
    if text and not (parts.hostname and (parts.scheme == "https" or is_this_machine(text))):
        raise ValueError("must be https://…, or http:// at an address of this machine")
    return text


def is_this_machine(endpoint: str) -> bool:
    """Whether an address is plain http to a loopback address."""
    parts = urlsplit(endpoint)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _absolute(text: str) -> str:
    if not Path(text).is_absolute():
        raise ValueError("must be an absolute path: what is loaded must not depend on the working folder")
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Label = Annotated[str, Field(min_length=1, max_length=32)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Seconds = Annotated[float, Field(gt=0, le=600)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    wrapped_keys_uri: str = ""
    """Store that wrapped keys lie in, as where the folder is mounted read-only; empty for the folder."""


class FileSettings(_Settings):
    """For development: keys in the clear, or under a key that lies beside them."""

    provider: Literal["file"] = "file"
    wrapping_key: Name | None = None
    """A file of 32 bytes in the folder; absent, secret keys lie in the clear."""

    @model_validator(mode="after")
    def _clear_keys_stay(self) -> Self:
        if self.wrapped_keys_uri and not self.wrapping_key:
            raise ValueError("wrapped_keys_uri needs wrapping_key: keys in the clear stay in their folder")
        return self


class Pkcs11Settings(_Settings):
    """A key in an HSM, or any other token that speaks PKCS #11."""

    provider: Literal["pkcs11"]
    module: Annotated[str, AfterValidator(_absolute)]
    """The library of the HSM's maker."""
    token: Label
    """Label of the token."""
    key: Annotated[str, Field(min_length=1)]
    """Label of the AES key, the only one of that label."""
    pin_file: Name = "pin"
    """A file in the folder with the user's PIN, which only its owner can read."""
    make_key: bool = False
    """Whether `crosscloud keys init` makes the key where the token has none."""


class GcpKmsSettings(_Settings):
    """A symmetric key in Google Cloud KMS."""

    provider: Literal["gcpkms"]
    key: Annotated[
        str, Field(pattern=r"^projects/[^/]+/locations/[^/]+/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}$")
    ]
    """Its whole name; the version is KMS's choice."""
    endpoint: Endpoint = ""
    """Another address than Google's public one."""
    deadline_s: Seconds = 30.0
    """Seconds that one call may take, with all its tries."""


class AwsKmsSettings(_Settings):
    """A symmetric key in AWS KMS."""

    provider: Literal["awskms"]
    key: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$")]
    """Its ARN; no alias, which could be pointed elsewhere."""
    endpoint: Endpoint = ""
    """Another address than the region's public one."""
    deadline_s: Seconds = 30.0
    """Seconds that one call may take, with all its tries."""


ProviderSettings = FileSettings | Pkcs11Settings | GcpKmsSettings | AwsKmsSettings
_ADAPTER: TypeAdapter[ProviderSettings] = TypeAdapter(
    Annotated[ProviderSettings, Field(discriminator="provider")]
)


def load_settings(path: Path) -> ProviderSettings:
    """The settings in a file; where there is none, keys lie in the clear.

    Raises:
        UsageError: others may write it, or it breaks a rule; all are listed.
    """
    return read_owned(path, _ADAPTER.validate_python) if path.is_file() else FileSettings()


def open_provider(settings: ProviderSettings, folder: Path) -> KeyProvider | None:
    """What wraps keys under these settings; None where nothing does. Nothing is contacted yet.

    Args:
        settings: of the key holder.
        folder: that its files lie in.
    """
    match settings:
        case FileSettings():
            return KeyFile(folder / settings.wrapping_key) if settings.wrapping_key else None
        case Pkcs11Settings():
            return Pkcs11Key(
                module=settings.module,
                token=settings.token,
                label=settings.key,
                pin_file=folder / settings.pin_file,
            )
        case GcpKmsSettings():
            return GcpKmsKey(
                key=settings.key,
                endpoint=settings.endpoint,
                encrypted=not is_this_machine(settings.endpoint),
                deadline_s=settings.deadline_s,
            )
        case AwsKmsSettings():
            return AwsKmsKey(key=settings.key, endpoint=settings.endpoint, deadline_s=settings.deadline_s)


def make_wrapping_key(settings: ProviderSettings, folder: Path) -> bool:
    """Makes the wrapping key where there is none and the settings say that one may be made.

    Returns:
        Whether one was made.

    Raises:
        KeyProviderError: the token cannot be used.
    """
    provider = open_provider(settings, folder)
    if isinstance(provider, KeyFile):
        return provider.make()
    if isinstance(provider, Pkcs11Key) and isinstance(settings, Pkcs11Settings) and settings.make_key:
        return provider.make()
    return False
