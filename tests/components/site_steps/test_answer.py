from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.errors import SignatureError
from components.execution.outcome import Outcome
from components.site_steps.answer import (
    MAX_ANSWER_BYTES,
    MAX_MANIFEST_BYTES,
    NOTICES,
    answer_document,
    answer_key,
    notice,
    notice_key,
    read_answer,
    read_notice,
)
from tests.components.agreement.signed_form import KEYS, Held, SignedForm
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
            ({"reference": 'x", "alpha": "'}, "refers to what is no address"),
            ({"reference": "x\\"}, "refers to what is no address"),
            ({"reference": "x\n"}, "refers to what is no address"),
            ({"reference": "{{$.inputs}}"}, "refers to what is no address"),
            ({"reference": "x" * 1025}, "refers to what is no address"),
            ({"manifest": {"drift": [1]}}, "a manifest in no form of ours"),
            ({"manifest": {"drift": "all"}}, "a manifest in no form of ours"),
            ({"manifest": {"account": {"job": {}}}}, "a manifest in no form of ours"),
            ({"manifest": {"masked": [1]}}, "a manifest in no form of ours"),
            ({"manifest": {"global": 1}}, "a manifest in no form of ours"),
            ({"manifest": {"global": {"confusion": [[1, 2], [3]]}}}, "a manifest in no form of ours"),
            ({"manifest": {"global": {"confusion": [[-1]]}}}, "a manifest in no form of ours"),
            ({"manifest": {"adapted": {"confusion": [["1"]]}}}, "a manifest in no form of ours"),
            ({"manifest": {"a": [[[[[[[[1]]]]]]]]}}, "a manifest in no form of ours"),
            ({"manifest": {"a": "x" * MAX_MANIFEST_BYTES}}, "a manifest in no form of ours"),
            ({"metrics": {"a b": 1}}, "a manifest in no form of ours"),
            ({"metrics": {f"m{number}": 1 for number in range(65)}}, "a manifest in no form of ours"),
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

    def test_one_that_is_too_large_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="larger than any outcome"):
            answered(b" " * (MAX_ANSWER_BYTES + 1))

    @pytest.mark.parametrize("figure", [float("nan"), float("inf")])
    def test_what_is_no_json_is_told_to_have_failed(self, figure: float) -> None:
        document = Answer(Outcome(reference="r", metrics={"loss": figure})).signed(KEYS["alpha"])
        assert answered(document) == Outcome(reason="failed: the outcome cannot be written down")

    def test_figures_of_an_evaluation_are_a_table_of_counts(self) -> None:
        table = {"confusion": [[3, 1], [0, 4]], "log_loss": 0.25, "num_examples": 8}
        told = Outcome(
            reference="r", manifest={"global": table, "adapted": table}, metrics={"accuracy": 0.875}
        )
        assert answered(Answer(told).signed(KEYS["alpha"])) == told


class TestNotice:
    def held(self, content: bytes) -> Held:
        return Held({notice_key("alpha", REQUEST.digest): content})

    def test_it_is_no_answer(self) -> None:
        assert read_answer(self.held(notice("oom")), "alpha", REQUEST.digest, PAPER) is None
        assert read_notice(self.held(notice("oom")), "alpha", REQUEST.digest) == Outcome(reason="oom")
        assert read_notice(Held({}), "alpha", REQUEST.digest) is None

    @pytest.mark.parametrize(
        "word",
        [*NOTICES, "denied: quota", "timeout: did not start", "failed: template spec.containers[0].args"],
    )
    def test_words_of_the_list_are_told(self, word: str) -> None:
        assert read_notice(self.held(notice(word)), "alpha", REQUEST.digest) == Outcome(reason=word)

    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"[]",
            b"{}",
            json.dumps({"reason": "Patient Miller has the flu"}).encode(),
            json.dumps({"reason": 7}).encode(),
            b"[" * 4000,
            b" " * 5000,
        ],
    )
    def test_anything_else_says_that_it_failed(self, content: bytes) -> None:
        """Whoever writes to the exchange can leave a site out, and say nothing by it."""
        assert read_notice(self.held(content), "alpha", REQUEST.digest) == Outcome(reason="failed")

    def test_a_detail_that_is_not_plain_is_dropped(self) -> None:
        for written in (json.dumps({"reason": "oom: Name = Miller"}).encode(), notice("oom: Name = Miller")):
            assert read_notice(self.held(written), "alpha", REQUEST.digest) == Outcome(reason="oom")

    def test_whatever_a_job_ended_with_can_be_noticed(self) -> None:
        assert read_notice(self.held(notice("Miller")), "alpha", REQUEST.digest) == Outcome(reason="failed")
