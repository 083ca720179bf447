"""What the command says to people who have made a mistake: one line a problem, exit 2, nothing written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.images import VERSION
from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import typed


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


def everything_below(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in home.rglob("*")
    }


Spoil = Callable[[SmallFederation], None]


def rewrite(old: str, new: str) -> Spoil:
    def spoil(federation: SmallFederation) -> None:
        text = federation.path.read_text()
        assert old in text
        federation.path.write_text(text.replace(old, new, 1))

    return spoil


def put(*path: str | int, value: Any) -> Spoil:
    def spoil(federation: SmallFederation) -> None:
        section: Any = federation.document
        for part in path[:-1]:
            section = section[part]
        section[path[-1]] = value
        federation.save()

    return spoil


def sql(statement: str) -> Spoil:
    return put("sites", 1, "data", "sql", value=statement)


def no_mapping(federation: SmallFederation) -> None:
    federation.path.write_text("- small\n")


def a_file_in_the_way(federation: SmallFederation) -> None:
    (federation.home / "small/exchange").write_text("a file")


MISTAKES: dict[str, tuple[Spoil, str]] = {
    "bad YAML": (rewrite("federation: small", "federation: [small"), "small.yaml: is not YAML: "),
    "no mapping": (no_mapping, "small.yaml: must be a mapping of keys to values"),
    "no file": (lambda federation: federation.path.unlink(), "small.yaml: there is no such file"),
    "key twice": (
        rewrite("protection: sealed", "protection: sealed\nprotection: none"),
        "is not YAML: the key 'protection' stands twice",
    ),
    "unknown key": (
        put("quorum", "min_site", value=2),
        "quorum.min_site: Extra inputs are not permitted, got 2",
    ),
    "unknown value": (
        put("protection", value="rot13"),
        "protection: Input should be 'none', 'he', 'smc', 'masked' or 'sealed', got 'rot13'",
    ),
    "quorum of all and more": (
        put("quorum", "min_sites", value=4),
        "quorum.min_sites: must be at most the number of sites, 3, got 4",
    ),
    "one site's store in another's": (
        put("sites", 2, "store_uri", value="small/sites/alpha/store/gamma"),
        "sites[2].store_uri: must lie apart from sites[0].store_uri, got small/sites/alpha/store/gamma",
    ),
    "a name twice": (put("sites", 2, "name", value="alpha"), "sites: the name alpha stands twice"),
    "a role's name": (put("sites", 2, "name", value="key-holder"), "sites: key-holder is the name of a role"),
    "more examples than a sum has bits for": (
        put("limits", "max_examples", value=10**13),
        "limits: max_examples is 10000000000000: two digits of 3 sites hold at most ",
    ),
    "template without column": (put("task", "template", value="nothing"), "task.template: "),
    "SQL that is none": (sql("SELECT note FORM visits WHERE"), "sites[1].data.sql: line 1, column "),
    "two statements": (
        sql("SELECT note, organ, category FROM visits; SELECT 1"),
        "sites[1].data.sql: line 1, column 43: a second statement begins with 'SELECT'",
    ),
    "DELETE": (
        sql("DELETE FROM visits WHERE TRUE"),
        "sites[1].data.sql: line 1, column 1: 'DELETE' begins no SELECT",
    ),
    "no folder of an encoder": (
        put("encoder", "name", value="/nowhere/encoder"),
        "encoder.name: encoder /nowhere/encoder cannot be used: there is no such folder",
    ),
    "no package of an encoder": (
        put("encoder", "name", value="package:no_such_encoder"),
        "encoder.name: encoder package:no_such_encoder cannot be used: the package is not installed here",
    ),
    "wrong dimensions": (put("encoder", "dimensions", value=32), "has 16, the federation file says 32"),
    "a file in the store's way": (a_file_in_the_way, "exchange_uri: small/exchange cannot be written: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    small_federation: Callable[..., SmallFederation], say: Say, mistake: str
) -> None:
    federation = small_federation(rows=2)
    spoil, message = MISTAKES[mistake]
    spoil(federation)
    before = everything_below(federation.home)
    said = say("run", federation.path)
    (line,) = said.complaints
    assert message in line
    assert (said.code, said.out) == (2, "")
    assert everything_below(federation.home) == before


def test_all_problems_of_a_file_are_told_at_once(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    federation = small_federation(rows=2)
    del federation.document["task"]["label_column"]
    federation.document["head"] = {"hiden_units": 8}
    federation.document["training"]["learning_rate"] = -1
    federation.document["sites"][1]["data"]["sql"] = "DROP TABLE visits"
    federation.document["quorum"]["min_sites"] = 7
    federation.document["state_uri"] = "ftp://somewhere/state"
    federation.save()
    said = say("run", federation.path)
    assert said.code == 2
    told = [line.removeprefix(f"{federation.path}: ") for line in said.complaints]
    expected = [
        "task.label_column: Field required",
        "head.hiden_units: Extra inputs are not permitted",
        "training.learning_rate: Input should be greater than 0, got -1",
        "sites[1].data.sql: line 1, column 1: 'DROP' begins no SELECT",
        "state_uri: must be a path below CROSSCLOUD_HOME or one of file://, s3://, gs://, abfs://",
        "quorum.min_sites: must be at most the number of sites, 3, got 7",
    ]
    assert len(told) == len(expected)
    assert all(any(line.startswith(start) for line in told) for start in expected), told


def test_problems_of_the_machine_are_told_at_once_too(
    small_federation: Callable[..., SmallFederation], say: Say
) -> None:
    federation = small_federation(rows=2)
    put("encoder", "name", value="/nowhere/encoder")(federation)
    a_file_in_the_way(federation)
    (federation.home / "small/state").write_text("a file")
    said = say("run", federation.path)
    assert [line.partition(":")[0] for line in said.complaints] == [
        "encoder.name",
        "state_uri",
        "exchange_uri",
    ]
    assert said.code == 2


def test_an_unknown_method_is_named(small_federation: Callable[..., SmallFederation], say: Say) -> None:
    federation = small_federation(rows=2)
    before = everything_below(federation.home)
    for command in ("run", "compile"):
        said = say(command, federation.path, "--method", "magic")
        assert (said.code, said.complaints) == (
            2,
            ["unknown method 'magic': known are ours, sealed, fedavg, he-fl, smc-fl, masked, dp-fl"],
        )
    assert everything_below(federation.home) == before


def test_the_charter_of_another_federation_is_not_used(after_one_round: SmallFederation, say: Say) -> None:
    put("federation", value="other")(after_one_round)
    before = everything_below(after_one_round.home)
    said = say("run", after_one_round.path)
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(
        "federation: the federation file has other, the charter in force has small: change"
    )
    assert everything_below(after_one_round.home) == before


def test_a_new_site_needs_a_new_charter(after_one_round: SmallFederation, say: Say) -> None:
    section = json.loads(json.dumps(after_one_round.site("gamma")))
    section |= {"name": "delta", "store_uri": "small/sites/delta/store"}
    after_one_round.document["sites"].append(section)
    after_one_round.save()
    before = everything_below(after_one_round.home)
    said = say("run", after_one_round.path)
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(
        "sites: the federation file has alpha, beta, delta, gamma, the charter in force has alpha, beta"
    )
    assert everything_below(after_one_round.home) == before


def test_debug_shows_the_trace(small_federation: Callable[..., SmallFederation], say: Say) -> None:
    federation = small_federation(rows=2)
    put("quorum", "min_sites", value=4)(federation)
    plain = say("run", federation.path)
    assert (plain.code, len(plain.complaints)) == (2, 1)
    debugged = typed("--debug", "run", str(federation.path), home=federation.home)
    assert debugged.returncode != 0
    assert "Traceback (most recent call last)" in debugged.stderr
    assert "FederationFileError" in debugged.stderr


def test_a_report_of_nothing_is_refused(small_federation: Callable[..., SmallFederation], say: Say) -> None:
    federation = small_federation(rows=2)
    said = say("report", federation.path)
    assert said.code == 2
    assert said.complaints == ["small has no finished round yet: run one with 'crosscloud run'"]


def test_a_run_leaves_keys_charter_and_chain_in_order(after_one_round: SmallFederation, say: Say) -> None:
    cd = say("charter", "show", after_one_round.path).lines[1].removeprefix("cd  ")
    for words in (
        ("keys", "check", after_one_round.path),
        ("charter", "check", after_one_round.path),
        ("verify", "small/state", "--charter", cd),
    ):
        assert len(say(*words).lines) == 1
    (checkpoint,) = (after_one_round.home / "small/state/rounds/00001").glob("checkpoint-*")
    checkpoint.write_bytes(b"")
    said = say("verify", "small/state")
    assert (said.code, said.complaints) == (
        1,
        ["round 1: checkpoint: is not the model that the record names"],
    )


def test_version_and_help(say: Say) -> None:
    assert say("--version").out == f"crosscloud {VERSION}\n"
    said = say("--help")
    assert said.code == 0
    assert all(
        name in said.out
        for name in (
            "run",
            "compile",
            "report",
            "predict",
            "schema",
            "keys",
            "charter",
            "doctor",
            "check",
            "verify",
        )
    )
