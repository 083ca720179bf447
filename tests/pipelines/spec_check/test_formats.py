"""What the findings are written as, for those who read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pipelines.spec_check.findings import RULES, Finding, Location
from pipelines.spec_check.formats import as_github, as_json, as_sarif, as_table

ODD_FILE = "odd, folder/50%:a b.yaml"


def finding(rule: str, message: str, *, file: str = "build/round.yaml", line: int = 7) -> Finding:
    location = Location(file=file, document=1, json_path="$.root", line=line)
    return Finding(rule=rule, severity=RULES[rule].severity, message=message, location=location)


FOUND = [
    finding("image-unpinned", "'x:latest' can change: give a version"),
    finding("component-unused", "100% may run as root", file=ODD_FILE, line=12),
]
FILES = [Path("build/round.yaml"), Path(ODD_FILE)]


def test_the_table_lines_up_and_counts() -> None:
    lines = as_table(FOUND, FILES).splitlines()
    assert lines == [
        "build/round.yaml:7           error    image-unpinned    'x:latest' can change: give a version",
        "odd, folder/50%:a b.yaml:12  warning  component-unused  100% may run as root",
        "2 specs: 1 error, 1 warning",
    ]
    assert as_table([], FILES[:1]) == "1 spec: 0 errors, 0 warnings"


def test_json_says_all_of_a_finding() -> None:
    told = json.loads(as_json(FOUND, FILES))
    assert (told["specs"], told["errors"], told["warnings"]) == ([str(each) for each in FILES], 1, 1)
    assert told["findings"][1] == {
        "rule": "component-unused",
        "severity": "warning",
        "message": "100% may run as root",
        "file": ODD_FILE,
        "document": 1,
        "path": "$.root",
        "line": 12,
    }


def test_github_reads_back_what_was_written() -> None:
    """By GitHub's own rules: values of properties escape `:` and `,` as well."""
    lines = as_github(FOUND, FILES).splitlines()
    assert lines[1] == (
        "::warning file=odd%2C folder/50%25%3Aa b.yaml,line=12,title=component-unused::100%25 may run as root"
    )
    for line, each in zip(lines, FOUND, strict=True):
        command, _, message = line.removeprefix("::").partition("::")
        level, _, properties = command.partition(" ")
        read = dict(each.split("=", 1) for each in properties.split(","))
        assert (level, unquote(message)) == (each.severity, each.message)
        assert (unquote(read["file"]), int(read["line"])) == (each.location.file, each.location.line)
    assert as_github([], FILES) == ""


@pytest.fixture
def sarif() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(as_sarif(FOUND, FILES))
    return document


def test_sarif_has_what_the_standard_requires(sarif: dict[str, Any]) -> None:
    """SARIF 2.1.0: sections 3.13 (log), 3.14 (run), 3.18–3.19 (tool), 3.49 (rules), 3.27 (results)."""
    assert sarif["version"] == "2.1.0"
    (run,) = sarif["runs"]
    driver = run["tool"]["driver"]
    assert isinstance(driver["name"], str)
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(RULES)
    levels = {"none", "note", "warning", "error"}
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["defaultConfiguration"]["level"] in levels
    assert run["columnKind"] in {"utf16CodeUnits", "unicodeCodePoints"}
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in levels
        assert ids[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"]["startLine"] >= 1


def test_sarif_addresses_are_relative_and_encoded(sarif: dict[str, Any]) -> None:
    results = sarif["runs"][0]["results"]
    uris = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results]
    assert uris == ["build/round.yaml", "odd%2C%20folder/50%25%3Aa%20b.yaml"]
    assert [each["location"]["uri"] for each in sarif["runs"][0]["artifacts"]] == uris
    absolute = json.loads(as_sarif([finding("caching", "on", file="/a b/c.yaml")], [Path("/a b/c.yaml")]))
    assert absolute["runs"][0]["artifacts"][0]["location"]["uri"] == "file:///a%20b/c.yaml"


def test_a_finding_is_known_again_when_its_line_moves() -> None:
    def prints(line: int, message: str) -> str:
        document = json.loads(as_sarif([finding("caching", message, line=line)], FILES))
        return str(document["runs"][0]["results"][0]["partialFingerprints"]["finding/v1"])

    assert prints(3, "on") == prints(9, "on")
    assert prints(3, "on") != prints(3, "off")
