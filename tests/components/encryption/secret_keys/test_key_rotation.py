"""The key holder rotates by itself: once, in time, and never at the cost of the round at hand."""

from __future__ import annotations

import secrets
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from components.agreement.attempt import Attempt
from components.agreement.key_certificate import CertifiedKey, certified_keys, context_key
from components.agreement.receipt import receipt_key
from components.artifacts.file_store import FileStore
from components.artifacts.stores import open_store
from components.encryption.contexts import public_context, secret_context
from components.encryption.key_providers.settings import FileSettings
from components.encryption.secret_keys.key_moves import move_keys
from components.encryption.secret_keys.key_rotation import rotate_when_due
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from tests.components.aggregation.three_sites import ThreeSites


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return tmp_path


def chain(three: ThreeSites) -> list[CertifiedKey]:
    return certified_keys(three.keys_uri, three.charter, three.charter.protection)


def first_rounds(three: ThreeSites) -> list[int]:
    return [each.certificate.first_round for each in chain(three)]


def after_round(three: ThreeSites, number: int) -> Attempt:
    """The attempt as the key holder has it who has just opened this round."""
    attempt = three.attempt()
    return replace(attempt, ticket=replace(attempt.ticket, round_number=number))


@pytest.mark.parametrize(
    ("rotation_rounds", "expected"),
    [
        # A key that may serve one round is followed after each.
        (1, [1, 2, 3, 4, 5, 6, 7]),
        (2, [1, 2, 3, 4, 5, 6, 7]),
        # With five, two rounds in a row may come to nothing: the key of 1 to 5 is left after 3.
        (5, [1, 4, 7]),
        (100, [1]),
    ],
)
def test_every_key_is_followed_before_its_rounds_are_over(
    home: Path, rotation_rounds: int, expected: list[int]
) -> None:
    three = ThreeSites.start(protection="sealed", rotation_rounds=rotation_rounds)
    for number in range(1, 7):
        made = rotate_when_due(after_round(three, number))
        assert (made.first_round if made else None) in {number + 1, None}
        later = after_round(three, number + 1)
        assert later.certificate() is not None
    assert first_rounds(three) == expected
    assert all(later - earlier <= rotation_rounds for earlier, later in pairwise(expected))


def test_two_void_rounds_in_a_row_leave_a_key_for_the_next(home: Path) -> None:
    """Rounds that never reach the key holder use up numbers: whichever was opened last, two more may."""
    three = ThreeSites.start(protection="sealed", rotation_rounds=5)
    for number in range(1, 12):
        rotate_when_due(after_round(three, number))
        assert after_round(three, number + 3).certificate() is not None


def test_the_step_that_opens_a_round_certifies_the_next_key(home: Path) -> None:
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    three.committed()
    assert first_rounds(three) == [1, 2]
    later = three.next_round()
    later.committed()
    assert first_rounds(later) == [1, 2, 3]
    names = {path.name for path in (three.keys_folder / "key-holder").glob("*.secret")}
    assert names == {SecretName.of(each.certificate).file for each in chain(three)}


def test_repeated_it_certifies_nothing_more(home: Path) -> None:
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    made = rotate_when_due(after_round(three, 1))
    assert made is not None
    assert rotate_when_due(after_round(three, 1)) is None
    assert first_rounds(three) == [1, 2]


def test_a_protection_without_a_key_has_none_to_rotate(home: Path) -> None:
    three = ThreeSites.start(protection="none", rotation_rounds=1)
    assert rotate_when_due(after_round(three, 1)) is None
    assert not (three.keys_folder / "certificates").exists()


def test_of_two_that_race_one_key_is_certified(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rival certifies its key after this one has looked, before and after it keeps its own."""
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    keep = KeyStore.keep

    def after_the_rival(own: KeyStore, name: SecretName, secret: bytes) -> None:
        monkeypatch.setattr(KeyStore, "keep", keep)
        assert rotate_when_due(after_round(three, 1)) is not None
        keep(own, name, secret)

    monkeypatch.setattr(KeyStore, "keep", after_the_rival)
    made = rotate_when_due(after_round(three, 1))
    _, second = chain(three)
    assert made == second.certificate
    assert secret_context(after_round(three, 2))
    assert len(list((three.keys_folder / "key-holder").glob("*.secret"))) == 2
    assert "was not rotated" not in capsys.readouterr().err


def test_cut_off_between_the_secret_and_the_certificate_it_is_gone_on_with(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    create = FileStore.create
    for cut_at in ("contexts/", "certificates/"):

        def cut(store: FileStore, key: str, content: bytes, *, at: str = cut_at) -> None:
            if key.startswith(at):
                raise KeyboardInterrupt
            create(store, key, content)

        with monkeypatch.context() as patched:
            patched.setattr(FileStore, "create", cut)
            with pytest.raises(KeyboardInterrupt):
                rotate_when_due(after_round(three, 1))
        assert first_rounds(three) == [1]
    assert rotate_when_due(after_round(three, 1)) is not None
    assert first_rounds(three) == [1, 2]
    later = after_round(three, 2)
    assert public_context(three.keys_uri, later.certificate())
    assert secret_context(later)


def test_a_round_that_was_handed_out_under_the_present_key_keeps_it(home: Path) -> None:
    """A second start of `open` that comes late: sites may have sealed the next round already."""
    three = ThreeSites.start(protection="sealed", rotation_rounds=3)
    open_store(three.exchange_uri).create("rounds/00002-1/ticket.json", b"{}")
    assert rotate_when_due(after_round(three, 1)) is None
    assert first_rounds(three) == [1]
    open_store(three.exchange_uri).create("rounds/00004-1/ticket.json", b"{}")
    assert rotate_when_due(after_round(three, 3)) is not None, "the key has ended: nobody sealed under it"


def test_where_the_folder_has_no_room_for_keys_they_are_kept_in_a_store_wrapped(home: Path) -> None:
    """As in a cluster, where the folder is mounted from a secret: nobody brings the next key there."""
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    folder = three.keys_folder / "key-holder"
    (folder / "provider.yaml").write_text(
        "provider: file\nwrapping_key: wrapping.key\nwrapped_keys_uri: small/own\n"
    )
    (folder / "provider.yaml").chmod(0o600)
    assert KeyStore.open(three.keys_uri).make_wrapping_key()
    moves, problems = move_keys("small", keys_uri=three.keys_uri, before=FileSettings())
    assert ([move.moved for move in moves], problems) == ([True], [])
    before = sorted(path.name for path in folder.iterdir())
    three.committed()
    three.next_round().committed()
    assert first_rounds(three) == [1, 2, 3]
    assert sorted(path.name for path in folder.iterdir()) == before
    kept = {key.rpartition("/")[2] for key in open_store("small/own").keys("wrapped")}
    assert kept == {SecretName.of(each.certificate).file for each in chain(three)}


def test_what_cannot_be_kept_is_told_and_the_round_is_opened(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A provider whose key is gone once the round has been opened."""
    three = ThreeSites.start(protection="sealed", rotation_rounds=1)
    settings = three.keys_folder / "key-holder/provider.yaml"
    receipt = three.exchange_folder / receipt_key(three.opened.ticket.folder)
    three.committed()
    assert receipt.is_file()
    settings.write_text("provider: file\nwrapping_key: wrapping.key\n")
    settings.chmod(0o600)
    assert rotate_when_due(after_round(three, 2)) is None
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "rotated" in each]
    assert line.startswith(
        "crosscloud-progress: the encryption key is due for rotation and was not rotated: no wrapping key at "
    )
    assert first_rounds(three) == [1, 2]
    (three.keys_folder / "key-holder/wrapping.key").write_bytes(secrets.token_bytes(32))
    (three.keys_folder / "key-holder/wrapping.key").chmod(0o600)
    made = rotate_when_due(after_round(three, 2))
    assert made is not None
    name = SecretName.of(made)
    assert (three.keys_folder / "key-holder" / name.file).read_bytes().startswith(b'{"bound":')
    assert (three.keys_folder / context_key("sealed", made.context)).is_file()
