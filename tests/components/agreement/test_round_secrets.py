from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.agreement.private_keys import derived_key
from components.agreement.round_secrets import RoundSecrets, draw_once, erase, erase_others, read_secrets
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, ObjectMissingError
from tests.components.agreement.signed_form import KEYS, OTHER_TICKETS, TICKET

KEY, TD = KEYS["alpha"], TICKET.digest
OTHER_TD = OTHER_TICKETS[0].digest


@pytest.fixture
def store(home: Path) -> Store:
    return open_store("store")


def raw(secrets: RoundSecrets) -> tuple[bytes, bytes, bytes, bytes]:
    private = (secrets.ephemeral.private_bytes_raw(), secrets.sharing.private_bytes_raw())
    return secrets.salt, secrets.seed, *private


class TestDrawing:
    def test_is_done_once(self, store: Store) -> None:
        drawn = draw_once(store, KEY, TD)
        assert [len(part) for part in raw(drawn)] == [32, 32, 32, 32]
        assert raw(draw_once(store, KEY, TD)) == raw(drawn) == raw(read_secrets(store, KEY, TD))
        assert store.keys() == [f"secrets/{TD}.bin"]

    def test_every_ticket_has_its_own(self, store: Store) -> None:
        tickets = [TICKET, *OTHER_TICKETS]
        parts = [part for ticket in tickets for part in raw(draw_once(store, KEY, ticket.digest))]
        assert len(set(parts)) == 4 * len(tickets)

    def test_no_two_sites_draw_alike(self, home: Path) -> None:
        """Not from the keys, not from the ticket: from the operating system, every time anew."""
        parts = [part for number in range(5) for part in raw(draw_once(open_store(f"s{number}"), KEY, TD))]
        assert len(set(parts)) == 20

    def test_of_all_who_draw_one_does(self, store: Store) -> None:
        start, drawn = threading.Barrier(8), []

        def draw() -> None:
            start.wait()
            drawn.append(raw(draw_once(store, KEY, TD)))

        threads = [threading.Thread(target=draw) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(drawn) == 8
        assert set(drawn) == {raw(read_secrets(store, KEY, TD))}


def test_what_is_secret_is_not_shown(store: Store) -> None:
    assert repr(draw_once(store, KEY, TD)) == "RoundSecrets()"


class TestWrapping:
    def test_the_disk_holds_none_of_them(self, store: Store, home: Path) -> None:
        drawn = draw_once(store, KEY, TD)
        known = (*raw(drawn), KEY.private_bytes_raw(), derived_key(KEY, "round secrets"))
        files = [path for path in home.rglob("*") if path.is_file()]
        assert [path.name for path in files] == [f"{TD}.bin"]
        content = files[0].read_bytes()
        # A nonce, four parts of 32 bytes, a tag.
        assert len(content) == 12 + 128 + 16
        for part in known:
            for start in range(0, 32, 8):
                assert part[start : start + 8] not in content
        assert files[0].stat().st_mode & 0o077 == 0

    def test_is_aes_256_gcm_under_a_key_of_its_own(self, store: Store) -> None:
        drawn = draw_once(store, KEY, TD)
        wrapped = store.read(f"secrets/{TD}.bin")
        key = derived_key(KEY, "round secrets")
        assert AESGCM(key).decrypt(wrapped[:12], wrapped[12:], TD.encode()) == b"".join(raw(drawn))
        assert derived_key(KEY, "keyed digests") != key

    def test_the_same_secrets_never_have_the_same_bytes(self, home: Path) -> None:
        nonces = set()
        for number in range(20):
            draw_once(open_store(f"s{number}"), KEY, TD)
            nonces.add(open_store(f"s{number}").read(f"secrets/{TD}.bin")[:12])
        assert len(nonces) == 20

    @pytest.mark.parametrize("owner", ["beta", "delta", "coordinator", "key-holder"])
    def test_another_key_does_not_unwrap(self, store: Store, owner: str) -> None:
        draw_once(store, KEY, TD)
        for read in (read_secrets, draw_once):
            with pytest.raises(IntegrityError, match=r"were altered, or are another key's$"):
                read(store, KEYS[owner], TD)

    def test_what_an_earlier_version_drew_is_told(self, store: Store) -> None:
        wrapped = AESGCM(derived_key(KEY, "round secrets")).encrypt(bytes(12), bytes(96), TD.encode())
        store.create(f"secrets/{TD}.bin", bytes(12) + wrapped)
        with pytest.raises(IntegrityError, match="of another version: void the attempt"):
            read_secrets(store, KEY, TD)

    def test_every_flipped_bit_is_told(self, store: Store, home: Path) -> None:
        draw_once(store, KEY, TD)
        path = home / f"store/secrets/{TD}.bin"
        content = path.read_bytes()
        for bit in range(8 * len(content)):
            altered = bytearray(content)
            altered[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bytes(altered))
            with pytest.raises(IntegrityError, match="were altered"):
                read_secrets(store, KEY, TD)

    @pytest.mark.parametrize("length", [0, 5, 12, 27, 123])
    def test_what_was_cut_is_told(self, store: Store, home: Path, length: int) -> None:
        draw_once(store, KEY, TD)
        path = home / f"store/secrets/{TD}.bin"
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(IntegrityError, match="were altered"):
            read_secrets(store, KEY, TD)

    def test_another_tickets_secrets_are_refused_in_their_place(self, store: Store, home: Path) -> None:
        """A salt or a self-mask of an earlier attempt that is used again would undo both."""
        draw_once(store, KEY, OTHER_TD)
        store.create(f"secrets/{TD}.bin", store.read(f"secrets/{OTHER_TD}.bin"))
        for read in (read_secrets, draw_once):
            with pytest.raises(IntegrityError, match="were altered"):
                read(store, KEY, TD)


class TestErasing:
    def test_what_is_erased_is_gone(self, store: Store, home: Path) -> None:
        draw_once(store, KEY, TD)
        draw_once(store, KEY, OTHER_TD)
        erase(store, TD)
        with pytest.raises(ObjectMissingError):
            read_secrets(store, KEY, TD)
        assert [path.name for path in home.rglob("*") if path.is_file()] == [f"{OTHER_TD}.bin"]

    def test_erasing_nothing_is_no_fault(self, store: Store) -> None:
        erase(store, TD)
        erase_others(store, TD)
        assert store.keys() == []

    def test_of_all_tickets_one_is_left(self, store: Store) -> None:
        drawn: Any = None
        for ticket in (*OTHER_TICKETS, TICKET):
            drawn = draw_once(store, KEY, ticket.digest)
        store.create("sealed/x.bin", b"stays")
        erase_others(store, TD)
        assert store.keys() == ["sealed/x.bin", f"secrets/{TD}.bin"]
        assert raw(read_secrets(store, KEY, TD)) == raw(drawn)

    def test_all_of_them_where_the_ticket_has_none(self, store: Store) -> None:
        draw_once(store, KEY, OTHER_TD)
        erase_others(store, TD)
        assert store.keys("secrets") == []
