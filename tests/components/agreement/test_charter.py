from __future__ import annotations

import base64
import hashlib
import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.agreement.charter import Charter, SitePublicKeys, least_sum_sites, raw_key, read_charter
from components.errors import SignatureError
from tests.components.agreement.signed_form import (
    AGREEMENT_KEYS,
    CHARTER,
    KEYS,
    NOISE,
    SITES,
    public_keys,
    secret_of,
)


def text_of(number: int) -> str:
    return base64.b64encode(secret_of(f"key {number}")).decode()


def of_sites(number: int, **changes: Any) -> Charter:
    """A charter of so many sites; nobody can sign it, its rules can be asked for."""
    keys = {
        f"s{k}": SitePublicKeys(signing=text_of(2 * k), agreement=text_of(2 * k + 1)) for k in range(number)
    }
    return changed(sites=keys, **changes)


def changed(**changes: Any) -> Charter:
    return replace(CHARTER, **changes)


def body_of(charter: Charter) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(charter.to_json())
    return body


def content_of(body: Any) -> bytes:
    """Canonical for the values of this charter: none of its numbers has an exponent."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


BODY = body_of(CHARTER)
ALPHA = BODY["sites"]["alpha"]


class TestQuorum:
    @pytest.mark.parametrize("colluding", range(4))
    @pytest.mark.parametrize("sites", range(3, 13))
    def test_the_smallest_sum_is_the_closed_form(self, sites: int, colluding: int) -> None:
        # Two sums of u sites share at least 2u - K; more than t of them means an honest site, which
        # agrees to one sum only. And two honest sites at least are in each.
        fits = [u for u in range(1, 40) if 2 * u - sites > colluding and u - colluding >= 2]
        assert least_sum_sites(sites, colluding) == fits[0]
        assert least_sum_sites(sites, colluding) == max(colluding + 2, (sites + colluding) // 2 + 1)

    @pytest.mark.parametrize("colluding", range(4))
    @pytest.mark.parametrize("sites", range(3, 13))
    def test_every_smaller_sum_is_refused(self, sites: int, colluding: int) -> None:
        least = max(colluding + 2, (sites + colluding) // 2 + 1)
        for least_sum in range(2, sites + 1):
            charter = of_sites(
                sites, colluding_sites=colluding, min_sum_sites=least_sum, min_sites=max(3, least_sum)
            )
            expected = [
                f"min_sum_sites must be at least {least} for {sites} sites of which {colluding} may collude, "
                f"got {least_sum}"
            ]
            assert charter.problems() == (expected if least_sum < least else [])

    @pytest.mark.parametrize(
        ("sites", "least_sum", "least_roster", "problem"),
        [
            (5, 4, 4, ""),
            (5, 4, 5, ""),
            (5, 4, 3, "min_sites must be at least 4, got 3"),
            (5, 4, 6, "min_sites must be at most the number of sites, 5, got 6"),
            (3, 4, 4, "min_sites must be at most the number of sites, 3, got 4"),
            (3, 2, 2, "min_sites must be at least 3, got 2"),
            (3, 2, 3, ""),
            (2, 2, 2, "min_sites must be at least 3, got 2"),
            (2, 2, 3, "min_sites must be at most the number of sites, 2, got 3"),
        ],
    )
    def test_the_roster_is_no_smaller_than_the_sum_or_three(
        self, sites: int, least_sum: int, least_roster: int, problem: str
    ) -> None:
        charter = of_sites(sites, colluding_sites=0, min_sum_sites=least_sum, min_sites=least_roster)
        assert problem in (charter.problems() or [""])
        assert bool(charter.problems()) == bool(problem)

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_without_the_seal_two_are_enough(self, protection: str) -> None:
        free = of_sites(5, protection=protection, min_sum_sites=2, min_sites=2)
        assert free.problems() == []
        assert replace(free, min_sum_sites=3).problems() == ["min_sites must be at least 3, got 2"]
        assert replace(free, min_sum_sites=1).problems() == [
            "min_sum_sites must be a whole number of at least 2, got 1"
        ]
        assert replace(of_sites(2), protection=protection, min_sum_sites=2, min_sites=2).problems() == []

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_federation_has_two_sites(self, number: int) -> None:
        assert f"a federation has at least 2 sites, got {number}" in of_sites(number).problems()

    def test_more_colluding_sites_than_it_can_stand(self) -> None:
        for least in (2, 3):
            assert replace(CHARTER, colluding_sites=2, min_sum_sites=least).problems()


class TestKeys:
    OWNERS = (*itertools.product(SITES, ("signing", "agreement")), ("coordinator", ""), ("key-holder", ""))

    @staticmethod
    def with_key(charter: Charter, owner: tuple[str, str], text: Any) -> Charter:
        name, kind = owner
        if kind:
            return replace(
                charter, sites={**charter.sites, name: replace(charter.sites[name], **{kind: text})}
            )
        return replace(charter, **{name.replace("-", "_"): text})

    @pytest.mark.parametrize(("one", "other"), list(itertools.combinations(OWNERS, 2)))
    def test_all_keys_of_all_parties_are_distinct(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        charter = self.with_key(self.with_key(CHARTER, one, text_of(1)), other, text_of(1))
        [problem] = charter.problems()
        assert problem.endswith("have the same public key, keys must be distinct")
        named = {f"{name} ({kind})" if kind else name for name, kind in (one, other)}
        assert set(problem.partition(" have")[0].split(" and ")) == named

    @pytest.mark.parametrize("owner", OWNERS)
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "no base64!",
            base64.b64encode(bytes(31)).decode(),
            base64.b64encode(bytes(33)).decode(),
            text_of(1).rstrip("="),
            text_of(1) + "\n",
            None,
            7,
            ["AA=="],
        ],
        ids=repr,
    )
    def test_a_key_is_32_bytes_in_base64(self, owner: tuple[str, str], text: Any) -> None:
        name = f"{owner[0]} ({owner[1]})" if owner[1] else owner[0]
        assert self.with_key(CHARTER, owner, text).problems() == [
            f"the key of {name} is not 32 bytes in base64"
        ]
        with pytest.raises(SignatureError, match="must be 32 bytes in base64"):
            raw_key(text)

    def test_are_read_by_owner(self) -> None:
        for owner in (*SITES, "coordinator", "key-holder"):
            assert CHARTER.key(owner).public_bytes_raw() == KEYS[owner].public_key().public_bytes_raw()
        for site in SITES:
            expected = AGREEMENT_KEYS[site].public_key().public_bytes_raw()
            assert CHARTER.agreement_key(site) == expected

    @pytest.mark.parametrize("stranger", ["delta", "", "aggregator", "key_holder"])
    def test_a_stranger_has_none(self, stranger: str) -> None:
        with pytest.raises(SignatureError, match=f"^{stranger} has no public key in the charter of paper$"):
            CHARTER.key(stranger)

    def test_sites_and_the_key_holder_sign(self) -> None:
        backwards = replace(CHARTER, sites=dict(reversed(list(CHARTER.sites.items()))))
        assert backwards.site_names == SITES
        assert backwards.signers == (*SITES, "key-holder")


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *("", "Alpha", "1a", "-a", "a-", "a_b", "a.b", "a/b", "a b", "é", "a\n", "a" * 41, "../a"),
            *("coordinator", "key-holder", "aggregator"),
        ],
    )
    def test_what_is_no_name_of_a_site_is_refused(self, name: str) -> None:
        charter = replace(CHARTER, sites={**CHARTER.sites, name: public_keys("delta")}, min_sum_sites=3)
        assert charter.problems() == [f"{name!r} is not a name of a site"]

    @pytest.mark.parametrize("name", ["a", "a1", "gcp-europe-west4", "a" * 40, "coordinator-2"])
    def test_a_name_of_a_site(self, name: str) -> None:
        assert replace(CHARTER, sites={**CHARTER.sites, name: public_keys("delta")}).problems() == []


LEAST = {
    "edition": 1,
    "rotation_rounds": 1,
    "colluding_sites": 0,
    "min_sum_sites": 2,
    "min_sites": 2,
    "max_examples": 1,
    "local_epochs": 1,
    "batch_size": 1,
    "max_rounds": 1,
}


class TestNumbers:
    def test_the_charter_on_paper_keeps_all_rules(self) -> None:
        assert CHARTER.problems() == []

    @pytest.mark.parametrize("name", LEAST)
    def test_whole_numbers_have_a_least_value(self, name: str) -> None:
        for value in (LEAST[name] - 1, -5, True, 2.5, 3.0, "3", None):
            text = f"{name} must be a whole number of at least {LEAST[name]}, got {value!r}"
            assert text in changed(**{name: value}).problems()
        # A quorum has rules of its own; what is least otherwise is enough.
        if "sites" not in name:
            assert changed(**{name: LEAST[name]}).problems() == []

    @pytest.mark.parametrize("name", ["clipping_norm", "largest_value", "learning_rate"])
    @pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), True, "1", None], ids=repr)
    def test_other_numbers_are_finite_and_above_zero(self, name: str, value: Any) -> None:
        text = f"{name} must be a finite number above 0, got {value!r}"
        assert replace(CHARTER, **{name: value}).problems() == [text]

    def test_a_coordinate_is_no_longer_than_its_vector(self) -> None:
        assert replace(CHARTER, largest_value=CHARTER.clipping_norm).problems() == []
        assert replace(CHARTER, largest_value=2.51).problems() == [
            "largest_value must be at most clipping_norm, 2.5, got 2.51"
        ]

    @pytest.mark.parametrize("value", [0, 3, 1.5, "2", None, True], ids=repr)
    def test_one_or_two_values_a_slot(self, value: Any) -> None:
        assert replace(CHARTER, values_per_slot=value).problems() == [
            f"values_per_slot must be 1 or 2, got {value!r}"
        ]

    def test_all_problems_are_told_at_once(self) -> None:
        charter = replace(CHARTER, coordinator=CHARTER.key_holder, max_rounds=0, min_sum_sites=2)
        assert [problem.split()[0] for problem in charter.problems()] == [
            "coordinator",
            "max_rounds",
            "min_sum_sites",
        ]


class TestTexts:
    @pytest.mark.parametrize("name", ["federation", "protection", "algorithm", "server_optimizer"])
    @pytest.mark.parametrize("value", ["", None, 7, ["sealed"]], ids=repr)
    def test_names_are_text(self, name: str, value: Any) -> None:
        assert f"{name} must be text, got {value!r}" in changed(**{name: value}).problems()

    @pytest.mark.parametrize("name", ["genesis", "encoder", "previous", "public_corpus"])
    @pytest.mark.parametrize("value", ["9e", "9E" * 32, "9e" * 33, None, 7], ids=repr)
    def test_models_and_editions_are_named_by_their_digests(self, name: str, value: Any) -> None:
        text = f"{name} must be a SHA-256 in 64 hexadecimal digits, got {value!r}"
        assert text in changed(**{name: value}).problems()

    def test_the_first_edition_follows_from_none_and_every_other_from_one(self) -> None:
        for edition, previous in ((1, "9e" * 32), (2, ""), (7, "")):
            [problem] = changed(edition=edition, previous=previous).problems()
            assert problem.startswith("previous must be the digest of the edition before")
        assert changed(edition=2, previous="9e" * 32).problems() == []
        assert changed(genesis="").problems() == [
            "genesis must name the model that the first round starts from"
        ]


class TestRestart:
    def test_a_later_edition_may_go_back(self) -> None:
        assert changed(edition=2, previous="ab" * 32, restart="cd" * 32).problems() == []

    def test_the_first_has_nothing_to_take_back(self) -> None:
        (problem,) = changed(restart="cd" * 32).problems()
        assert problem == "restart must be empty in the first edition: there is no round to take back"

    @pytest.mark.parametrize("value", ["cd" * 31, "CD" * 32, None, 7])
    def test_it_is_a_digest(self, value: Any) -> None:
        (problem,) = changed(edition=2, previous="ab" * 32, restart=value).problems()
        assert problem.startswith("restart must be a SHA-256 in 64 hexadecimal digits, got ")

    def test_a_charter_without_it_has_one_form(self) -> None:
        """Charters of before there was a word for it are read; a second spelling of them is not."""
        assert b"restart" not in CHARTER.to_json()
        with pytest.raises(SignatureError, match="not in the form this version knows"):
            read_charter(content_of(asdict(CHARTER)))
        back = changed(edition=2, previous="ab" * 32, restart="cd" * 32)
        assert read_charter(back.to_json()) == back


class TestForm:
    def test_what_is_written_is_read(self) -> None:
        assert read_charter(CHARTER.to_json()) == CHARTER
        assert CHARTER.to_json() == content_of(body_of(CHARTER))
        assert read_charter(CHARTER.to_json()).digest == CHARTER.digest

    def test_the_digest_is_over_the_canonical_form(self) -> None:
        body = asdict(CHARTER) | {
            "sites": {
                site: {"agreement": keys.agreement, "signing": keys.signing}
                for site, keys in CHARTER.sites.items()
            }
        }
        # What takes no round back and projects nothing is written as before there was a word for it.
        assert (body.pop("restart"), body.pop("projection")) == ("", "")
        assert CHARTER.digest == hashlib.sha256(content_of(body)).hexdigest()
        backwards = dict(reversed(list(CHARTER.sites.items())))
        assert replace(CHARTER, sites=backwards).digest == CHARTER.digest

    def test_every_field_is_in_the_digest(self) -> None:
        others = []
        for name, value in asdict(CHARTER).items():
            if name == "sites":
                others.append(replace(CHARTER, sites={**CHARTER.sites, "delta": public_keys("delta")}))
                swapped = {**CHARTER.sites, "alpha": CHARTER.sites["beta"], "beta": CHARTER.sites["alpha"]}
                others.append(replace(CHARTER, sites=swapped))
            elif name == "privacy":
                others.append(replace(CHARTER, privacy=NOISE))
            else:
                other = value + "0" if isinstance(value, str) else value + 1
                others.append(changed(**{name: other}))
        assert len(others) == len(asdict(CHARTER)) + 1
        assert len({CHARTER.digest, *(charter.digest for charter in others)}) == 1 + len(others)

    @given(position=st.integers(0, len(CHARTER.to_json()) - 1), byte=st.integers(0, 255))
    def test_an_altered_byte_is_refused_or_another_charter(self, position: int, byte: int) -> None:
        content = CHARTER.to_json()
        altered = content[:position] + bytes([byte]) + content[position + 1 :]
        try:
            found = read_charter(altered)
        except SignatureError:
            return
        assert (found.digest == CHARTER.digest) == (altered == content)
        assert found.digest == hashlib.sha256(altered).hexdigest()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff",
            b"[]",
            b"null",
            b"7",
            b"[" * 100_000,
            json.dumps(BODY, sort_keys=True).encode(),
            content_of(BODY) + b"\n",
            content_of(dict(BODY))[:-1] + b',"edition":1}',
            *(content_of({key: value for key, value in BODY.items() if key != name}) for name in BODY),
            content_of(BODY | {"hint": "x"}),
            content_of(BODY | {"sites": BODY["sites"] | {"alpha": ALPHA | {"hint": "x"}}}),
            content_of(BODY | {"sites": BODY["sites"] | {"alpha": {"signing": ALPHA["signing"]}}}),
            content_of(BODY | {"sites": BODY["sites"] | {"alpha": None}}),
            content_of(BODY | {"sites": list(SITES)}),
            content_of(BODY | {"sites": None}),
            content_of(BODY | {"format": 2}),
            content_of(BODY | {"format": 0}),
            content_of(BODY | {"format": True}),
            content_of(BODY | {"max_rounds": 2**53}),
            content_of(BODY).replace(b'"clipping_norm":2.5', b'"clipping_norm":2.50'),
            content_of(BODY).replace(b'"clipping_norm":2.5', b'"clipping_norm":NaN'),
        ],
    )
    def test_another_form_is_refused(self, content: bytes) -> None:
        with pytest.raises(SignatureError, match=r"^a charter is not in the form this version knows$"):
            read_charter(content)

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("max_rounds", 0, "max_rounds must be a whole number"),
            ("max_rounds", "12", "max_rounds must be a whole number"),
            ("min_sum_sites", 2, "min_sum_sites must be at least 3"),
            ("min_sites", None, "min_sites must be a whole number"),
            ("coordinator", "", "the key of coordinator is not 32 bytes"),
            ("largest_value", 3, "largest_value must be at most"),
            ("sites", {}, "a federation has at least 2 sites, got 0"),
        ],
    )
    def test_a_broken_rule_is_told(self, name: str, value: Any, problem: str) -> None:
        with pytest.raises(SignatureError, match=f"^the charter of paper breaks a rule: {problem}"):
            read_charter(content_of(BODY | {name: value}))
