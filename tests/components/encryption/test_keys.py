"""The keys of a local federation: each owner's alone, made once, and all of them or none."""

from __future__ import annotations

import base64
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tenseal
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from components.agreement.parties import load_parties, load_signing_key
from components.encryption.keys import initialise_keys
from components.encryption.protection import context_fingerprint
from components.errors import UsageError

SITES = ("alpha", "beta")
OWNERS = (*SITES, "coordinator", "key-holder")
KEYS = "small/keys"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home, and a umask that takes nothing away from what the product asks for."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def initialise(protections: Sequence[str] = ("he", "none"), keys_uri: str = KEYS) -> None:
    initialise_keys("small", SITES, keys_uri=keys_uri, protections=protections)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_owner_has_a_key_of_his_own_that_only_he_can_read(home: Path) -> None:
    initialise()
    found = {path.relative_to(home / KEYS).as_posix() for path in files(home / KEYS)}
    private = {f"{owner}/signing.key" for owner in OWNERS} | {"key-holder/he.secret"}
    assert found == private | {"public.yaml", "contexts/he.public"}
    for owner in OWNERS:
        assert mode(home / KEYS / owner) == 0o700
    for path in private:
        assert mode(home / KEYS / path) == 0o600


def test_no_private_key_lies_outside_its_owners_folder(home: Path) -> None:
    """In no encoding: PEM, raw, base64, hexadecimal; and no piece of the secret encryption key."""
    initialise()
    for owner in OWNERS:
        pem = (home / KEYS / owner / "signing.key").read_bytes()
        raw = load_pem_private_key(pem, password=None).private_bytes_raw()  # type: ignore[union-attr]
        encodings = [raw, base64.b64encode(raw)[:40], raw.hex().encode(), *pem.splitlines()[1:-1]]
        elsewhere = [path for path in files(home) if path.parent != home / KEYS / owner]
        assert len(elsewhere) >= 5
        for path in elsewhere:
            assert not any(encoding in path.read_bytes() for encoding in encodings), path
    secret = (home / KEYS / "key-holder/he.secret").read_bytes()
    public = (home / KEYS / "contexts/he.public").read_bytes()
    assert secret.startswith(public[:64])  # parameters and public key stand in both, the secret key last
    for path in files(home):
        if path.name != "he.secret":
            content = path.read_bytes()
            assert not any(secret[-k : -k + 64 or None] in content for k in range(64, 4096, 64))


def test_the_public_context_is_the_one_the_public_keys_name_and_cannot_decrypt(home: Path) -> None:
    initialise()
    public = (home / KEYS / "contexts/he.public").read_bytes()
    document = yaml.safe_load((home / KEYS / "public.yaml").read_bytes())
    assert document["contexts"] == {"he": context_fingerprint(public)}
    assert not tenseal.context_from(public, n_threads=1).is_private()
    assert tenseal.context_from((home / KEYS / "key-holder/he.secret").read_bytes(), n_threads=1).is_private()


def test_public_and_private_keys_belong_together(home: Path) -> None:
    initialise(["none"])
    parties = load_parties(KEYS)
    assert parties.federation == "small"
    assert set(parties.keys) == set(OWNERS)
    for owner in OWNERS:
        parties.key(owner).verify(load_signing_key(KEYS, owner).sign(b"a message"), b"a message")
    assert len({key.public_bytes_raw() for key in parties.keys.values()}) == len(OWNERS)


def test_keys_are_made_once(home: Path) -> None:
    initialise(["none"])
    before = {path: path.read_bytes() for path in files(home)}
    with pytest.raises(UsageError, match="holds keys already"):
        initialise(["none"])
    assert {path: path.read_bytes() for path in files(home)} == before


class Meanwhile(tuple[str, ...]):
    """Protections whose reading, in the midst of making keys, lets a rival make his first."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        subprocess.run([sys.executable, "-c", MAKE.format(protections="['none']")], check=True)
        return iter(["none"])


class Failing(tuple[str, ...]):
    """Protections that cannot be read to the end."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        yield "none"
        raise OSError("no more")


MAKE = (
    "from components.encryption.keys import initialise_keys\n"
    "initialise_keys('small', ('alpha', 'beta'), keys_uri='small/keys', protections={protections})\n"
)


def test_of_two_at_the_same_time_one_makes_the_keys_and_the_other_refuses(home: Path) -> None:
    """The rival begins and ends while this one is between its check and its rename."""
    with pytest.raises(UsageError, match="made by another process"):
        initialise(Meanwhile())
    parties = load_parties(KEYS)
    for owner in OWNERS:  # the rival's, whole, and none of the loser's
        parties.key(owner).verify(load_signing_key(KEYS, owner).sign(b"x"), b"x")
    assert [path.name for path in (home / "small").iterdir()] == ["keys"]


def test_two_processes_that_race_leave_one_whole_set(home: Path) -> None:
    code = "import sys\nfrom components.encryption import keys, ckks\nprint(flush=True)\nsys.stdin.read()\n"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code + MAKE.format(protections="['he']")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    errors = [racer.stderr.read() for racer in racers if racer.stderr]
    codes = [racer.wait() for racer in racers]
    assert sorted(codes) == [0, 1]
    assert "UsageError" in errors[codes.index(1)]
    parties = load_parties(KEYS)
    for owner in OWNERS:
        parties.key(owner).verify(load_signing_key(KEYS, owner).sign(b"x"), b"x")
    assert parties.contexts["he"] == context_fingerprint((home / KEYS / "contexts/he.public").read_bytes())
    assert [path.name for path in (home / "small").iterdir()] == ["keys"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_that_is_stopped_leaves_no_keys_and_the_next_one_makes_them(home: Path, number: int) -> None:
    stopped = (
        "import os\n"
        "class Stop(list):\n"
        "    def __iter__(self):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        return iter(['none'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", stopped + MAKE.format(protections="Stop()")], capture_output=True, check=False
    )
    assert done.returncode != 0
    assert not (home / KEYS).exists()
    left = files(home)
    if number == signal.SIGINT:
        assert list((home / "small").iterdir()) == []
    # Nobody can clean up after SIGKILL: what is left is nobody's key, and only the owner can read it.
    assert all(mode(path) == 0o600 and mode(path.parent) == 0o700 for path in left)
    initialise(["none"])
    kept = {path.read_bytes() for path in files(home / KEYS)}
    assert not any(path.read_bytes() in kept for path in left)


def test_a_failure_leaves_nothing(home: Path) -> None:
    with pytest.raises(OSError, match="no more"):
        initialise(Failing())
    assert files(home) == []


def test_an_unknown_protection_leaves_nothing(home: Path) -> None:
    with pytest.raises(UsageError, match="unknown protection"):
        initialise(["none", "rot13"])
    assert files(home) == []


def test_private_keys_may_lie_in_a_folder_of_their_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_KEYS", str(tmp_path / "private"))
    initialise()
    parties = load_parties(KEYS)
    for owner in OWNERS:
        parties.key(owner).verify(load_signing_key(KEYS, owner).sign(b"x"), b"x")
        assert (tmp_path / "private" / owner / "signing.key").is_file()
    found = {path.relative_to(home / KEYS).as_posix() for path in files(home / KEYS)}
    assert found == {"public.yaml", "contexts/he.public"}


def test_a_file_uri_is_a_folder_like_any_other(home: Path) -> None:
    uri = f"file://{home}/by-uri/keys"
    initialise(keys_uri=uri)
    parties = load_parties(uri)
    parties.key("alpha").verify(load_signing_key(uri, "alpha").sign(b"x"), b"x")
