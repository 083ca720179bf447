"""Site policies of a local federation: the first one, its owner's changes, and what they stop."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from components.agreement.charter_book import charter_in_force
from components.agreement.data_policy import BigQueryPolicy, DriftRules, MaskingRules, QueryParameter
from components.agreement.key_certificate import certified_keys
from components.agreement.site_policy import SitePolicy, load_policy
from components.errors import UsageError
from pipelines.charter_check import charter_problems
from pipelines.charter_comparison import policy_problems
from pipelines.chartering import (
    ensure_charter,
    first_policy,
    propose_charter,
    sign_charter,
    unsigned,
)
from pipelines.federation import load_federation
from tests.conftest import SITES
from tests.pipelines.chartered import KEYS, SIGNERS, Chartered, content
from tests.pipelines.command_line import Say, say_here


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_as(task: dict[str, Any]) -> str:
    """The digest of a task without declared columns: its keys in order, without blanks."""
    described = {
        "classes": task["classes"],
        "columns": [],
        "label_column": task["label_column"],
        "split_column": task["split"]["column"],
        "template": task["template"],
        "test_fraction": task["split"]["test_fraction"],
    }
    return sha256(json.dumps(described, separators=(",", ":"), ensure_ascii=False))


@pytest.mark.parametrize("site", SITES)
def test_a_first_policy_is_exactly_what_the_sites_section_needs(chartered: Chartered, site: str) -> None:
    chartered.made.site("beta")["evaluation"] = {"release": "none"}
    federation = load_federation(chartered.made.save())
    section = chartered.made.site(site)
    assert first_policy(federation, chartered.charter, site) == SitePolicy(
        charter=chartered.charter.digest,
        protections=("sealed",),
        queries=(sha256(section["data"]["sql"]),),
        tasks=(read_as(chartered.made.document["task"]),),
        stores=(f"small/sites/{site}/store", "small/exchange"),
        encoder=chartered.made.document["encoder"]["digest"],
        peers=(),
        rounds_a_day=None,
        evaluation="none" if site == "beta" else "per_site",
    )


def test_the_key_holders_policy_is_the_charter_alone(chartered: Chartered) -> None:
    assert first_policy(chartered.federation, chartered.charter, "key-holder") == SitePolicy(
        charter=chartered.charter.digest
    )


def test_signing_changes_nothing_but_the_pins_of_a_policy_that_its_owner_has_edited(
    chartered: Chartered,
) -> None:
    """The edition in force goes on until all have signed the next one, so both are pinned meanwhile."""
    path = chartered.policy("beta")
    edited = path.read_text().replace("rounds_a_day: null", "rounds_a_day: 3  # the board's decision of May")
    edited += "# charter: is what we have pinned above\n"
    path.write_text(edited)
    editions = [chartered.charter]
    for number in (1, 2):
        editions.append(propose_charter(chartered.changed("limits", "max_examples", to=500 + number)))
        policies = [sign_charter(chartered.federation, editions[-1], signer) for signer in SIGNERS]
        policy = policies[SIGNERS.index("beta")]
        assert (policy.charter, policy.next_charter) == (editions[-2].digest, editions[-1].digest)
        assert load_policy(KEYS, "beta") == policy
        assert policy.rounds_a_day == 3
        assert without_pins(path.read_text()) == without_pins(edited)
        assert path.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []
        assert ensure_charter(chartered.federation) == editions[-1]
        # What everybody has pinned as the next is in order once it is the one in force.
        assert charter_problems(chartered.federation) == []


def without_pins(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("charter: ", "next_charter: "))]


def test_renewing_writes_the_policy_that_the_file_needs_now(chartered: Chartered) -> None:
    path = chartered.policy("beta")
    path.write_text(path.read_text() + "# by hand\n")
    sql = "SELECT note, organ, category FROM visits WHERE id > 3"
    federation = chartered.changed("sites", 1, "data", "sql", to=sql)
    assert len(policy_problems(federation, chartered.charter)) == 1
    policy = sign_charter(federation, chartered.charter, "beta", renew_policy=True)
    assert policy == first_policy(federation, chartered.charter, "beta")
    assert policy.queries == (sha256(sql),)
    assert path.read_bytes() == policy.to_yaml()
    assert policy_problems(federation, chartered.charter) == []


def forbid(chartered: Chartered, site: str) -> bytes:
    """The site's people have thought about it: sealed, or nothing."""
    policy = chartered.policy(site)
    assert "protections:\n- sealed\n" in policy.read_text()
    policy.write_text(policy.read_text() + "# he shows single updates to whoever holds the key\n")
    return policy.read_bytes()


def test_a_site_whose_policy_forbids_he_does_not_sign_a_charter_of_it(chartered: Chartered) -> None:
    kept = forbid(chartered, "alpha")
    second = propose_charter(chartered.changed("protection", to="he"))
    with pytest.raises(UsageError) as raised:
        sign_charter(chartered.federation, second, "alpha")
    text = "alpha does not sign: the site's policy accepts protection sealed, the charter has he. Change "
    assert str(raised.value).startswith(text)
    assert chartered.policy("alpha").read_bytes() == kept
    assert "alpha" in unsigned(chartered.federation, second)
    assert charter_in_force(KEYS) == chartered.charter


def test_a_policy_that_was_written_anew_accepts_what_the_file_asks_for(chartered: Chartered) -> None:
    second = propose_charter(chartered.changed("protection", to="he"))
    for signer in SIGNERS:
        policy = sign_charter(chartered.federation, second, signer, renew_policy=True)
        assert policy.protections == (() if signer == "key-holder" else ("he",))
    assert ensure_charter(chartered.federation) == second
    assert len(certified_keys(KEYS, second, "he")) == 1


def test_nobody_signs_for_keys_that_the_charter_does_not_name(chartered: Chartered) -> None:
    second = propose_charter(chartered.changed("limits", "max_examples", to=500))
    folder = chartered.made.home / KEYS / "alpha"
    shutil.copy(folder.with_name("beta") / "signing.key", folder / "signing.key")
    kept = chartered.policy("alpha").read_bytes()
    with pytest.raises(UsageError, match=r"names another key for alpha than this one: do not sign it"):
        sign_charter(chartered.federation, second, "alpha")
    assert chartered.policy("alpha").read_bytes() == kept
    assert "alpha" in unsigned(chartered.federation, second)


def edit(name: str, value: Any) -> Callable[[Chartered], None]:
    """What alpha's people write into their policy."""

    def spoil(chartered: Chartered) -> None:
        document = yaml.safe_load(chartered.policy("alpha").read_text()) | {name: value}
        chartered.policy("alpha").write_text(yaml.safe_dump(document))

    return spoil


def change(*path: Any, to: Any) -> Callable[[Chartered], None]:
    """What the federation file says of alpha from now on."""

    def spoil(chartered: Chartered) -> None:
        chartered.changed("sites", 0, *path, to=to)

    return spoil


TERMS = {
    "location": "EU",
    "maximum_bytes_billed": 10**9,
    "parameters": {"first": {"type": "INT64", "value": 7}},
}
ON_BIGQUERY = {
    "source": "bigquery",
    "uri": "bigquery://demo/clinic",
    "sql": "SELECT note, organ, category FROM visits WHERE id >= @first",
    "bigquery": TERMS,
}


def test_the_first_policy_of_a_bigquery_site_is_its_section_and_allows_nothing_beyond(
    chartered: Chartered,
) -> None:
    federation = chartered.changed("sites", 0, "data", to=ON_BIGQUERY)
    policy = first_policy(federation, chartered.charter, "alpha")
    assert policy.bigquery == BigQueryPolicy(
        project="demo",
        dataset="clinic",
        location="EU",
        maximum_bytes_billed=10**9,
        parameters={"first": QueryParameter(type="INT64", value="7")},
        data_residency=None,
        allowed_tagged_columns=(),
    )
    assert (policy.drift, policy.masking) == (DriftRules(), MaskingRules())
    policy.require_warehouse("bigquery", "bigquery://demo/clinic")
    assert first_policy(federation, chartered.charter, "beta").bigquery is None


def test_terms_that_the_file_says_otherwise_are_told_one_a_line(chartered: Chartered) -> None:
    federation = chartered.changed("sites", 0, "data", to=ON_BIGQUERY)
    sign_charter(federation, chartered.charter, "alpha", renew_policy=True)
    assert policy_problems(federation, chartered.charter) == []
    first = {"first": {"type": "INT64", "value": 8}}
    other = TERMS | {"maximum_bytes_billed": 2 * 10**9, "parameters": first}
    changed = chartered.changed("sites", 0, "data", to=ON_BIGQUERY | {"bigquery": other})
    lines = policy_problems(changed, chartered.charter)
    assert [line.split(", which")[0].removeprefix("alpha: bigquery.") for line in lines] == [
        "maximum_bytes_billed: the federation file has 2000000000, the site's policy 1000000000",
        "parameters: the federation file has first INT64 8, the site's policy first INT64 7",
    ]
    moved = chartered.changed("sites", 0, "data", to=ON_BIGQUERY | {"uri": "bigquery://other/clinic"})
    (line,) = policy_problems(moved, chartered.charter)
    assert "the warehouse bigquery://other/clinic is not the one that the site's policy names" in line


REFUSED: dict[str, tuple[Callable[[Chartered], None], str]] = {
    "another query": (
        change("data", "sql", to="SELECT note, organ, category FROM visits WHERE organ != 'skin'"),
        "is not one the site's policy admits",
    ),
    "another task": (edit("tasks", ["0" * 64]), "is not one the site's policy admits: its people add the"),
    "another store": (
        change("store_uri", to="small/elsewhere"),
        "the address small/elsewhere is not below one that the site's policy admits",
    ),
    "an exchange that is not admitted": (
        edit("stores", ["small/sites/alpha"]),
        "the address small/exchange is not below one that the site's policy admits",
    ),
    "figures in the open": (
        edit("evaluation", "none"),
        "the site's policy does not allow its figures to be published per_site",
    ),
    "a protection that is forbidden": (
        edit("protections", ["none"]),
        "the site's policy accepts protection none, the charter has sealed",
    ),
    "no protection at all": (edit("protections", []), "accepts protection none at all, the charter has"),
    "another charter": (edit("charter", "0" * 64), "pins another charter than the one in force"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_policy_would_refuse_is_told_before_the_run(chartered: Chartered, say: Say, what: str) -> None:
    spoil, text = REFUSED[what]
    spoil(chartered)
    before = content(chartered.made.home)
    said = say("run", chartered.made.path)
    (line,) = said.complaints
    assert (said.code, said.out) == (2, "")
    assert line.startswith("alpha: ")
    assert text in line
    assert os.fspath(chartered.policy("alpha").relative_to(chartered.made.home)) in line
    assert content(chartered.made.home) == before


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("template",), "seen: {note}"),
        (("label_column",), "patient"),
        (("split", "column"), "note"),
        (("split", "test_fraction"), 0.007),
        (("classes",), ["one", "another"]),
        (("columns",), [{"name": "note", "type": "STRING", "allowed_values": ["a"]}]),
    ],
    ids=lambda each: ".".join(each) if isinstance(each, tuple) else "",
)
def test_every_site_is_told_that_the_file_asks_for_another_task(
    chartered: Chartered, path: tuple[str, ...], to: Any
) -> None:
    problems = policy_problems(chartered.changed("task", *path, to=to), chartered.charter)
    assert [problem.split(": the task with digest ")[0] for problem in problems] == list(SITES)
    (digest,) = {problem.split()[5] for problem in problems}
    assert re.fullmatch("[0-9a-f]{64}", digest), "what its people add is told in full"


@pytest.mark.parametrize("method", ["he-fl", "fedavg"])
def test_a_run_under_another_method_is_refused_in_the_same_home(
    chartered: Chartered, say: Say, method: str
) -> None:
    forbid(chartered, "alpha")
    before = content(chartered.made.home)
    said = say("run", chartered.made.path, "--method", method)
    asked = {"he-fl": "he", "fedavg": "none"}[method]
    (line,) = said.complaints
    assert (said.code, said.out) == (2, "")
    text = f"protection: the federation file has {asked}, the charter in force has sealed: change the file"
    assert line.startswith(text)
    assert content(chartered.made.home) == before
