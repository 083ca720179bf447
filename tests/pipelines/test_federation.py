"""The federation file as a model: defaults, rules between its parts, the schema for editors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components.errors import FederationFileError, UnknownSiteError, UsageError
from pipelines.federation import Federation, json_schema, load_federation
from tests.conftest import SmallFederation

FEDERATIONS = Path(__file__).parents[2] / "manifests/federations"
QUICKSTART = FEDERATIONS / "quickstart.yaml"


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(FederationFileError) as raised:
        load_federation(path)
    return raised.value.problems


def test_the_quick_start_is_four_hospitals_under_he() -> None:
    federation = load_federation(QUICKSTART)
    assert federation.site_names == ["gcp", "aws", "azure", "onprem"]
    assert len(federation.task.classes) == 21
    assert (federation.protection, federation.method, federation.head.hidden_units) == ("he", "he-fl", 0)
    assert federation.keys_uri == "hospitals/keys"
    assert {site.evaluation.release for site in federation.sites} == {"per_site"}


def test_the_schema_for_editors_is_the_one_beside_the_files() -> None:
    assert json.loads((FEDERATIONS / "federation.schema.json").read_text()) == json_schema()


def test_the_schema_accepts_the_quick_start_and_refuses_what_the_model_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document: dict[str, Any] = yaml.safe_load(QUICKSTART.read_text())
    assert list(validator.iter_errors(document)) == []
    document["quorum"]["min_sites"] = 1
    document["protection"] = "rot13"
    document["sites"][2]["colour"] = "blue"
    paths = sorted("/".join(map(str, error.absolute_path)) for error in validator.iter_errors(document))
    assert paths == ["protection", "quorum/min_sites", "sites/2"]


def test_what_the_file_leaves_out_is_careful(small_federation: Callable[..., SmallFederation]) -> None:
    """Sealed, figures kept at the site, an hour a step."""
    made = small_federation(rows=1)
    del made.document["protection"]
    for section in made.document["sites"]:
        del section["evaluation"]
    federation = load_federation(made.save())
    assert federation.protection == "he"
    assert {site.evaluation.release for site in federation.sites} == {"none"}
    assert {site.placement.deadline_seconds for site in federation.sites} == {3600}
    assert (federation.training.device, federation.training.algorithm) == ("auto", "fedavg")


def test_a_method_changes_the_protection_and_nothing_else(
    small_federation: Callable[..., SmallFederation],
) -> None:
    federation = load_federation(small_federation(rows=1).path)
    plain = federation.with_method("fedavg")
    assert (plain.protection, plain.method) == ("none", "fedavg")
    assert plain.with_method("he-fl") == federation
    with pytest.raises(UsageError, match="unknown method 'dp': known are fedavg, he-fl"):
        federation.with_method("dp")


def test_sites_are_found_by_name(small_federation: Callable[..., SmallFederation]) -> None:
    federation = load_federation(small_federation(rows=1).path)
    assert federation.site("beta").store_uri == "small/sites/beta/store"
    with pytest.raises(UnknownSiteError, match="unknown site 'delta': the federation has alpha, beta, gamma"):
        federation.site("delta")


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("s3://bucket/path", False),
        ("gs://bucket", False),
        ("abfs://container@account/path", False),
        ("file:///srv/state", False),
        ("state/of/small/", False),
        ("https://example.org/state", True),
        ("s3://", True),
        ("../elsewhere", True),
        ("simplecache::s3://bucket/path", True),
    ],
)
def test_stores_are_plain_addresses_of_known_schemes(
    small_federation: Callable[..., SmallFederation], uri: str, refused: bool
) -> None:
    made = small_federation(rows=1, state_uri=uri)
    if refused:
        (problem,) = problems(made.path)
        assert problem.startswith("state_uri: must be a p")
        assert repr(uri) in problem
    else:
        assert load_federation(made.path).state_uri == uri.rstrip("/")


def test_he_takes_64_sites(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=1)
    template = made.document["sites"][0]
    made.document["sites"] = [
        template | {"name": f"site-{number}", "store_uri": f"small/stores/{number}"} for number in range(65)
    ]
    assert problems(made.save()) == ("sites: he takes at most 64, got 65",)
    made.document["protection"] = "none"
    assert len(load_federation(made.save()).sites) == 65
    made.document["protection"] = "he"
    made.document["sites"].pop()
    assert len(load_federation(made.save()).sites) == 64


def test_rules_between_parts_are_told_with_those_of_parts(
    small_federation: Callable[..., SmallFederation],
) -> None:
    made = small_federation(rows=1, exchange_uri="small/state/exchange")
    made.document["task"]["classes"] = ["heart", "heart"]
    made.document["sites"][1]["name"] = "Beta!"
    told = problems(made.save())
    assert [problem.partition(":")[0] for problem in told] == ["task", "sites[1].name", "exchange_uri"]
    assert "classes must be distinct, heart stands twice" in told[0]
    assert "must lie apart from state_uri" in told[2]


def test_a_label_may_not_break_the_run_parameters_it_is_put_in(
    small_federation: Callable[..., SmallFederation],
) -> None:
    """Kubeflow pastes parameters into JSON unescaped."""
    made = small_federation(rows=1)
    made.document["task"]["classes"] = ['the "heart"', "lung\n", "skin", "back\\slash"]
    told = problems(made.save())
    assert [problem.partition(":")[0] for problem in told] == [f"task.classes[{n}]" for n in (0, 1, 3)]


def test_values_do_not_change(small_federation: Callable[..., SmallFederation]) -> None:
    federation = load_federation(small_federation(rows=1).path)
    with pytest.raises(ValueError, match="frozen"):
        setattr(federation, "protection", "none")  # noqa: B010  (mypy knows that it cannot be done)
    assert Federation.model_validate(federation.model_dump()) == federation
