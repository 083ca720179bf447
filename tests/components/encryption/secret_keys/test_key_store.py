"""How the key holder's secret keys lie: wrapped, in the folder or a store; in the clear in memory alone."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import yaml

from components.artifacts.stores import open_store
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import KeyProviderError, ObjectExistsError, UsageError
from tests.components.encryption.key_providers.traces import files_with, found_in, traces
from tests.contracts.key_provider import refused

NAME = SecretName(federation="small", protection="sealed", context="c1" * 32)
SECRET = b"\n" + secrets.token_bytes(4095)
FILE = "sealed-c1c1c1c1c1c1c1c1.secret"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    made = tmp_path / "small/keys/key-holder"
    made.mkdir(parents=True, mode=0o700)
    return made


def key_store(folder: Path, **settings: object) -> KeyStore:
    """Under these settings, or as it is without any."""
    path = folder / "provider.yaml"
    if settings:
        path.write_text(yaml.safe_dump(settings))
        path.chmod(0o600)
    keys = KeyStore.open("small/keys")
    keys.make_wrapping_key()
    return keys


def test_without_a_provider_a_key_lies_as_it_is_and_private(folder: Path) -> None:
    keys = key_store(folder)
    assert keys.for_development
    keys.keep(NAME, SECRET)
    assert (folder / FILE).read_bytes() == SECRET == keys.read(NAME)
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        keys.keep(NAME, SECRET)
    keys.forget(NAME)
    assert list(folder.iterdir()) == []
    with pytest.raises(UsageError, match=f"no private key at .*{FILE}"):
        keys.read(NAME)


def test_with_one_it_lies_wrapped(folder: Path, tmp_path: Path) -> None:
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key")
    assert keys.for_development
    keys.keep(NAME, SECRET)
    assert keys.read(NAME) == SECRET
    assert KeyStore.open("small/keys").read(NAME) == SECRET
    assert files_with([tmp_path], traces(SECRET)) == set()
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_wrapped_keys_may_lie_in_a_store(folder: Path, tmp_path: Path) -> None:
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key", wrapped_keys_uri="own/store")
    keys.keep(NAME, SECRET)
    (key,) = open_store("own/store").keys()
    assert key.endswith(f"/{FILE}")
    assert keys.read(NAME) == SECRET
    assert not list(folder.glob("*.secret"))
    assert files_with([tmp_path], traces(SECRET)) == set()
    with pytest.raises(ObjectExistsError):
        keys.keep(NAME, SECRET)
    keys.forget(NAME)
    with refused(match=f"own/store/{key} is not there: 'crosscloud keys wrap' moves keys there"):
        keys.read(NAME)


def test_a_key_in_the_clear_is_not_read_where_it_should_be_wrapped(folder: Path) -> None:
    key_store(folder).keep(NAME, SECRET)
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key")
    with refused(
        SECRET, match=f"^{folder}/{FILE}: lies in the clear, provider.yaml names file: 'crosscloud keys"
    ):
        keys.read(NAME)


def test_a_wrapped_key_without_its_settings_says_what_wrapped_it(folder: Path) -> None:
    key_store(folder, provider="file", wrapping_key="wrapping.key").keep(NAME, SECRET)
    (folder / "provider.yaml").unlink()
    with refused(SECRET, match=r"is wrapped by file under wrapping\.key, and no provider\.yaml names that"):
        KeyStore.open("small/keys").read(NAME)


def test_another_federations_or_keys_envelope_in_its_place_is_refused(folder: Path) -> None:
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key")
    for other in (
        SecretName(federation="large", protection="sealed", context="c1" * 32),
        SecretName(federation="small", protection="sealed", context="c1" * 8 + "c2" * 24),
    ):
        keys.keep(other, SECRET)
        with refused(SECRET, match=f"{FILE}: is for .*, not for .*: restore the file of that name"):
            keys.read(NAME)
        keys.forget(other)


def test_one_that_others_may_read_is_told(folder: Path) -> None:
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key")
    keys.keep(NAME, SECRET)
    (folder / FILE).chmod(0o644)
    with pytest.raises(UsageError, match="has mode 0644 and may be read by others"):
        keys.read(NAME)


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    """As where it is mounted from a secret; root writes everywhere, so a file stands in its way here."""
    keys = KeyStore(folder=folder / "file/below", settings=key_store(folder).settings)
    (folder / "file").write_bytes(b"")
    with pytest.raises(
        UsageError, match=r"cannot be written \(.*\): run 'crosscloud keys rotate' where it"
    ) as told:
        keys.keep(NAME, SECRET)
    assert not found_in(str(told.value).encode(), traces(SECRET))


def test_nothing_is_stored_that_does_not_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider whose wrapping key is exchanged between two calls."""
    keys = key_store(folder, provider="file", wrapping_key="wrapping.key")
    assert keys.provider
    wrap = keys.provider.wrap

    def exchanged(data_key: bytes, *, bound: dict[str, str]) -> bytes:
        wrapped = wrap(data_key, bound=bound)
        (folder / "wrapping.key").write_bytes(secrets.token_bytes(32))
        return wrapped

    monkeypatch.setattr(keys.provider, "wrap", exchanged)
    with pytest.raises(KeyProviderError, match="does not unwrap"):
        keys.keep(NAME, SECRET)
    assert not list(folder.glob("*.secret"))
