from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.charter_book import (
    charter_in_force,
    charter_key,
    charter_of,
    editions,
    is_ancestor,
    missing_signatures,
    propose,
    read_edition,
    sign_edition,
    signature_key,
)
from components.artifacts.documents import sign
from components.artifacts.stores import Store, open_store
from components.errors import ObjectTooLargeError, SignatureError, UsageError
from tests.components.agreement.signed_form import CHARTER, KEYS, public_keys, put_in_force

SECOND = replace(CHARTER, edition=2, previous=CHARTER.digest, max_rounds=20)
THIRD = replace(SECOND, edition=3, previous=SECOND.digest, local_epochs=3)
FOREIGN = replace(CHARTER, federation="elsewhere")


@pytest.fixture
def book(home: Path) -> Store:
    return open_store("keys")


def rewrite(home: Path, key: str, content: bytes) -> None:
    """What somebody does who can write the folder."""
    (home / "keys" / key).write_bytes(content)


class TestPropose:
    def test_publishes_the_canonical_form(self, book: Store) -> None:
        propose("keys", CHARTER)
        assert book.keys() == ["charters/00001/charter.json"]
        assert book.read(charter_key(1)) == CHARTER.to_json()
        assert read_edition(book, 1) == CHARTER

    def test_twice_is_once(self, book: Store) -> None:
        propose("keys", CHARTER)
        propose("keys", replace(CHARTER, sites=dict(reversed(list(CHARTER.sites.items())))))
        assert editions(book) == [1]

    def test_other_terms_under_the_same_number_are_refused(self, book: Store) -> None:
        propose("keys", CHARTER)
        with pytest.raises(
            UsageError, match=r"^edition 1 of the charter at keys was proposed with other terms"
        ):
            propose("keys", replace(CHARTER, local_epochs=4))
        assert read_edition(book, 1) == CHARTER

    def test_a_charter_that_breaks_rules_is_not_published(self, book: Store) -> None:
        with pytest.raises(UsageError) as refusal:
            propose("keys", replace(CHARTER, max_rounds=0, min_sum_sites=2))
        told = str(refusal.value).splitlines()
        assert [line.split()[:2] for line in told] == [
            ["charter:", "max_rounds"],
            ["charter:", "min_sum_sites"],
        ]
        assert book.keys() == []


class TestSigning:
    def test_is_in_force_once_everybody_has_signed(self, book: Store) -> None:
        propose("keys", CHARTER)
        left = list(CHARTER.signers)
        while left:
            assert missing_signatures(book, CHARTER) == tuple(left)
            with pytest.raises(
                UsageError, match=f"^the charter at keys is not signed by {', '.join(left)}: "
            ):
                charter_in_force("keys")
            with pytest.raises(SignatureError, match=f"edition 1 .* is not signed by {', '.join(left)}$"):
                charter_of("keys", CHARTER.digest)
            sign_edition("keys", CHARTER, left[0], KEYS[left.pop(0)])
        assert missing_signatures(book, CHARTER) == ()
        assert charter_in_force("keys") == charter_of("keys", CHARTER.digest) == CHARTER

    def test_signing_twice_is_signing_once(self, book: Store) -> None:
        put_in_force()
        before = {key: book.read(key) for key in book.keys()}  # noqa: SIM118
        put_in_force()
        assert {key: book.read(key) for key in book.keys()} == before  # noqa: SIM118

    @pytest.mark.parametrize("stranger", ["coordinator", "delta", "aggregator", ""])
    def test_others_do_not_sign(self, book: Store, stranger: str) -> None:
        propose("keys", CHARTER)
        with pytest.raises(UsageError, match=r"does not sign charters: alpha, beta, gamma, key-holder do$"):
            sign_edition("keys", CHARTER, stranger, KEYS.get(stranger, KEYS["delta"]))
        assert book.keys() == [charter_key(1)]

    @pytest.mark.parametrize("key", [KEYS["beta"], Ed25519PrivateKey.generate()], ids=["beta", "fresh"])
    def test_a_party_signs_with_the_key_that_the_charter_names(
        self, book: Store, key: Ed25519PrivateKey
    ) -> None:
        propose("keys", CHARTER)
        with pytest.raises(UsageError, match=r"names another key for alpha than this one: do not sign it$"):
            sign_edition("keys", CHARTER, "alpha", key)
        assert book.keys() == [charter_key(1)]

    def test_what_lies_there_already_is_not_taken_for_the_signature(self, book: Store) -> None:
        propose("keys", CHARTER)
        sign_edition("keys", replace(CHARTER, local_epochs=4), "alpha", KEYS["alpha"])
        book.create(signature_key(1, "beta"), b"{}")
        for signer in ("alpha", "beta"):
            with pytest.raises(SignatureError, match=f"is not the signature of {signer} for these terms"):
                sign_edition("keys", CHARTER, signer, KEYS[signer])

    @pytest.mark.parametrize(
        "forged",
        [
            sign(KEYS["beta"], domain="charter", signer="alpha", body={"charter": CHARTER.digest}),
            sign(KEYS["beta"], domain="charter", signer="beta", body={"charter": CHARTER.digest}),
            sign(KEYS["coordinator"], domain="charter", signer="alpha", body={"charter": CHARTER.digest}),
            sign(KEYS["alpha"], domain="charter", signer="alpha", body={"charter": SECOND.digest}),
            sign(KEYS["alpha"], domain="charter", signer="alpha", body={}),
            sign(KEYS["alpha"], domain="charter", signer="alpha", body={"charter": CHARTER.digest, "x": 1}),
            sign(KEYS["alpha"], domain="ticket", signer="alpha", body={"charter": CHARTER.digest}),
            b"",
            b"{}",
        ],
        ids=["key", "copied", "coordinator", "edition", "empty", "more", "domain", "nothing", "object"],
    )
    def test_a_signature_that_is_not_the_signers_is_refused(self, home: Path, forged: bytes) -> None:
        put_in_force()
        rewrite(home, signature_key(1, "alpha"), forged)
        with pytest.raises(SignatureError, match="alpha"):
            charter_in_force("keys")
        with pytest.raises(SignatureError, match="alpha"):
            charter_of("keys", CHARTER.digest)

    def test_an_altered_signature_is_refused(self, home: Path, book: Store) -> None:
        put_in_force()
        document = book.read(signature_key(1, "key-holder"))
        for position in range(0, len(document), 7):
            rewrite(
                home, signature_key(1, "key-holder"), document[:position] + b"!" + document[position + 1 :]
            )
            with pytest.raises(SignatureError, match="key-holder"):
                charter_in_force("keys")

    @pytest.mark.parametrize(
        "change", [{"max_rounds": 13}, {"colluding_sites": 0}, {"learning_rate": 0.5}, {"genesis": "00" * 32}]
    )
    def test_terms_that_were_changed_after_signing_are_refused(self, home: Path, change: Any) -> None:
        put_in_force()
        rewrite(home, charter_key(1), replace(CHARTER, **change).to_json())
        with pytest.raises(SignatureError, match="the signature of alpha is of another charter"):
            charter_in_force("keys")
        with pytest.raises(SignatureError, match=r"no edition of the charter has digest .* a foreign one"):
            charter_of("keys", CHARTER.digest)

    def test_a_site_more_needs_a_signature_more(self, home: Path) -> None:
        put_in_force()
        sybil = replace(CHARTER, sites={**CHARTER.sites, "delta": public_keys("delta")})
        rewrite(home, charter_key(1), sybil.to_json())
        with pytest.raises(SignatureError, match="of another charter"):
            charter_in_force("keys")


class TestEditions:
    def test_the_newest_that_all_have_signed_counts(self, book: Store) -> None:
        put_in_force()
        propose("keys", SECOND)
        for signer in ("alpha", "beta", "gamma"):
            sign_edition("keys", SECOND, signer, KEYS[signer])
            assert charter_in_force("keys") == CHARTER
        sign_edition("keys", SECOND, "key-holder", KEYS["key-holder"])
        assert charter_in_force("keys") == SECOND
        assert charter_of("keys", CHARTER.digest) == CHARTER
        put_in_force(THIRD)
        assert (charter_in_force("keys"), editions(book)) == (THIRD, [1, 2, 3])

    def test_where_none_is_in_force_the_newest_tells_who_is_missing(self, book: Store) -> None:
        with pytest.raises(UsageError, match=r"^no charter at keys: .*keys init.*charter new"):
            charter_in_force("keys")
        propose("keys", CHARTER)
        propose("keys", SECOND)
        sign_edition("keys", SECOND, "beta", KEYS["beta"])
        with pytest.raises(UsageError, match="is not signed by alpha, gamma, key-holder: "):
            charter_in_force("keys")

    def test_an_edition_under_another_number_is_refused(self, book: Store) -> None:
        book.create(charter_key(2), CHARTER.to_json())
        with pytest.raises(SignatureError, match=r"^edition 2 of the charter calls itself edition 1$"):
            charter_in_force("keys")

    def test_more_than_four_mebibytes_are_not_read(self, book: Store) -> None:
        book.create(charter_key(1), bytes(4 * 2**20 + 1))
        with pytest.raises(ObjectTooLargeError):
            charter_in_force("keys")

    def test_what_lies_beside_is_no_edition(self, book: Store) -> None:
        put_in_force()
        for key in ("charters/notes", "charters/draft/charter.json", "charters/00007/note.txt"):
            book.create(key, b"x")
        assert editions(book) == [1]

    @pytest.mark.parametrize(
        ("older", "newer", "follows"),
        [
            (CHARTER, CHARTER, True),
            (CHARTER, SECOND, True),
            (CHARTER, THIRD, True),
            (SECOND, THIRD, True),
            (SECOND, CHARTER, False),
            (THIRD, SECOND, False),
            (FOREIGN, THIRD, False),
        ],
    )
    def test_an_edition_follows_from_those_before(
        self, book: Store, older: Charter, newer: Charter, follows: bool
    ) -> None:
        for charter in (CHARTER, SECOND, THIRD):
            propose("keys", charter)
        assert is_ancestor("keys", older.digest, newer) is follows

    def test_a_broken_chain_ends_there(self, book: Store) -> None:
        """The number is the one before, its terms are not those that the later edition names."""
        propose("keys", replace(CHARTER, local_epochs=4))
        propose("keys", SECOND)
        assert not is_ancestor("keys", CHARTER.digest, SECOND)
        assert not is_ancestor("keys", replace(CHARTER, local_epochs=4).digest, SECOND)
