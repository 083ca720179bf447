from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data_processing.masking.kinds import DEFAULT_KINDS, TOKENS
from components.data_processing.masking.masking import mask
from components.data_processing.masking.matching import Match, find_matches
from components.errors import UsageError
from tests.components.data_processing.masking.sentences import DEVELOPMENT
from tests.components.data_processing.masking.synthetic_texts import labelled_texts

TOKEN = re.compile("|".join(TOKENS.values()))
# Values, look-alikes, cues and what joins them, so that generated texts hold matches that touch and overlap.
PIECES = st.sampled_from(
    [
        *(
            "4111 1111 1111 1111",
            "4111111111111111",
            "378282246310005",
            "DE89370400440532013000",
            "j.doe@clinic.org",
        ),
        *(
            "+49 30 901820",
            "(212) 456-7890",
            "030 901820",
            "123-45-6780",
            "10.2.15.1",
            "2001:db8::1",
            "<CARD>",
        ),
        *(
            "version",
            "tel",
            "order",
            "ssn",
            " ",
            " ",
            "-",
            ".",
            ":",
            "/",
            "+",
            "@",
            "(",
            "1",
            "00",
            "ab12",
            "x",
            "\n",
        ),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=40))
RELAXED = settings(max_examples=100)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4111 1111 1111 1111.", "card <CARD>."),
        ("card 4111-1111-1111-1112.", None),
        ("2221000000000009 / 378282246310005", "<CARD> / <CARD>"),
        ("3782 822463 10005 cvc 1234", "<CARD> cvc 1234"),
        ("4111 1111 1111 1111 123 12/27", "<CARD> 123 12/27"),
        ("qty 1234 4111 1111 1111 1111", "qty 1234 <CARD>"),
        ("4111\u00a01111\u00a01111\u00a01111", "<CARD>"),
        ("BE68 5390 0754 7034 PAID BACK NOW", "<IBAN> PAID BACK NOW"),
        ("gb29nwbk60161331926819", "<IBAN>"),
        ("FR14 20041 01005 0500013M026 06", "<IBAN>"),
        ("GB29 NWBK 6016 1331 9268 18", None),
        ("ask j.doe@intranet.local, not @jdoe", "ask <EMAIL>, not @jdoe"),
        ("react@18.2.0 and a@b", None),
        ("from 10.2.15.1:8080", "from <IP>:8080"),
        ("version 10.2.15.1", None),
        ("upgraded from 10.2.15.1 to 10.2.16.0", None),
        ("The update failed. Host 10.2.15.1 is down", "The update failed. Host <IP> is down"),
        ("v10.2.15.1, OID 1.2.840.10008.1.2, 300.1.1.1", None),
        ("10.0.0.0/24 via fe80::1%eth0", "<IP> via <IP>"),
        ("2001:db8::1: unreachable", "<IP>: unreachable"),
        ("at 12:30:45 std::add(x[1::2]) 00:1A:2B:3C:4D:5E", None),
        ("SSN 123456780, 372-81-6319", "SSN <SSN>, <SSN>"),
        ("372816319", None),
        ("986-44-5418 000-12-3456 part 372-81-6319 12345-6789", None),
        ("+49 (0)30 901820 or 0049 30 901820", "<PHONE> or <PHONE>"),
        ("(212) 456-7890 x123; 212.456.7890", "<PHONE>; <PHONE>"),
        ("order 212-456-7890", None),
        ("ring 2124567890, not 2124567890123456", "ring <PHONE>, not 2124567890123456"),
        ("2124567890", None),
        ("0316/5348069", "<PHONE>"),
        ("Tel. 030 901820 / 0171 1234567", "Tel. <PHONE> / <PHONE>"),
        ("Tel. 030 901820 030 901820", "Tel. <PHONE> <PHONE>"),
        ("212-456-7890 212-456-7891", "<PHONE> <PHONE>"),
        ("05.11.2024 01.02.2024-05.02.2024 2024-01-15", None),
        ("E11.9 S72.001A 120/80 1.234,56 S24-01234 MRN 0012345678", None),
        ("٤١١١ ١١١١ ١١١١ ١١١١", "<CARD>"),
    ],
)
def test_masks_values_and_leaves_what_looks_like_them(text: str, masked: str | None) -> None:
    assert mask([text]).texts == [masked or text]


def test_a_text_without_matches_is_the_same_object_and_nothing_is_counted() -> None:
    texts = ["", "no digits", "BP 120/80", "naïve  \t\r\n\x00 ＜tag＞"]
    result = mask(texts)
    assert all(masked is text for masked, text in zip(result.texts, texts, strict=True))
    assert result.counts == dict.fromkeys(DEFAULT_KINDS, 0)


def test_counts_what_was_replaced_and_shows_no_text() -> None:
    result = mask(["a@b.org c@d.org", "4111111111111111", "<CARD> stays"])
    assert result.counts == dict.fromkeys(DEFAULT_KINDS, 0) | {"email": 2, "card": 1}
    assert result.texts == ["<EMAIL> <EMAIL>", "<CARD>", "<CARD> stays"]
    assert "<EMAIL>" not in repr(result)
    assert "stays" not in repr(result)


def test_overlapping_matches_are_one_of_the_first_ranked_kind() -> None:
    assert find_matches("pay 4111111111111111@bank.org") == [Match(4, 29, "card")]
    assert mask(["pay 4111111111111111@bank.org"]).counts["email"] == 0


def test_only_the_kinds_that_are_named_are_masked() -> None:
    text = "a@b.org 10.0.0.1"
    assert mask([text], ["ip"]).texts == ["a@b.org <IP>"]
    assert mask([text], ["ip"]).counts == {"ip": 1}


@pytest.mark.parametrize("kinds", [["passport", "card"], []])
def test_unknown_kinds_are_refused_in_one_line(kinds: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        mask([], kinds)
    assert "\n" not in str(caught.value)
    assert "iban, card" in str(caught.value)
    assert not kinds or "'passport'" in str(caught.value)


def test_one_string_is_not_a_sequence_of_texts_and_is_not_quoted() -> None:
    with pytest.raises(TypeError) as caught:
        mask("4111111111111111")
    assert "4111" not in str(caught.value)


@RELAXED
@given(TEXTS)
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask([text])
    twice = mask(once.texts)
    assert twice.texts == once.texts
    assert sum(twice.counts.values()) == 0


@RELAXED
@given(TEXTS)
def test_nothing_outside_of_matches_changes(text: str) -> None:
    """The text is the result with something put back in the place of every new token."""
    result = mask([text])
    added = sum(result.counts.values())
    assert len(TOKEN.findall(result.texts[0])) == len(TOKEN.findall(text)) + added
    pattern = re.escape(result.texts[0])
    for token in TOKENS.values():
        pattern = pattern.replace(re.escape(token), f"(?:{re.escape(token)}|.+?)")
    assert re.fullmatch(pattern, text, re.DOTALL)


@RELAXED
@given(st.lists(TEXTS, max_size=6), st.randoms(use_true_random=False))
def test_neither_the_order_of_texts_nor_of_kinds_counts(texts: list[str], draw: random.Random) -> None:
    order = draw.sample(range(len(texts)), len(texts))
    kinds = draw.sample(DEFAULT_KINDS, len(DEFAULT_KINDS))
    expected, shuffled = mask(texts), mask([texts[index] for index in order], kinds)
    assert shuffled.texts == [expected.texts[index] for index in order]
    assert shuffled.counts == expected.counts


@RELAXED
@given(st.lists(TEXTS, max_size=3), st.sets(st.sampled_from(DEFAULT_KINDS), min_size=1))
def test_matches_are_in_order_apart_and_hold_what_the_first_look_is_for(
    texts: list[str], kinds: set[str]
) -> None:
    for text in texts:
        end = 0
        for match in find_matches(text, sorted(kinds)):
            assert end <= match.start < match.end <= len(text)
            assert match.kind in kinds
            assert re.search(r"[\d@]", text[match.start : match.end])
            end = match.end


def test_of_what_was_found_nothing_is_left() -> None:
    """No digit and no letter of a value survives: taking the values out first leaves the same text."""
    checked = 0
    for labelled in labelled_texts(DEVELOPMENT, seed=3, number=300):
        matches = find_matches(labelled.text)
        spans = {(start, end): kind for start, end, kind in matches}
        if not labelled.values or any((start, end) not in spans for start, end, _ in labelled.values):
            continue
        masked = mask([labelled.text]).texts[0]
        for start, end, _ in labelled.values:
            assert labelled.text[start:end] not in masked
            checked += 1
        if len(matches) == len(labelled.values):
            expected, done = "", 0
            for start, end, kind in labelled.values:
                expected += labelled.text[done:start] + TOKENS[kind]
                done = end
            assert masked == expected + labelled.text[done:]
    assert checked > 150


def test_long_runs_of_digits_are_masked_in_bounded_time_or_left() -> None:
    phones = " ".join(["030 901820"] * 200)
    assert mask([f"Tel. {phones} end"]).texts == ["Tel. <PHONE> end"]
    series = " ".join(str(number % 9 + 1) for number in range(20_000))
    assert mask([series]).texts == [series]


def test_texts_without_a_candidate_import_nothing() -> None:
    program = (
        "import sys\n"
        "from components.data_processing.masking.masking import mask\n"
        "mask(['BP 120/80, E11.9, seen 2024-01-15 12:30, Hb 1.234,56, lot 4711', 'no digit'])\n"
        "print({'presidio_analyzer', 'spacy', 'torch', 'pyarrow'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


@pytest.mark.slow
def test_nothing_is_asked_of_the_network() -> None:
    program = (
        "import sys\n"
        "calls = []\n"
        "sys.addaudithook(lambda event, _: calls.append(event) if event.startswith('socket.') else None)\n"
        "from components.data_processing.masking.masking import mask\n"
        "text = 'a@b.co.uk 4111111111111111 DE89370400440532013000 +49 30 901820, 10.0.0.1 ssn 372-81-6319'\n"
        "print(mask([text]).texts[0])\n"
        "print({'socket.connect', 'socket.getaddrinfo', 'socket.sendto'} & set(calls))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "<EMAIL> <CARD> <IBAN> <PHONE>, <IP> ssn <SSN>\nset()\n"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111,5555555555554444", "<CARD>,<CARD>"),
        ("4111111111111111,12/27", "<CARD>,12/27"),
        ("4111 1111 1111 1111,5555 5555 5555 4444", "<CARD>,<CARD>"),
        ("219-45-6780,219-45-6781", "<SSN>,<SSN>"),
        ("card,4111111111111111,ssn,219-45-6780", "card,<CARD>,ssn,<SSN>"),
    ],
)
def test_values_in_a_line_of_a_table_are_masked(text: str, masked: str) -> None:
    """As a bank's exports write them, which a review found left in clear."""
    assert mask([text]).texts == [masked]
