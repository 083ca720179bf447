from __future__ import annotations

import base64
import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.agreement.dealt_shares import SEALED_SHARE_BYTES, DealtShares
from components.encryption.masking import shamir
from components.encryption.masking.share_keys import (
    SCALAR,
    SELF,
    Kind,
    opened_share,
    points_of,
    sealed_shares,
    self_digest,
    share_key,
    sharing_secrets,
)
from components.errors import IntegrityError, RefusedError
from tests.components.encryption.sharing_sites import FIVE, NAMES, half, secret_of, secrets_of

SELF_KEY, SCALAR_KEY = secret_of("self key"), secret_of("scalar")


def dealt(threshold: int = 3) -> DealtShares:
    """What gcp deals."""
    z = secrets_of("gcp")
    return DealtShares(
        charter="cd",
        ticket="td",
        roster="rd",
        purpose="update",
        site="gcp",
        self_digest=self_digest(NAMES, "gcp", SELF_KEY),
        selves=sealed_shares(SELF_KEY, SELF, NAMES, "gcp", threshold=threshold, secrets=z),
        scalars=sealed_shares(SCALAR_KEY, SCALAR, NAMES, "gcp", threshold=threshold, secrets=z),
    )


def key_at(site: str, kind: Kind, dealer: str = "gcp") -> bytes:
    """The key that a receiver derives by itself."""
    return share_key(secrets_of(site)[dealer], kind, NAMES, dealer=dealer, receiver=site)


def test_points_are_places_in_the_sorted_roster() -> None:
    assert points_of(("gcp", "aws", "onprem")) == {"aws": 1, "gcp": 2, "onprem": 3}


def test_both_ends_of_a_pair_have_one_secret_and_nobody_else_has_it() -> None:
    secrets = {site: secrets_of(site) for site in FIVE}
    for one, other in itertools.combinations(FIVE, 2):
        assert secrets[one][other] == secrets[other][one]
        assert len(secrets[one][other]) == 64
    assert len({z for each in secrets.values() for z in each.values()}) == 10 + 5


def test_with_itself_a_site_has_its_sharing_key() -> None:
    assert secrets_of("gcp")["gcp"] == half("gcp").ephemeral.private_bytes_raw()


def test_a_roster_without_this_site_is_refused() -> None:
    with pytest.raises(RefusedError, match="does not hold gcp with its own keys"):
        sharing_secrets(half("gcp"), [half(site).public() for site in ("aws", "azure")])


@pytest.mark.parametrize(("kind", "secret"), [(SELF, SELF_KEY), (SCALAR, SCALAR_KEY)])
def test_every_receiver_opens_its_share_and_a_quorum_has_the_secret(kind: Kind, secret: bytes) -> None:
    made, points = dealt(), points_of(FIVE)
    shares = {points[site]: opened_share(key_at(site, kind), kind, NAMES, made, site) for site in FIVE}
    for chosen in itertools.combinations(shares, 3):
        assert shamir.combine({point: shares[point] for point in chosen}) == secret


def test_the_dealer_opens_its_own_share_after_a_restart() -> None:
    """Its key follows from what it keeps: no polynomial needs to be remembered."""
    key = share_key(secrets_of("gcp")["gcp"], SELF, NAMES, dealer="gcp", receiver="gcp")
    assert len(opened_share(key, SELF, NAMES, dealt(), "gcp")) == 33


def test_all_keys_are_different() -> None:
    keys = [
        share_key(secrets_of(receiver)[dealer], kind, NAMES, dealer=dealer, receiver=receiver)
        for dealer in FIVE
        for receiver in FIVE
        for kind in (SELF, SCALAR)
    ]
    assert len(set(keys)) == 50


@pytest.mark.parametrize("name", ["charter", "ticket", "purpose", "roster"])
def test_a_key_is_of_one_attempt(name: str) -> None:
    z = secrets_of("aws")["gcp"]
    other = share_key(z, SELF, replace(NAMES, **{name: "x"}), dealer="gcp", receiver="aws")
    assert other != key_at("aws", SELF)
    with pytest.raises(IntegrityError):
        opened_share(other, SELF, NAMES, dealt(), "aws")


def test_a_key_opens_one_kind_at_one_receiver_of_one_dealer() -> None:
    made = dealt()
    for kind, site in itertools.product((SELF, SCALAR), FIVE):
        key = key_at("aws", SELF)
        if (kind, site) == (SELF, "aws"):
            assert opened_share(key, kind, NAMES, made, site)
        else:
            with pytest.raises(IntegrityError, match=f"what {site} gave does not open its share of what gcp"):
                opened_share(key, kind, NAMES, made, site)


def test_a_share_cannot_be_moved_to_another_receiver_dealer_or_kind() -> None:
    made = dealt()
    moved = replace(made, selves={**made.selves, "azure": made.selves["aws"]})
    with pytest.raises(IntegrityError):
        opened_share(key_at("azure", SELF), SELF, NAMES, moved, "azure")
    with pytest.raises(IntegrityError):
        opened_share(key_at("aws", SELF), SELF, NAMES, replace(made, selves=made.scalars), "aws")
    with pytest.raises(IntegrityError):
        opened_share(key_at("aws", SELF, "onprem"), SELF, NAMES, replace(made, site="onprem"), "aws")


def test_sealed_shares_are_all_of_the_size_that_documents_have() -> None:
    made = dealt()
    for text in (*made.selves.values(), *made.scalars.values()):
        assert len(base64.b64decode(text)) == SEALED_SHARE_BYTES


def test_shares_are_aes_256_gcm_under_their_key() -> None:
    closed = base64.b64decode(dealt().selves["aws"])
    bound = b"".join(
        len(part).to_bytes(8, "big") + part
        for part in (b"self share", b"cd", b"td", b"update", b"rd", b"gcp", b"aws")
    )
    assert len(AESGCM(key_at("aws", SELF)).decrypt(closed[:12], closed[12:], bound)) == 33


def test_no_nonce_is_drawn_twice() -> None:
    made = [dealt() for _ in range(20)]
    texts = [text for each in made for text in (*each.selves.values(), *each.scalars.values())]
    assert len({base64.b64decode(text)[:12] for text in texts}) == len(texts) == 200


def test_a_digest_binds_to_one_key_of_one_site_and_attempt() -> None:
    digests = {
        self_digest(NAMES, "gcp", SELF_KEY),
        self_digest(NAMES, "aws", SELF_KEY),
        self_digest(NAMES, "gcp", SCALAR_KEY),
        self_digest(replace(NAMES, ticket="x"), "gcp", SELF_KEY),
    }
    assert len(digests) == 4
