"""The key holder's secret keys as they lie: wrapped by its provider, or in the clear where it has none.

One lies as `sealed-….secret` in the key holder's private folder. Where `provider.yaml` names a store for
wrapped keys, they lie there instead, under a name that tells which key wrapped them: a folder that is mounted
from a secret cannot be written, and a wrapped key opens nothing without its provider. In the clear a secret
key is only ever in memory or, for development, in the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from components.agreement.charter import KEY_HOLDER
from components.agreement.key_certificate import KeyCertificate, secret_name
from components.agreement.private_keys import check_private, private_folder, write_private
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.encryption.key_providers.envelope import (
    MAX_ENVELOPE_BYTES,
    enclosed,
    is_envelope,
    read_envelope,
)
from components.encryption.key_providers.provider import KeyProvider
from components.encryption.key_providers.settings import (
    PROVIDER,
    FileSettings,
    ProviderSettings,
    load_settings,
    make_wrapping_key,
    open_provider,
)
from components.errors import KeyProviderError, ObjectMissingError, UsageError

WRAPPED = "wrapped"
DEVELOPMENT = (
    "secret keys are kept by provider 'file', which is for development: who can read its folder has them. "
    "provider.yaml names an HSM or a KMS (components/encryption/key_providers/README.md)"
)


@dataclass(frozen=True, kw_only=True)
class SecretName:
    """Which secret key is meant, as its certificate says.

    Attributes:
        federation: its id.
        protection: that the key serves.
        context: SHA-256 of the public half.
    """

    federation: str
    protection: str
    context: str

    @classmethod
    def of(cls, certificate: KeyCertificate) -> SecretName:
        """The secret half of a certified key."""
        return cls(
            federation=certificate.federation,
            protection=certificate.protection,
            context=certificate.context,
        )

    @property
    def bound(self) -> dict[str, str]:
        """What a wrapped key is bound to."""
        return dict(vars(self))

    @property
    def file(self) -> str:
        """Its name in the private folder."""
        return secret_name(self.protection, self.context)


@dataclass(frozen=True, kw_only=True)
class KeyStore:
    """Secret keys under one provider.

    Attributes:
        folder: the key holder's private one.
        settings: of its provider.
    """

    folder: Path
    settings: ProviderSettings

    @classmethod
    def open(cls, keys_uri: str) -> KeyStore:
        """The key holder's on this machine; nothing is contacted yet.

        Raises:
            UsageError: its settings break a rule.
        """
        folder = private_folder(keys_uri, KEY_HOLDER)
        return cls(folder=folder, settings=load_settings(folder / PROVIDER))

    @cached_property
    def provider(self) -> KeyProvider | None:
        """What wraps; None where keys lie in the clear."""
        return open_provider(self.settings, self.folder)

    @property
    def for_development(self) -> bool:
        """Whether whoever reads the folder has the keys."""
        return isinstance(self.settings, FileSettings)

    def make_wrapping_key(self) -> bool:
        """Makes the provider's key where there is none and the settings let `keys init` make it.

        Returns:
            Whether one was made.

        Raises:
            UsageError: the provider cannot be used.
        """
        return make_wrapping_key(self.settings, self.folder)

    def keep(self, name: SecretName, secret: bytes) -> None:
        """Stores a new secret key.

        Raises:
            FileExistsError, ObjectExistsError: it is there already.
            UsageError: the provider cannot be used, or the folder cannot be written.
        """
        content = self.enclosed(name, secret)
        if place := self.in_store(name):
            store, key = place
            store.create(key, content)
            return
        try:
            write_private(self.folder / name.file, content)
        except FileExistsError:
            raise
        except OSError as error:
            raise UsageError(
                f"{self.folder} cannot be written ({error.strerror}): run 'crosscloud keys rotate' where it "
                "can be, or let wrapped keys lie elsewhere ('wrapped_keys_uri' in provider.yaml)"
            ) from None

    def read(self, name: SecretName) -> bytes:
        """A secret key, in the clear.

        Raises:
            UsageError: it is missing, readable by others, in the clear where it should be wrapped, or does
                not unwrap; one line that begins with where it lies.
        """
        where, content = self._stored(name)
        try:
            return self.opened(name, content)
        except KeyProviderError as error:
            raise KeyProviderError(f"{where}: {error}") from None

    def forget(self, name: SecretName) -> None:
        """Erases a secret key that was never certified."""
        if place := self.in_store(name):
            store, key = place
            store.remove(key)
        else:
            (self.folder / name.file).unlink(missing_ok=True)

    def enclosed(self, name: SecretName, secret: bytes) -> bytes:
        """What is stored of a secret key; it has been seen to come back.

        Raises:
            KeyProviderError: the provider cannot be used.
        """
        if self.provider is None:
            return secret
        content = enclosed(secret, self.provider, bound=name.bound).to_json()
        if self.opened(name, content) != secret:
            raise KeyProviderError(
                f"{self.provider.provider} {self.provider.key} does not give back what it wraps"
            )
        return content

    def opened(self, name: SecretName, content: bytes) -> bytes:
        """Inverse of `enclosed`.

        Raises:
            KeyProviderError: it is in another form than the settings say, or does not unwrap.
        """
        if self.provider is None:
            if is_envelope(content):
                found = read_envelope(content)
                raise KeyProviderError(
                    f"is wrapped by {found.provider} under {found.key}, and no provider.yaml names that: "
                    "restore that file"
                )
            return content
        if not is_envelope(content):
            raise KeyProviderError(
                f"lies in the clear, provider.yaml names {self.provider.provider}: 'crosscloud keys wrap' "
                "moves it"
            )
        return read_envelope(content).opened(self.provider, bound=name.bound)

    def in_store(self, name: SecretName) -> tuple[Store, str] | None:
        """Where a wrapped key lies in a store: another wrapping key, another place. None: in the folder."""
        if self.wrapped_below is None:
            return None
        return open_store(self.settings.wrapped_keys_uri), f"{self.wrapped_below}/{name.file}"

    @property
    def wrapped_below(self) -> str | None:
        """Prefix of the keys that this provider's key wraps in the store; None where the folder has them."""
        if self.provider is None or not self.settings.wrapped_keys_uri:
            return None
        wrapping = digest(f"{self.provider.provider} {self.provider.key}".encode())
        return f"{WRAPPED}/{wrapping[:16]}"

    def _stored(self, name: SecretName) -> tuple[str, bytes]:
        """Where a secret key lies, and what lies there."""
        place = self.in_store(name)
        if place is None:
            path = self.folder / name.file
            check_private(path)
            return str(path), path.read_bytes()
        store, key = place
        try:
            return f"{store.uri}/{key}", store.read(key, limit=MAX_ENVELOPE_BYTES)
        except ObjectMissingError:
            raise KeyProviderError(
                f"{store.uri}/{key} is not there: 'crosscloud keys wrap' moves keys there that lie elsewhere"
            ) from None
