"""`crosscloud keys` of a key holder whose secret keys an HSM wraps, or that is told loudly that none does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.components.encryption.key_providers.conftest import TOKEN
from tests.components.encryption.key_providers.softhsm import PIN, SoftHsm
from tests.components.encryption.key_providers.traces import files_with, found_in, traces
from tests.pipelines.commands.conftest import in_force

if TYPE_CHECKING:
    from tests.pipelines.command_line import Said, Say
    from tests.pipelines.commands.conftest import FederationFile

WRAPPING_KEY = f"pkcs11 pkcs11:token={TOKEN};object=master"


def provider(file: FederationFile, settings: dict[str, Any], *, name: str = "provider.yaml") -> Path:
    """Settings in the key holder's private folder, as its owner writes them."""
    path = file.keys / "key-holder" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(yaml.safe_dump(settings))
    path.chmod(0o600)
    return path


@pytest.fixture
def pkcs11(file: FederationFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a token of SoftHSM2 that has no key yet; the PIN is in its place."""
    hsm = SoftHsm.start(tmp_path / "hsm", monkeypatch)
    hsm.add_token(TOKEN)
    pin = file.keys / "key-holder/pin"
    pin.parent.mkdir(parents=True, mode=0o700)
    pin.write_text(PIN)
    pin.chmod(0o600)
    return {
        "provider": "pkcs11",
        "module": str(hsm.module),
        "token": TOKEN,
        "key": "master",
        "make_key": True,
    }


@pytest.fixture
def under_hsm(file: FederationFile, say: Say, pkcs11: dict[str, Any]) -> dict[str, Any]:
    """A federation in force whose first encryption key is wrapped by the HSM; the provider's settings."""
    provider(file, pkcs11)
    in_force(say)
    assert say("keys", "rotate", "small.yaml").code == 0
    return pkcs11


def one_line(said: Said) -> str:
    """What a command complains of that ends with 2."""
    assert said.code == 2
    (line,) = said.complaints
    return line


@pytest.mark.parametrize("command", ["init", "check", "rotate"])
def test_that_keys_are_kept_for_development_is_said_loudly(
    file: FederationFile, say: Say, command: str
) -> None:
    in_force(say)
    if command == "check":
        say("keys", "rotate", "small.yaml")
    said = say("keys", command, "small.yaml")
    assert (said.code, said.err, said.for_development) == (0, "", True)


def test_it_is_said_to_the_key_holder_alone_and_where_there_is_a_key(file: FederationFile, say: Say) -> None:
    assert not say("keys", "init", "small.yaml", "--as", "alpha").for_development
    assert not say("keys", "check", "small.yaml", "--as", "alpha").for_development
    assert say("keys", "init", "small.yaml", "--as", "key-holder").for_development
    provider(file, {"provider": "file", "wrapping_key": "wrapping.key"})
    assert say("keys", "init", "small.yaml", "--as", "key-holder").for_development
    file.document["protection"] = "none"
    file.save()
    assert not say("keys", "init", "small.yaml", "--as", "key-holder").for_development


def test_init_makes_the_wrapping_key_where_the_settings_let_it(
    file: FederationFile, say: Say, pkcs11: dict[str, Any]
) -> None:
    provider(file, pkcs11 | {"make_key": False})
    in_force(say)
    assert one_line(say("keys", "rotate", "small.yaml")).startswith(
        f"token '{TOKEN}' has no keys labelled 'master', one is needed: mend 'key', or let 'crosscloud keys"
    )
    assert not (file.keys / "certificates").exists()
    provider(file, pkcs11)
    said = say("keys", "init", "small.yaml", "--as", "key-holder")
    assert not said.for_development
    assert said.lines[2] == f"wrapping key made: {WRAPPING_KEY}"
    assert said.lines[3].startswith("encryption key 1 for protection sealed serves from round 1 on")
    assert len(say("keys", "init", "small.yaml", "--as", "key-holder").lines) == 3
    assert say("keys", "check", "small.yaml").lines


def test_under_an_hsm_all_is_in_order_and_nothing_lies_in_the_clear(
    file: FederationFile, say: Say, under_hsm: dict[str, Any]
) -> None:
    assert say("keys", "check", "small.yaml", "--as", "key-holder").lines == [
        "the keys of key-holder are in order"
    ]
    (secret,) = (file.keys / "key-holder").glob("*.secret")
    assert secret.read_bytes().startswith(b'{"bound":{"context":')


def test_check_tells_what_is_wrong_with_the_provider_in_one_line(
    file: FederationFile, say: Say, under_hsm: dict[str, Any]
) -> None:
    folder = file.keys / "key-holder"
    wrong_pin = "not-the-pin-of-this-token-at-all"

    def check(**changes: Any) -> str:
        provider(file, under_hsm | changes)
        return one_line(say("keys", "check", "small.yaml", "--as", "key-holder"))

    assert check(module="/opt/none.so").startswith(
        "key-holder: no PKCS #11 module at /opt/none.so: install it"
    )
    assert check(token="lost").startswith("key-holder: no token is labelled 'lost' at ")
    assert check(key="lost").startswith(
        f"key-holder: token '{TOKEN}' has no keys labelled 'lost', one is needed"
    )
    assert check(pin_file="none").startswith(f"key-holder: no PIN of token '{TOKEN}' at ")
    (folder / "pin").write_text(wrong_pin)
    line = check()
    assert line.startswith(f"key-holder: the PIN in {folder}/pin is not the user PIN of token '{TOKEN}'")
    assert not found_in(line.encode(), traces(wrong_pin.encode()))
    (folder / "pin").chmod(0o644)
    assert "pin has mode 0644 and may be read by others" in check()
    (folder / "provider.yaml").write_text("provider: pkcs11\npin: 4711\n")
    said = say("keys", "check", "small.yaml", "--as", "key-holder")
    assert said.code == 2
    assert any("pkcs11.pin: Extra inputs are not permitted" in each for each in said.complaints)
    assert "4711" not in said.err


def test_check_tells_a_key_that_another_wrapping_key_wrapped(
    file: FederationFile, say: Say, under_hsm: dict[str, Any]
) -> None:
    provider(file, under_hsm | {"key": "next"})
    assert say("keys", "init", "small.yaml", "--as", "key-holder").code == 0
    line = one_line(say("keys", "check", "small.yaml", "--as", "key-holder"))
    assert f"is wrapped by {WRAPPING_KEY.replace(' ', ' under ', 1)}, and provider.yaml names pkcs11 " in line
    old = provider(file, under_hsm, name="old.yaml")
    rows = say("keys", "wrap", "small.yaml", "--from", str(old)).lines
    assert rows[0].split() == ["secret", "key", "done", "lies", "in"]
    assert rows[1].split()[1] == "moved"
    assert say("keys", "check", "small.yaml", "--as", "key-holder").code == 0


def test_wrap_moves_keys_from_the_clear_and_check_asks_for_it(
    file: FederationFile, say: Say, pkcs11: dict[str, Any]
) -> None:
    in_force(say)
    say("keys", "rotate", "small.yaml")
    (secret,) = (file.keys / "key-holder").glob("*.secret")
    (public,) = (file.keys / "contexts").iterdir()
    needles = traces(secret.read_bytes(), public=public.read_bytes(), stride=8192)
    provider(file, pkcs11)
    assert say("keys", "init", "small.yaml", "--as", "key-holder").code == 0
    line = one_line(say("keys", "check", "small.yaml", "--as", "key-holder"))
    assert line == f"key-holder: {secret.absolute()} lies in the clear: 'crosscloud keys wrap' moves it"
    assert files_with([file.folder], needles) == {secret.name}
    said = say("keys", "wrap", "small.yaml")
    assert said.lines[1].split() == [secret.name, "moved", ".crosscloud/small/keys/key-holder"]
    assert files_with([file.folder], needles) == set()
    assert not found_in((said.out + said.err).encode(), needles)
    assert say("keys", "check", "small.yaml", "--as", "key-holder").code == 0
    assert say("keys", "wrap", "small.yaml").lines[1].split()[1] == "kept"


def test_wrap_without_keys_or_with_settings_that_are_not_there(file: FederationFile, say: Say) -> None:
    assert say("keys", "wrap", "small.yaml").lines == ["there are no secret keys here to move"]
    assert one_line(say("keys", "wrap", "small.yaml", "--from", "old.yaml")) == (
        "there is no old.yaml: name the provider.yaml that was in force until now"
    )


def test_check_tells_an_altered_envelope(file: FederationFile, say: Say, under_hsm: dict[str, Any]) -> None:
    (secret,) = (file.keys / "key-holder").glob("*.secret")
    content = secret.read_bytes()
    secret.write_bytes(content.replace(b'"ciphertext":"', b'"ciphertext":"AAAA', 1))
    line = one_line(say("keys", "check", "small.yaml", "--as", "key-holder"))
    assert line == f"key-holder: {secret.absolute()}: was altered: restore it from a backup"
