from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from components.errors import ObjectMissingError, SignatureError
from components.site_steps.request import MAX_REQUEST_BYTES, StepRequest, read_request, request_key
from tests.components.agreement.signed_form import KEYS, SITES, Held, SignedForm
from tests.components.site_steps.paper import PAPER, REQUEST


def found(document: bytes, *, site: str = "alpha", named: str = REQUEST.digest) -> StepRequest:
    return read_request(Held({request_key(site, named): document}), site, named, PAPER)


class TestStepRequest(SignedForm):
    domain = "step request"
    signer = "coordinator"
    form = REQUEST

    def read(self, document: bytes) -> StepRequest:
        # Under the name that the content asks for, so that what is refused is the content.
        return found(document)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("deadline_s", "20"),
            ("deadline_s", 0),
            ("deadline_s", True),
            ("arguments", []),
            ("accelerators", -1),
            ("attempt", 0),
            ("format", 2),
            ("step", 3),
        ],
    )
    def test_another_form_is_refused(self, name: str, value: object) -> None:
        with pytest.raises(SignatureError, match="not in the form this version knows"):
            found(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize(
        "change",
        [{"step": "seal"}, {"arguments": {}}, {"attempt": 2}, {"deadline_s": 21}, {"accelerators": 1}],
    )
    def test_another_request_under_its_name_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(SignatureError, match="is not the one of this name"):
            found(self.signed(self.body() | change))

    @pytest.mark.parametrize("change", [{"site": "beta"}, {"charter": "00" * 32}])
    def test_what_is_for_another_site_or_charter_is_refused(self, change: dict[str, str]) -> None:
        other = replace(REQUEST, **change)  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match="is for another site or charter"):
            found(other.signed(KEYS["coordinator"]), named=other.digest)

    def test_one_that_is_too_large_is_refused(self) -> None:
        large = replace(REQUEST, arguments={"features": "x" * MAX_REQUEST_BYTES})
        with pytest.raises(Exception, match=request_key("alpha", large.digest)):
            found(large.signed(KEYS["coordinator"]), named=large.digest)

    def test_one_that_is_not_there_is_missing(self) -> None:
        with pytest.raises(ObjectMissingError):
            read_request(Held({}), "alpha", REQUEST.digest, PAPER)


def test_the_same_step_makes_the_same_request_and_any_other_another() -> None:
    again = StepRequest(**json.loads(json.dumps(asdict(REQUEST))))
    assert again.digest == REQUEST.digest
    assert again.signed(KEYS["coordinator"]) == REQUEST.signed(KEYS["coordinator"])
    others = [replace(REQUEST, site=site) for site in SITES[1:]]
    others += [replace(REQUEST, attempt=2), replace(REQUEST, ticket="exchange/other")]
    others += [replace(REQUEST, arguments={"features": "store/others"}), replace(REQUEST, step="adapt")]
    assert len({each.digest for each in others} | {REQUEST.digest}) == len(others) + 1
