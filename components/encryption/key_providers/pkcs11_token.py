"""`pkcs11`: an AES-256 key in an HSM, which encrypts data keys by AES-GCM and is never outside it.

The token is opened for one operation and closed again, with the library itself: no session stays logged in,
and none is carried into a child process. A PIN is tried once, since tokens lock after a few wrong ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from components.agreement.private_keys import MOUNTED_KEYS
from components.encryption.key_providers.provider import bound_bytes
from components.errors import KeyProviderError, UsageError

if TYPE_CHECKING:
    from pkcs11 import Session, Token
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  (a class of that name)

_NONCE_BYTES: Final = 12
_TAG_BITS: Final = 128
_KEY_BITS: Final = 256
_ID_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class Pkcs11Key:
    """A key of one token.

    Attributes:
        module: path of the library of the HSM's maker.
        token: label of the token.
        label: of the key.
        pin_file: with the user's PIN.
    """

    module: str
    token: str
    label: str
    pin_file: Path

    provider: ClassVar[str] = "pkcs11"

    @property
    def key(self) -> str:
        """Token and label as a PKCS #11 URI (RFC 7512)."""
        return f"pkcs11:token={quote(self.token)};object={quote(self.label)}"

    def make(self) -> bool:
        """Makes the key on the token, unless one of this label is there: it cannot be read out by anybody.

        Raises:
            KeyProviderError: the token cannot be used.
        """
        with self._session(writing=True) as session:
            from pkcs11 import Attribute, KeyType

            if self._keys(session):
                return False
            allowed = {Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SENSITIVE, Attribute.PRIVATE}
            denied = {Attribute.EXTRACTABLE, Attribute.WRAP, Attribute.UNWRAP, Attribute.DERIVE}
            session.generate_key(
                KeyType.AES,
                _KEY_BITS,
                id=secrets.token_bytes(_ID_BYTES),
                label=self.label,
                store=True,
                template={**dict.fromkeys(allowed, True), **dict.fromkeys(denied, False)},
            )
            return True

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """The key's identifier with its length, a nonce and the ciphertext; see `KeyProvider`."""
        with self._session() as session:
            key = self._usable(session)
            nonce = secrets.token_bytes(_NONCE_BYTES)
            ciphertext: bytes = key.encrypt(data_key, **_gcm(nonce, bound))
            identifier: bytes = key.id
            return bytes([len(identifier)]) + identifier + nonce + ciphertext

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        length = wrapped[0] if wrapped else 0
        made_by, rest = wrapped[1 : 1 + length], wrapped[1 + length :]
        with self._session() as session:
            from pkcs11 import PKCS11Error

            key = self._usable(session)
            if key.id != made_by:
                raise KeyProviderError(
                    f"was wrapped under the key with id {made_by.hex() or '(none)'}, {self._named} has id "
                    f"{key.id.hex() or '(none)'}: bring that key back, or restore the file of this one"
                )
            try:
                nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
                data_key: bytes = key.decrypt(ciphertext, **_gcm(nonce, bound))
            except PKCS11Error as error:
                # Makers answer a wrong tag with one of many codes.
                raise KeyProviderError(
                    f"does not unwrap under {self._named} ({type(error).__name__}): it was altered, or "
                    "wrapped under another key"
                ) from None
            return data_key

    @property
    def _named(self) -> str:
        return f"the key {self.label!r} of token {self.token!r}"

    @contextlib.contextmanager
    def _session(self, *, writing: bool = False) -> Iterator[Session]:
        """The token, with the user logged in; what goes wrong in it is told without its details."""
        with self._alone():
            from_maker = self._library()
            from pkcs11 import PKCS11Error

            try:
                with self._login(self._found(from_maker), writing=writing) as session:
                    yield session
            except PKCS11Error as error:
                raise KeyProviderError(
                    f"token {self.token!r} refuses what is asked of {self.label!r} with "
                    f"{type(error).__name__}: see what its maker says of that, and of AES-GCM"
                ) from None
            finally:
                with contextlib.suppress(PKCS11Error):
                    from_maker.finalize()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of this machine at a time: SoftHSM2 loses its tokens while another process logs in."""
        self._require_private_pin()
        with self.pin_file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _library(self) -> Library:
        try:
            import pkcs11
        except ImportError:
            raise UsageError("an HSM needs its client: pip install 'crosscloud[pkcs11]'") from None
        if not Path(self.module).is_file():
            raise KeyProviderError(f"no PKCS #11 module at {self.module}: install it, or mend 'module'")
        try:
            return pkcs11.lib(self.module)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise KeyProviderError(
                f"{self.module} does not start as a PKCS #11 module ({type(error).__name__}): install the "
                "HSM maker's, and see that its own settings are there"
            ) from None

    def _found(self, library: Library) -> Token:
        tokens = list(library.get_tokens())
        found = [token for token in tokens if token.label == self.token]
        if len(found) != 1:
            there = ", ".join(sorted(repr(token.label) for token in tokens if token.label)) or "none"
            number = "no token is" if not found else f"{len(found)} tokens are"
            raise KeyProviderError(
                f"{number} labelled {self.token!r} at {self.module} (there: {there}): connect it, or mend "
                "'token'"
            )
        return found[0]

    @contextlib.contextmanager
    def _login(self, token: Token, *, writing: bool) -> Iterator[Session]:
        import pkcs11

        pin = self._pin()
        try:
            session = token.open(rw=writing, user_pin=pin)
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
            raise KeyProviderError(
                f"the PIN in {self.pin_file} is not the user PIN of token {self.token!r}: it was tried once; "
                "mend the file before the token locks"
            ) from None
        except pkcs11.PinLocked:
            raise KeyProviderError(
                f"the user PIN of token {self.token!r} is locked: its security officer unlocks it"
            ) from None
        with session:
            yield session

    def _require_private_pin(self) -> None:
        """The PIN's file is as private as a key."""
        path = self.pin_file
        if not path.is_file():
            raise KeyProviderError(f"no PIN of token {self.token!r} at {path}: write it there, alone")
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 and not path.is_relative_to(MOUNTED_KEYS):
            raise KeyProviderError(f"{path} has mode {mode:04o} and may be read by others: 'chmod 600' it")

    def _pin(self) -> str:
        try:
            return self.pin_file.read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise KeyProviderError(
                f"{self.pin_file} must hold the PIN of token {self.token!r} as text"
            ) from None

    def _keys(self, session: Session) -> list[Any]:
        from pkcs11 import Attribute, ObjectClass

        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: self.label}
        return list(session.get_objects(wanted))

    def _usable(self, session: Session) -> Any:
        """The key, if it is the only one of its label and can neither be read out nor be too short."""
        from pkcs11 import Attribute, KeyType

        keys = self._keys(session)
        if len(keys) != 1:
            raise KeyProviderError(
                f"token {self.token!r} has {len(keys) or 'no'} keys labelled {self.label!r}, one is needed: "
                "mend 'key', or let 'crosscloud keys init' make it ('make_key: true')"
            )
        (key,) = keys
        sealed_in = key[Attribute.SENSITIVE] and not key[Attribute.EXTRACTABLE]
        serves = key[Attribute.ENCRYPT] and key[Attribute.DECRYPT]
        if not (key.key_type == KeyType.AES and key.key_length == _KEY_BITS and sealed_in and serves):
            raise KeyProviderError(
                f"{self._named} must be AES-{_KEY_BITS}, sensitive, not extractable, for encryption and "
                "decryption: make another one"
            )
        return key


def _gcm(nonce: bytes, bound: Mapping[str, str]) -> dict[str, Any]:
    from pkcs11 import GCMParams, Mechanism

    parameters = GCMParams(nonce, bound_bytes(bound), _TAG_BITS)
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": parameters}
