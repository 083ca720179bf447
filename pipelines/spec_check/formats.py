"""Findings for people, for programs, for code scanning (SARIF 2.1.0) and for GitHub's annotations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.images import VERSION
from pipelines.spec_check.findings import RULES, Finding, one_line

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_table(findings: Sequence[Finding], files: Sequence[Path]) -> str:
    """A line a finding, and one that counts them."""
    rows = [
        (f"{one_line(each.location.file)}:{each.location.line}", each.severity, each.rule, each.message)
        for each in findings
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    errors = sum(each.severity == "error" for each in findings)
    counts = [_counted(errors, "error"), _counted(len(findings) - errors, "warning")]
    return "\n".join([*lines, f"{_counted(len(files), 'spec')}: {', '.join(counts)}"])


def as_json(findings: Sequence[Finding], files: Sequence[Path]) -> str:
    """One object."""
    errors = sum(each.severity == "error" for each in findings)
    told = {
        "specs": [str(each) for each in files],
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [
            {
                "rule": each.rule,
                "severity": each.severity,
                "message": each.message,
                "file": each.location.file,
                "document": each.location.document,
                "path": each.location.json_path,
                "line": each.location.line,
            }
            for each in findings
        ],
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def as_github(findings: Sequence[Finding], files: Sequence[Path]) -> str:
    """Workflow commands, which GitHub shows beside the lines; nothing for no findings."""
    del files
    return "\n".join(
        f"::{each.severity} file={_property(each.location.file)},line={each.location.line},"
        f"title={_property(each.rule)}::{_escaped(each.message)}"
        for each in findings
    )


def as_sarif(findings: Sequence[Finding], files: Sequence[Path]) -> str:
    """One run, with every rule there is."""
    names = list(RULES)
    run = {
        "tool": {
            "driver": {
                "name": "crosscloud check",
                "version": VERSION,
                "rules": [
                    {
                        "id": rule.id,
                        "shortDescription": {"text": rule.text},
                        "defaultConfiguration": {"level": rule.severity},
                    }
                    for rule in RULES.values()
                ],
            }
        },
        "artifacts": [{"location": {"uri": _uri(str(each))}} for each in files],
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, names.index(each.rule)) for each in findings],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    where = finding.location
    same = f"{finding.rule}\n{where.document}\n{where.json_path}\n{finding.message}"
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(where.file)},
                    "region": {"startLine": where.line},
                },
                "logicalLocations": [{"fullyQualifiedName": where.json_path, "kind": "object"}],
            }
        ],
        # Without the line, so that code scanning knows a finding again once lines were added above it.
        "partialFingerprints": {"finding/v1": hashlib.sha256(same.encode()).hexdigest()},
    }


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
