"""The federation file: every problem at once, each with its path, value and rule."""

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
from pipelines.quickstart.corpus import CLASSES
from tests.conftest import SmallFederation

SHIPPED = Path("manifests/federations")
Change = Callable[[dict[str, Any]], None]


def set_in(*path: Any, to: Any) -> Change:
    """A change of the value at a path of keys and positions."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def problems(path: Path) -> list[str]:
    with pytest.raises(FederationFileError) as caught:
        load_federation(path)
    prefix = f"{path}: "
    assert all(line.startswith(prefix) for line in str(caught.value).splitlines())
    return [line.removeprefix(prefix) for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("change", "start", "parts"),
    [
        (set_in("training", "learning_rate", to=-1), "training.learning_rate:", ["greater than 0", "-1"]),
        (set_in("training", "epochs", to=3), "training.epochs:", ["not permitted"]),
        (set_in("protection", to="rot13"), "protection:", ["'none' or 'he'", "rot13"]),
        (set_in("quorum", "min_sites", to=1), "quorum.min_sites:", ["greater than or equal to 2", "1"]),
        (set_in("quorum", "min_sites", to=4), "quorum.min_sites:", ["at most the number of sites, 3", "4"]),
        (set_in("sites", 1, "name", to="alpha"), "sites:", ["alpha stands twice"]),
        (set_in("sites", 1, "name", to="coordinator"), "sites:", ["coordinator is the name of a role"]),
        (set_in("sites", 1, "name", to="Beta!"), "sites[1].name:", ["pattern", "Beta!"]),
        (set_in("sites", 0, "data", "sql", to="DELETE FROM visits"), "sites[0].data.sql:", ["SELECT"]),
        (set_in("sites", 0, "data", "sql", to="SELECT 1; SELECT 2"), "sites[0].data.sql:", ["second"]),
        (set_in("sites", 0, "data", "sql", to="SELECT ( FROM"), "sites[0].data.sql:", ["line 1"]),
        (set_in("sites", 0, "store_uri", to="ftp://x/y"), "sites[0].store_uri:", ["s3://", "ftp://x/y"]),
        (set_in("sites", 0, "store_uri", to="../up"), "sites[0].store_uri:", ["..", "../up"]),
        (set_in("sites", 0, "store_uri", to="small/state/x"), "sites[0].store_uri:", ["from state_uri"]),
        (set_in("exchange_uri", to="small/state"), "exchange_uri:", ["apart from state_uri"]),
        (set_in("task", "classes", to=["heart", "heart"]), "task:", ["heart stands twice"]),
        (set_in("task", "template", to="no column"), "task.template:", ["no column", "names no column"]),
        (set_in("task", "label_column", to="note"), "task:", ["read the answer"]),
        (set_in("task", "split", "test_fraction", to=1.5), "task.split.test_fraction:", ["than 1", "1.5"]),
        (set_in("encoder", "digest", to="abc"), "encoder.digest:", ["pattern", "abc"]),
        (set_in("federation", to="A b"), "federation:", ["pattern", "A b"]),
    ],
)  # fmt: skip
def test_a_broken_rule_is_one_line_with_path_and_value(
    small_federation: Callable[..., Any], change: Change, start: str, parts: list[str]
) -> None:
    made = small_federation()
    change(made.document)
    (line,) = problems(made.save())
    assert line.startswith(start)
    for part in parts:
        assert part in line


def test_all_problems_are_told_at_once(small_federation: Callable[..., Any]) -> None:
    made = small_federation()
    for change in (
        set_in("training", "learning_rate", to=0),
        set_in("quorum", "min_sites", to=9),
        set_in("sites", 1, "name", to="alpha"),
        set_in("sites", 2, "data", "sql", to="DROP TABLE visits"),
    ):
        change(made.document)
    del made.document["title"]
    starts = sorted(line.split(":")[0] for line in problems(made.save()))
    assert starts == ["quorum.min_sites", "sites", "sites[2].data.sql", "title", "training.learning_rate"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"a: [1", "is not YAML"),
        (b"- 1\n- 2\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"title: a\ntitle: b\n", "'title' stands twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: !!python/object/apply:os.system [true]\n", "is not YAML"),
    ],
)
def test_what_is_no_federation_file_is_one_line(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    (line,) = problems(path)
    assert part in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["there is no such file"]


def test_the_shipped_schema_is_the_current_one() -> None:
    assert json.loads((SHIPPED / "federation.schema.json").read_text()) == json_schema()


def test_the_schema_accepts_the_shipped_files_and_refuses_a_stranger() -> None:
    for path in SHIPPED.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"federation": "x"}, json_schema())


def test_the_quick_starts_classes_are_those_of_its_data() -> None:
    assert tuple(load_federation(SHIPPED / "quickstart.yaml").task.classes) == CLASSES


def test_methods_choose_the_protection(small_federation: Callable[..., Any]) -> None:
    federation = load_federation(small_federation().path)
    assert federation.method == "he-fl"
    assert federation.with_method("fedavg").protection == "none"
    assert federation.protection == "he"
    with pytest.raises(UsageError, match=r"^unknown method 'magic': known are fedavg, he-fl$"):
        federation.with_method("magic")


def test_sites_are_found_by_name(small_federation: Callable[..., Any]) -> None:
    federation = load_federation(small_federation().path)
    assert federation.site("beta").cloud == "beta"
    with pytest.raises(
        UnknownSiteError, match=r"^unknown site 'delta': the federation has alpha, beta, gamma$"
    ):
        federation.site("delta")


def test_public_keys_lie_beside_the_state(small_federation: Callable[..., Any]) -> None:
    made = small_federation()
    assert load_federation(made.path).keys_uri == "small/keys"
    made.document["state_uri"] = "s3://bucket/of/state"
    assert load_federation(made.save()).keys_uri == "s3://bucket/of/keys"
    made.document["state_uri"] = "state"
    assert load_federation(made.save()).keys_uri == "keys"


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
    assert problems(made.save()) == ["sites: he takes at most 64, got 65"]
    made.document["protection"] = "none"
    assert len(load_federation(made.save()).sites) == 65
    made.document["protection"] = "he"
    made.document["sites"].pop()
    assert len(load_federation(made.save()).sites) == 64


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


def test_the_schema_accepts_the_quick_start_and_refuses_what_the_model_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document: dict[str, Any] = yaml.safe_load((SHIPPED / "quickstart.yaml").read_text())
    assert list(validator.iter_errors(document)) == []
    document["quorum"]["min_sites"] = 1
    document["protection"] = "rot13"
    document["sites"][2]["colour"] = "blue"
    paths = sorted("/".join(map(str, error.absolute_path)) for error in validator.iter_errors(document))
    assert paths == ["protection", "quorum/min_sites", "sites/2"]
