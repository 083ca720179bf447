from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.key_certificate import (
    KeyCertificate,
    certificate_key,
    certified_keys,
    context_key,
    key_of_round,
    secret_name,
)
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import SignatureError, UsageError
from tests.components.agreement.signed_form import CHARTER, KEYS, SignedForm

FIRST = KeyCertificate(
    federation="paper", protection="sealed", number=1, context="c1" * 32, first_round=1, previous=""
)


def chain(rounds: Sequence[int]) -> list[KeyCertificate]:
    """Certificates of keys that serve from these rounds on, each naming the one before."""
    made: list[KeyCertificate] = []
    for number, first_round in enumerate(rounds, start=1):
        previous = digest(made[-1].signed(KEYS["key-holder"])) if made else ""
        context = f"{number:02x}" * 32
        made.append(
            replace(FIRST, number=number, context=context, first_round=first_round, previous=previous)
        )
    return made


def publish(certificates: Sequence[KeyCertificate], *, by: str = "key-holder") -> None:
    for number, certificate in enumerate(certificates, start=1):
        open_store("keys").create(certificate_key(CHARTER, "sealed", number), certificate.signed(KEYS[by]))


class TestCertificate(SignedForm):
    domain = "key certificate"
    signer = "key-holder"
    form = FIRST

    @pytest.fixture(autouse=True)
    def certificates(self, home: Path) -> None:
        self.path = home / "keys" / certificate_key(CHARTER, "sealed", 1)
        self.path.parent.mkdir(parents=True)

    def read(self, document: bytes) -> KeyCertificate:
        self.path.write_bytes(document)
        [found] = certified_keys("keys", CHARTER, "sealed")
        assert found.digest == digest(document)
        return found.certificate

    @pytest.mark.parametrize(
        "change",
        [
            {"federation": "elsewhere"},
            {"protection": "he"},
            {"number": 2},
            {"number": 0},
            {"previous": "00" * 32},
            {"first_round": 0},
            {"first_round": -3},
            {"first_round": "1"},
            {"first_round": True},
            {"first_round": None},
        ],
    )
    def test_what_cannot_be_the_first_is_refused(self, change: dict[str, Any]) -> None:
        text = "1 for protection sealed does not follow from the one before|is not in the form"
        with pytest.raises(SignatureError, match=text):
            self.read(self.signed(self.body() | change))


class TestChain:
    def test_keys_are_named_in_the_order_they_serve(self, home: Path) -> None:
        assert certified_keys("keys", CHARTER, "sealed") == []
        certificates = chain([1, 5, 7])
        publish(certificates)
        found = certified_keys("keys", CHARTER, "sealed")
        assert [each.certificate for each in found] == certificates
        assert [each.digest for each in found] == [digest(c.signed(KEYS["key-holder"])) for c in certificates]
        assert certified_keys("keys", CHARTER, "he") == []

    @pytest.mark.parametrize(
        ("number", "change"),
        [
            (2, {"previous": ""}),
            (2, {"previous": "00" * 32}),
            (3, {"previous": digest(chain([1])[0].signed(KEYS["key-holder"]))}),
            (2, {"first_round": 1}),
            (3, {"first_round": 5}),
            (3, {"first_round": 4}),
            (2, {"number": 3}),
            (2, {"federation": "elsewhere"}),
        ],
    )
    def test_a_broken_chain_is_refused(self, home: Path, number: int, change: dict[str, Any]) -> None:
        certificates = chain([1, 5, 7])
        certificates[number - 1] = replace(certificates[number - 1], **change)
        publish(certificates)
        with pytest.raises(
            SignatureError, match=f"certificate {number} for protection sealed does not follow"
        ):
            certified_keys("keys", CHARTER, "sealed")

    def test_another_first_breaks_what_follows(self, home: Path) -> None:
        certificates = chain([1, 5])
        publish([replace(certificates[0], context="ee" * 32), certificates[1]])
        with pytest.raises(SignatureError, match=r"certificate 2 .* does not follow"):
            certified_keys("keys", CHARTER, "sealed")

    @pytest.mark.parametrize("signer", ["alpha", "coordinator", "delta"])
    def test_only_the_key_holder_certifies(self, home: Path, signer: str) -> None:
        publish([FIRST], by=signer)
        with pytest.raises(SignatureError, match="the signature of key-holder on a key certificate"):
            key_of_round("keys", CHARTER, 1)


class TestService:
    """The charter on paper gives a key four rounds."""

    @pytest.mark.parametrize(
        ("number", "serving"), [(1, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3), (10, 3)]
    )
    def test_a_round_has_the_newest_key_that_serves(self, home: Path, number: int, serving: int) -> None:
        publish(chain([1, 5, 7]))
        found = key_of_round("keys", CHARTER, number)
        assert found is not None
        assert found.certificate.number == serving

    @pytest.mark.parametrize(
        ("rounds", "number"),
        [([1], 5), ([1], 100), ([1, 7], 5), ([1, 7], 6), ([1, 7], 11), ([3], 2), ([3], 7)],
    )
    def test_no_key_serves_longer_than_the_charter_says(
        self, home: Path, rounds: list[int], number: int
    ) -> None:
        publish(chain(rounds))
        with pytest.raises(
            UsageError, match=f"may serve 4 rounds and round {number} is not among them: .*rotate"
        ):
            key_of_round("keys", CHARTER, number)

    def test_a_federation_without_a_key_is_told_how_to_make_one(self, home: Path) -> None:
        with pytest.raises(UsageError, match=r"no key for protection sealed: .*'crosscloud keys init'"):
            key_of_round("keys", CHARTER, 1)
        assert key_of_round("keys", replace(CHARTER, protection="none"), 1) is None


def test_keys_lie_by_protection_and_fingerprint() -> None:
    chain = hashlib.sha256(KEYS["key-holder"].public_key().public_bytes_raw()).hexdigest()[:16]
    assert certificate_key(CHARTER, "sealed", 3) == f"certificates/sealed/{chain}/00003.json"
    assert context_key("sealed", "c1" * 32) == "contexts/sealed-c1c1c1c1c1c1c1c1.public"
    assert secret_name("sealed", "c1" * 32) == "sealed-c1c1c1c1c1c1c1c1.secret"


def test_another_key_holder_starts_a_chain_of_his_own(home: Path) -> None:
    publish([FIRST])
    successor = Ed25519PrivateKey.generate()
    theirs = base64.b64encode(successor.public_key().public_bytes_raw()).decode()
    charter = replace(CHARTER, edition=2, previous=CHARTER.digest, key_holder=theirs)
    assert certified_keys("keys", charter, "sealed") == []
    document = replace(FIRST, first_round=5).signed(successor)
    open_store("keys").create(certificate_key(charter, "sealed", 1), document)
    assert [each.certificate.first_round for each in certified_keys("keys", charter, "sealed")] == [5]
    assert [each.certificate.first_round for each in certified_keys("keys", CHARTER, "sealed")] == [
        FIRST.first_round
    ]
