"""Canonical JSON against RFC 8785, signatures against RFC 8032, and every way a document can be untrue."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.documents import MAX_DOCUMENT_BYTES, canonical_json, digest, framed, sign, verify
from components.errors import SignatureError

# RFC 8785, appendix B: the bits of a double and its one text.
RFC_8785_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

# RFC 8032, section 7.1, test 1: secret key, public key, signature of the empty message.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd"
    "25bf5f0595bbe24655141438e7a100b"
)

KEY = Ed25519PrivateKey.from_private_bytes(SECRET)
BODY: dict[str, Any] = {"ticket": "00ff", "rate": 1e-07, "sites": ["a", "b"], "text": "µ \"'\\", "none": None}


def signed(body: dict[str, Any] = BODY) -> bytes:
    return sign(KEY, domain="roster", signer="coordinator", body=body)


def read(document: bytes) -> dict[str, Any]:
    return verify(document, domain="roster", signer="coordinator", key=KEY.public_key())


def envelope(**changes: Any) -> bytes:
    return canonical_json(json.loads(signed()) | changes)


# The reference implementation of RFC 8032, section 6, as far as verifying needs it: affine coordinates
# instead of extended ones, since a test can wait.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int]


def recovered(encoded: bytes) -> Point:
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return (x if x & 1 == encoded[31] >> 7 else P - x), y


def added(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, P - 2, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, P - 2, P)
    return x % P, y % P


def times(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = added(total, point)
        point, scalar = added(point, point), scalar >> 1
    return total


def is_signature_of_rfc_8032(public: bytes, message: bytes, signature: bytes) -> bool:
    base = recovered((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left = times(int.from_bytes(signature[32:], "little"), base)
    return left == added(recovered(signature[:32]), times(challenge, recovered(public)))


@pytest.mark.parametrize(("bits", "text"), RFC_8785_NUMBERS.items())
def test_numbers_of_rfc_8785(bits: str, text: str) -> None:
    number = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical_json(number) == text.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**53, -(2**53), object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical_json([value])


def test_example_of_rfc_8785() -> None:
    value = json.loads(
        r"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"""
    )
    assert canonical_json(value) == bytes.fromhex(
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b33333333333333"
        "33332e333333333333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac24"
        "5c75303030665c6e4127425c225c5c5c5c5c222f227d"
    )


def test_names_are_sorted_as_in_rfc_8785() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = json.loads(canonical_json(dict.fromkeys(names)), object_pairs_hook=lambda pairs: pairs)
    assert [name for name, _ in found] == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    # Whole doubles from 2^53 to 1e21 have a form without exponent, which JSON readers take for an integer.
    | st.floats(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abµ€😀\n"), inner, max_size=4),
    max_leaves=10,
)


@given(value=values)
def test_one_value_has_one_form_that_json_reads(value: Any) -> None:
    form = canonical_json(value)
    assert json.loads(form) == value
    assert canonical_json(json.loads(form)) == form


def test_digest_is_sha_256() -> None:
    # The one-block example of FIPS 180-4.
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_parts_are_framed_with_their_lengths() -> None:
    assert framed([]) == b""
    assert framed([b""]) == bytes(8)
    assert framed([b"ab", b"", b"c" * 300]) == (
        struct.pack(">Q", 2) + b"ab" + struct.pack(">Q", 0) + struct.pack(">Q", 300) + b"c" * 300
    )
    assert framed(iter([b"a"])) == framed([b"a"]) == bytes(7) + b"\x01a"


parts = st.lists(st.binary(max_size=12), max_size=5)


@given(left=parts, right=parts)
def test_no_two_sequences_of_parts_look_alike(left: list[bytes], right: list[bytes]) -> None:
    assert (framed(left) == framed(right)) == (left == right)
    joined = b"".join(left)
    for cut in range(len(joined) + 1):
        recut = [joined[:cut], joined[cut:]]
        assert (framed(recut) == framed(left)) == (recut == left)


def test_the_signature_is_the_one_the_module_describes() -> None:
    assert KEY.public_key().public_bytes_raw() == PUBLIC
    assert KEY.sign(b"") == SIGNATURE
    assert is_signature_of_rfc_8032(PUBLIC, b"", SIGNATURE)
    assert not is_signature_of_rfc_8032(PUBLIC, b"x", SIGNATURE)
    document = json.loads(signed())
    assert sorted(document) == ["body", "signature", "signer"]
    assert document["signer"] == "coordinator"
    form = rb'{"none":null,"rate":1e-7,"sites":["a","b"],"text":"\u00b5 \"' + rb"'\\" + rb'","ticket":"00ff"}'
    message = b"crosscloud roster\x00" + hashlib.sha256(form.replace(rb"\u00b5", "µ".encode())).digest()
    assert is_signature_of_rfc_8032(PUBLIC, message, base64.b64decode(document["signature"]))


@given(body=st.dictionaries(st.text("abµ€😀\n"), values, max_size=4))
def test_what_was_signed_is_what_is_read(body: dict[str, Any]) -> None:
    document = signed(body)
    assert read(document) == body
    assert document == canonical_json(json.loads(document))


def test_every_flipped_bit_is_refused() -> None:
    document = signed()
    for position in range(len(document)):
        for bit in range(8):
            altered = bytearray(document)
            altered[position] ^= 1 << bit
            with pytest.raises(SignatureError):
                read(bytes(altered))


@given(position=st.integers(0, len(signed()) - 1), byte=st.integers(0, 255))
def test_any_other_byte_is_refused(position: int, byte: int) -> None:
    document = signed()
    altered = document[:position] + bytes([byte]) + document[position + 1 :]
    if altered != document:
        with pytest.raises(SignatureError):
            read(altered)


@given(position=st.integers(0, len(signed())), added=st.sampled_from([b" ", b"\n", b"0", b'"', b",", b"}"]))
def test_an_added_byte_is_refused(position: int, added: bytes) -> None:
    document = signed()
    with pytest.raises(SignatureError):
        read(document[:position] + added + document[position:])


@given(position=st.integers(0, len(signed()) - 1))
def test_a_missing_byte_is_refused(position: int) -> None:
    document = signed()
    with pytest.raises(SignatureError):
        read(document[:position] + document[position + 1 :])


@pytest.mark.parametrize(
    "document",
    [
        json.dumps(json.loads(signed())).encode(),
        json.dumps(dict(reversed(json.loads(signed()).items())), separators=(",", ":")).encode(),
        signed().decode().encode("utf-16"),
        b"\xef\xbb\xbf" + signed(),
        signed().replace(b"1e-7", b"1E-7"),
        signed().replace(b"1e-7", b"0.0000001"),
        signed()[:-1] + b',"unsigned":1}',
        b'{"body":{},' + signed()[1:],
    ],
    ids=["spaces", "order", "utf-16", "mark", "exponent", "decimals", "addition", "twice"],
)
def test_the_same_body_in_another_form_is_refused(document: bytes) -> None:
    """One document, one digest: receipts are chained by the digest of the whole document."""
    with pytest.raises(SignatureError):
        read(document)


def test_every_other_body_is_refused() -> None:
    for change in ({"ticket": "00fe"}, {"rate": 2e-07}, {"sites": ["b", "a"]}, {"none": 0}, {"more": 1}):
        with pytest.raises(SignatureError, match="does not verify"):
            read(envelope(body=BODY | change))
    for name in BODY:
        with pytest.raises(SignatureError, match="does not verify"):
            read(envelope(body={key: value for key, value in BODY.items() if key != name}))


@pytest.mark.parametrize("domain", ["commitment", "rosters", "roste", "", "crosscloud roster"])
def test_another_domain_is_refused(domain: str) -> None:
    with pytest.raises(SignatureError, match=f"on a {domain} document does not verify"):
        verify(signed(), domain=domain, signer="coordinator", key=KEY.public_key())


def test_another_signer_is_refused() -> None:
    with pytest.raises(SignatureError, match="should be alpha's names another signer"):
        verify(signed(), domain="roster", signer="alpha", key=KEY.public_key())
    # The signer's name is outside the signature, the key is what proves him.
    with pytest.raises(SignatureError, match="signature of alpha"):
        verify(
            envelope(signer="alpha"),
            domain="roster",
            signer="alpha",
            key=Ed25519PrivateKey.generate().public_key(),
        )


def test_another_key_is_refused() -> None:
    forged = sign(Ed25519PrivateKey.generate(), domain="roster", signer="coordinator", body=BODY)
    with pytest.raises(SignatureError, match="signature of coordinator"):
        read(forged)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"body":{},"signer":"coordinator"}',
        envelope(signature=None),
        envelope(signature=7),
        envelope(signature=["AA=="]),
        envelope(signature="no base64"),
        envelope(signature="é"),
        envelope(signature=""),
        envelope(signature=base64.b64encode(bytes(63)).decode()),
        envelope(signature=base64.b64encode(bytes(64)).decode()),
        envelope(body=None),
        envelope(body=["a"]),
        envelope(body="text"),
        envelope(signer=None),
        envelope(signer=["coordinator"]),
    ],
)
def test_what_is_no_signed_document_is_refused(document: bytes) -> None:
    with pytest.raises(SignatureError, match="coordinator"):
        read(document)


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"\ud800"}',
        rb'{"\ud800":1}',
        rb'{"a":1e400}',
        rb'{"a":NaN}',
        rb'{"a":9007199254740993}',
        rb'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=["surrogate", "surrogate-name", "infinite", "nan", "above-2^53", "digits"],
)
def test_a_body_without_canonical_form_is_refused(body: bytes) -> None:
    signature = base64.b64encode(bytes(64))
    with pytest.raises(SignatureError):
        read(b'{"body":' + body + b',"signature":"' + signature + b'","signer":"coordinator"}')


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_no_depth_of_nesting_gets_past_a_refusal(start: bytes, end: bytes) -> None:
    # JSON and its canonical form are read by different recursions; each depth meets their limits elsewhere.
    for depth in (*range(900, 1000), 5000, 100_000):
        body = b'{"a":' + start * depth + b"1" + end * depth + b"}"
        document = b'{"body":' + body + b',"signature":"' + b"A" * 86 + b'==","signer":"coordinator"}'
        with pytest.raises(SignatureError):
            read(document)


def test_a_document_above_the_limit_is_refused_unread() -> None:
    def of_size(size: int) -> bytes:
        body = {"a": "x"}
        return signed({"a": "x" * (1 + size - len(signed(body)))})

    assert len(of_size(MAX_DOCUMENT_BYTES)) == MAX_DOCUMENT_BYTES
    assert read(of_size(MAX_DOCUMENT_BYTES))["a"].startswith("xx")
    with pytest.raises(
        SignatureError, match=f"has {MAX_DOCUMENT_BYTES + 1} bytes, over {MAX_DOCUMENT_BYTES}"
    ):
        read(of_size(MAX_DOCUMENT_BYTES + 1))
