from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.errors import SignatureError
from components.execution.outcome import Outcome
from components.site_steps.answer import (
    NOTICES,
    answer_document,
    answer_key,
    notice,
    notice_key,
    read_answer,
)
from tests.components.agreement.signed_form import Held, SignedForm
from tests.components.site_steps.paper import PAPER, REQUEST

OUTCOME = Outcome(
    reference="store/model",
    manifest={"uri": "store/model", "padded_size": 8},
    metrics={"loss": 0.5},
    bytes_sent=3,
    bytes_read=4,
    findings=("label shares",),
)


@dataclass(frozen=True)
class Answer:
    """An outcome as its site signs it."""

    outcome: Outcome

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        return answer_document(self.outcome, site="alpha", named=REQUEST.digest, key=key)


def answered(document: bytes, **others: bytes) -> Outcome | None:
    held = Held({answer_key("alpha", REQUEST.digest): document, **others})
    return read_answer(held, "alpha", REQUEST.digest, PAPER)


class TestAnswer(SignedForm):
    domain = "step outcome"
    signer = "alpha"
    form = Answer(OUTCOME)

    def read(self, document: bytes) -> Answer:
        found = answered(document)
        assert found is not None
        return Answer(found)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"request": "00" * 32}, "answers another request"),
            ({"reason": "oom"}, "a reference and a reason at once"),
            ({"metrics": {"loss": "0.5"}}, "not in the form"),
            ({"findings": [1]}, "not in the form"),
            ({"bytes_sent": True}, "not in the form"),
            ({"manifest": []}, "not in the form"),
        ],
    )
    def test_another_form_is_refused(self, change: dict[str, Any], told: str) -> None:
        with pytest.raises(SignatureError, match=told):
            answered(self.signed(self.body() | change))

    def test_words_for_people_are_one_plain_line(self) -> None:
        """What stands in a site's reason reaches the coordinator's JSON and terminal."""
        hostile = self.signed(self.body() | {"reference": "", "reason": 'bad\n"x" \x1b[31m' + "y" * 999})
        found = answered(hostile)
        assert found is not None
        assert found.reason.startswith("bad x [31m")
        assert len(found.reason) == 200


class TestNotice:
    def test_one_stands_in_for_an_answer_until_there_is_one(self) -> None:
        left = {notice_key("alpha", REQUEST.digest): notice("oom")}
        assert read_answer(Held(left), "alpha", REQUEST.digest, PAPER) == Outcome(reason="oom")
        assert read_answer(Held({}), "alpha", REQUEST.digest, PAPER) is None

    @pytest.mark.parametrize("word", [*NOTICES, "denied: quota", "timeout: did not start"])
    def test_words_of_the_list_are_told(self, word: str) -> None:
        held = Held({notice_key("alpha", REQUEST.digest): notice(word)})
        assert read_answer(held, "alpha", REQUEST.digest, PAPER) == Outcome(reason=word)

    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"[]",
            b"{}",
            json.dumps({"reason": "Patient Miller has the flu"}).encode(),
            json.dumps({"reason": 7}).encode(),
            b"[" * 4000,
        ],
    )
    def test_anything_else_says_that_it_failed(self, content: bytes) -> None:
        """Whoever writes to the exchange can leave a site out, and say nothing by it."""
        held = Held({notice_key("alpha", REQUEST.digest): content})
        assert read_answer(held, "alpha", REQUEST.digest, PAPER) == Outcome(reason="failed")

    def test_a_detail_that_is_not_plain_is_dropped(self) -> None:
        content = json.dumps({"reason": "oom: Name = Miller"}).encode()
        held = Held({notice_key("alpha", REQUEST.digest): content})
        assert read_answer(held, "alpha", REQUEST.digest, PAPER) == Outcome(reason="oom")

    def test_none_is_left_that_would_not_be_read(self) -> None:
        with pytest.raises(ValueError, match="is no notice"):
            notice("Miller")
