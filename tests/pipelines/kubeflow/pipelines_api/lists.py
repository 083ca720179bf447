"""Lists as the API gives them: filtered, ordered, page by page."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.pipelines.kubeflow.pipelines_api.refusals import invalid

_FIELDS = {
    "pipelines": {"name", "display_name", "created_at", "pipeline_id"},
    "pipeline_versions": {"name", "display_name", "created_at", "pipeline_version_id", "description"},
    "experiments": {"name", "display_name", "created_at", "experiment_id", "storage_state"},
    "runs": {"name", "display_name", "created_at", "scheduled_at", "run_id", "state", "experiment_id"},
    "recurringRuns": {"name", "display_name", "created_at", "updated_at", "recurring_run_id"},
}
_QUERY = {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}
LARGEST_PAGE = 200


def page(field: str, found: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of the objects that a query asks for."""
    if unknown := set(query) - _QUERY:
        raise invalid(f"unknown query parameters {sorted(unknown)}")
    chosen = [each for each in found if _passes(each, query.get("filter", ""), _FIELDS[field])]
    key, _, order = query.get("sort_by", "").partition(" ")
    if key and (key not in _FIELDS[field] or order not in {"", "asc", "desc"}):
        raise invalid(f"Invalid sorting field: {query['sort_by']}")
    chosen.sort(key=lambda each: each.get(key or "created_at") or "", reverse=order == "desc")
    size = int(query.get("page_size") or 20)
    if size < 0:
        raise invalid("The page size should be greater than 0")
    same = {name: query.get(name, "") for name in ("filter", "sort_by", "namespace", "experiment_id")}
    digest = hashlib.sha256(json.dumps([field, same]).encode()).hexdigest()
    start = _start(query.get("page_token", ""), digest)
    end = start + min(size or 20, LARGEST_PAGE)
    told: dict[str, Any] = {field: chosen[start:end], "total_size": len(chosen)}
    if end < len(chosen):
        told["next_page_token"] = base64.b64encode(json.dumps([end, digest]).encode()).decode()
    return told


def _start(token: str, digest: str) -> int:
    if not token:
        return 0
    try:
        start, asked = json.loads(base64.b64decode(token))
    except ValueError:
        raise invalid("Invalid package token") from None
    if asked != digest:
        raise invalid("page token does not match the request")
    return int(start)


def _passes(found: Mapping[str, Any], text: str, fields: set[str]) -> bool:
    if not text:
        return True
    try:
        predicates = json.loads(text)["predicates"]
    except (ValueError, KeyError, TypeError):
        raise invalid("failed to parse the filter") from None
    for each in predicates:
        if set(each) - {"operation", "key", "stringValue", "string_value"}:
            raise invalid(f"unknown field in predicate {each}")
        if each["operation"] not in {"EQUALS", 1}:
            raise invalid(f"predicate operation {each['operation']} is not known here")
        if each["key"] not in fields:
            raise invalid(f"invalid filter key {each['key']}")
        # Names are compared as the database collates them.
        wanted = str(each.get("stringValue", each.get("string_value", ""))).lower()
        if str(found.get(each["key"], found.get("display_name", ""))).lower() != wanted:
            return False
    return True
