"""Provider `pkcs11` against SoftHSM2: what goes wrong with a token is one clear line without a secret."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pkcs11
import pytest

from components.encryption.key_providers.pkcs11_token import Pkcs11Key
from components.errors import KeyProviderError
from tests.components.encryption.key_providers.conftest import TOKEN
from tests.components.encryption.key_providers.softhsm import PIN, SoftHsm
from tests.components.encryption.key_providers.traces import files_with, traces
from tests.contracts.key_provider import BOUND, KeyProviderContract, refused


@pytest.fixture
def key(hsm: SoftHsm, tmp_path: Path) -> Pkcs11Key:
    """A key on the token, made by us."""
    pin_file = tmp_path / "pin"
    pin_file.write_text(f"{PIN}\n")
    pin_file.chmod(0o600)
    made = Pkcs11Key(module=str(hsm.module), token=TOKEN, label="master", pin_file=pin_file)
    assert made.make()
    return made


class TestPkcs11(KeyProviderContract):
    @pytest.fixture
    def provider(self, key: Pkcs11Key) -> Pkcs11Key:
        return key

    @pytest.fixture
    def other(self, key: Pkcs11Key) -> Pkcs11Key:
        other = replace(key, label="another")
        other.make()
        return other


def on_token(hsm: SoftHsm, work: Callable[[pkcs11.Session], object]) -> None:
    """Works on the token by hand, as an HSM's officer does with the maker's tools."""
    library = pkcs11.lib(str(hsm.module))
    try:
        with library.get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
            work(session)
    finally:
        library.finalize()


def test_the_key_is_aes_256_sensitive_and_not_extractable(hsm: SoftHsm, key: Pkcs11Key) -> None:
    found = {}

    def look(session: pkcs11.Session) -> None:
        made: Any
        (made,) = session.get_objects({pkcs11.Attribute.LABEL: "master"})
        names = (
            "SENSITIVE",
            "ALWAYS_SENSITIVE",
            "EXTRACTABLE",
            "NEVER_EXTRACTABLE",
            "WRAP",
            "ENCRYPT",
            "LOCAL",
        )
        found.update({name: made[pkcs11.Attribute[name]] for name in names})
        found["bits"], found["id"] = made.key_length, len(made.id)
        with pytest.raises(pkcs11.AttributeSensitive):
            made[pkcs11.Attribute.VALUE]

    on_token(hsm, look)
    assert found == {
        "SENSITIVE": True,
        "ALWAYS_SENSITIVE": True,
        "EXTRACTABLE": False,
        "NEVER_EXTRACTABLE": True,
        "WRAP": False,
        "ENCRYPT": True,
        "LOCAL": True,
        "bits": 256,
        "id": 16,
    }


def test_it_is_made_once(key: Pkcs11Key) -> None:
    wrapped = key.wrap(bytes(32), bound=BOUND)
    assert not key.make()
    assert key.unwrap(wrapped, bound=BOUND) == bytes(32)


def test_its_name_is_a_pkcs11_uri(key: Pkcs11Key) -> None:
    assert key.key == "pkcs11:token=crosscloud;object=master"
    assert replace(key, token="bank one", label="key;2").key == "pkcs11:token=bank%20one;object=key%3B2"


def test_a_wrong_pin_is_tried_once_and_not_shown(key: Pkcs11Key, monkeypatch: pytest.MonkeyPatch) -> None:
    data_key, wrong = secrets.token_bytes(32), "1234-not-the-pin-of-this-token"
    wrapped = key.wrap(data_key, bound=BOUND)
    key.pin_file.write_text(wrong)
    with refused(
        data_key, wrong.encode(), match="is not the user PIN of token 'crosscloud': it was tried once"
    ):
        key.unwrap(wrapped, bound=BOUND)
    key.pin_file.write_text("")
    with refused(data_key, match="is not the user PIN"):
        key.unwrap(wrapped, bound=BOUND)
    key.pin_file.write_text(PIN)
    assert key.unwrap(wrapped, bound=BOUND) == data_key


def test_a_pin_file_is_private_and_there(key: Pkcs11Key) -> None:
    key.pin_file.chmod(0o644)
    with refused(PIN.encode().ljust(24), match="pin has mode 0644 and may be read by others: 'chmod 600' it"):
        key.wrap(bytes(32), bound=BOUND)
    key.pin_file.unlink()
    with refused(match=r"no PIN of token 'crosscloud' at .*/pin: write it there, alone"):
        key.wrap(bytes(32), bound=BOUND)
    key.pin_file.write_bytes(b"\xff\xfe")
    key.pin_file.chmod(0o600)
    with refused(match="must hold the PIN of token 'crosscloud' as text"):
        key.wrap(bytes(32), bound=BOUND)


def test_a_missing_token_is_told_with_those_that_are_there(hsm: SoftHsm, key: Pkcs11Key) -> None:
    data_key = secrets.token_bytes(32)
    wrapped = key.wrap(data_key, bound=BOUND)
    hsm.add_token("spare")
    hsm.remove_token(TOKEN)
    with refused(data_key, match=r"no token is labelled 'crosscloud' at .* \(there: 'spare'\): connect it"):
        key.unwrap(wrapped, bound=BOUND)


def test_two_tokens_of_one_label_are_not_guessed_between(hsm: SoftHsm, key: Pkcs11Key) -> None:
    hsm.add_token(TOKEN)
    with refused(match="2 tokens are labelled 'crosscloud'"):
        key.wrap(bytes(32), bound=BOUND)


def test_a_missing_or_foreign_module_is_told(key: Pkcs11Key, tmp_path: Path) -> None:
    with refused(match=r"no PKCS #11 module at /nowhere\.so: install it, or mend 'module'"):
        replace(key, module="/nowhere.so").wrap(bytes(32), bound=BOUND)
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"no library")
    with refused(match=r"foreign\.so does not start as a PKCS #11 module"):
        replace(key, module=str(foreign)).wrap(bytes(32), bound=BOUND)


def test_a_missing_key_is_told(key: Pkcs11Key) -> None:
    with refused(match="token 'crosscloud' has no keys labelled 'lost', one is needed"):
        replace(key, label="lost").wrap(bytes(32), bound=BOUND)


def test_two_keys_of_one_label_are_not_guessed_between(hsm: SoftHsm, key: Pkcs11Key) -> None:
    on_token(hsm, lambda session: session.generate_key(pkcs11.KeyType.AES, 256, label="master", store=True))
    with refused(match="has 2 keys labelled 'master'"):
        key.wrap(bytes(32), bound=BOUND)


def test_a_key_made_anew_under_the_old_label_is_told_by_its_id(hsm: SoftHsm, key: Pkcs11Key) -> None:
    data_key = secrets.token_bytes(32)
    wrapped = key.wrap(data_key, bound=BOUND)

    def destroy(session: pkcs11.Session) -> None:
        for each in session.get_objects({pkcs11.Attribute.LABEL: "master"}):
            each.destroy()

    on_token(hsm, destroy)
    assert key.make()
    with refused(
        data_key, match=r"was wrapped under the key with id [0-9a-f]{32}, .* has id [0-9a-f]{32}: bring"
    ):
        key.unwrap(wrapped, bound=BOUND)


@pytest.mark.parametrize(
    ("bits", "attributes"),
    [
        (128, {}),
        (256, {"EXTRACTABLE": True}),
        (256, {"SENSITIVE": False}),
        (256, {"ENCRYPT": False}),
        (256, {"DECRYPT": False}),
    ],
)
def test_a_key_that_could_be_read_out_or_is_not_made_for_this_is_not_used(
    hsm: SoftHsm, key: Pkcs11Key, bits: int, attributes: dict[str, bool]
) -> None:
    template = {pkcs11.Attribute[name]: value for name, value in attributes.items()}
    on_token(
        hsm,
        lambda session: session.generate_key(
            pkcs11.KeyType.AES, bits, label="weak", store=True, template=template
        ),
    )
    with refused(match="key 'weak' of token 'crosscloud' must be AES-256, sensitive, not extractable, for"):
        replace(key, label="weak").wrap(bytes(32), bound=BOUND)


def test_no_data_key_is_left_in_a_file(hsm: SoftHsm, key: Pkcs11Key, tmp_path: Path) -> None:
    data_key = secrets.token_bytes(32)
    (tmp_path / "wrapped").write_bytes(key.wrap(data_key, bound=BOUND))
    assert files_with([tmp_path], traces(data_key)) == set()


def test_processes_that_use_the_token_at_once_wait_for_each_other(key: Pkcs11Key) -> None:
    """Two runs may open at once, and the steps of a local run are forked from one interpreter."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from components.encryption.key_providers.pkcs11_token import Pkcs11Key\n"
        f"key = Pkcs11Key(module={key.module!r}, token={key.token!r}, label={key.label!r}, "
        f"pin_file=Path({str(key.pin_file)!r}))\n"
        "wrapped = key.wrap(bytes(32), bound={})\n"
        "child = os.fork()\n"
        "for _ in range(10):\n"
        "    assert key.unwrap(wrapped, bound={}) == bytes(32)\n"
        "if child == 0:\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_client_it_says_what_to_install(key: Pkcs11Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Exception, match=r"pip install 'crosscloud\[pkcs11\]'") as caught:
        key.wrap(bytes(32), bound=BOUND)
    assert not isinstance(caught.value, KeyProviderError)
