"""The federation file: every problem at once, each with its path, value and rule."""

from __future__ import annotations

import copy
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
NAMES = tuple("abcdefghij")
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
        (set_in("protection", to="rot13"), "protection:", ["'masked' or 'sealed'", "rot13"]),
        (set_in("quorum", "min_sites", to=4), "quorum.min_sites:", ["at most the number of sites, 3", "4"]),
        (set_in("quorum", "min_sites", to=2), "quorum.min_sites:", ["sealed needs at least 3 of 3", "got 2"]),
        (set_in("quorum", "colluding_sites", to=-1), "quorum.colluding_sites:", ["equal to 0", "-1"]),
        (set_in("quorum", "min_sum_sites", to=2), "quorum.min_sum_sites:", ["at least 3 for 3 sites", "2"]),
        (set_in("quorum", "min_sum_sites", to=4), "quorum.min_sum_sites:", ["at most min_sites, 3", "got 4"]),
        (set_in("limits", "clipping_norm", to=0), "limits.clipping_norm:", ["greater than 0", "got 0"]),
        (set_in("limits", "clipping_norm", to=0.5), "limits.largest_value:", ["clipping_norm, 0.5", "1"]),
        (set_in("limits", "largest_value", to=float("inf")), "limits.largest_value:", ["finite", "inf"]),
        (set_in("limits", "values_per_slot", to=3), "limits.values_per_slot:", ["1 or 2", "got 3"]),
        (set_in("limits", "local_epochs", to=1), "training.local_epochs:", ["limits.local_epochs, 1"]),
        (set_in("limits", "learning_rate", to=0.01), "training.learning_rate:", ["rate, 0.01", "0.05"]),
        (set_in("limits", "batch_size", to=8), "training.batch_size:", ["limits.batch_size, 8", "got 16"]),
        (set_in("limits", "max_examples", to=10**13), "limits: max_examples is 1", ["3 sites hold at most"]),
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
    made = small_federation(rows=0)
    change(made.document)
    (line,) = problems(made.save())
    assert line.startswith(start)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("protection", ["none", "he", "sealed"])
@pytest.mark.parametrize("values_per_slot", [1, 2])
def test_the_count_of_examples_must_fit_two_digits_of_a_slot(
    small_federation: Callable[..., Any], protection: str, values_per_slot: int
) -> None:
    """Digits from 0 to floor((2^22 - 1) / K), or floor((2^45 - 1) / K); and K n exact in float64."""
    made = small_federation(rows=0, protection=protection)
    digit = {1: 2**45 - 1, 2: 2**22 - 1}[values_per_slot] // 3
    most = min((digit + 1) ** 2 - 1, 2**53 // 3)
    made.document["limits"] = {"values_per_slot": values_per_slot, "max_examples": most}
    assert load_federation(made.save()).limits.max_examples == most
    made.document["limits"]["max_examples"] = most + 1
    (line,) = problems(made.save())
    assert line.startswith(f"limits: max_examples is {most + 1}: ")
    assert line.endswith(", lower it")


def test_bounds_are_told_beside_another_limit_that_breaks_its_rule(
    small_federation: Callable[..., Any],
) -> None:
    limits = {"rounds": 0, "clipping_norm": 0.5, "learning_rate": 1e-3, "batch_size": 250_000}
    made = small_federation(rows=0, limits=limits)
    set_in("training", "batch_size", to=1_000_000)(made.document)
    assert problems(made.save()) == [
        "limits.rounds: Input should be greater than or equal to 1, got 0",
        "limits.largest_value: must be at most limits.clipping_norm, 0.5, got 1",
        "training.learning_rate: must be at most limits.learning_rate, 0.001, got 0.05",
        "training.batch_size: must be at most limits.batch_size, 250,000, got 1,000,000",
    ]


BIGQUERY = {
    "source": "bigquery",
    "uri": "bigquery://demo/clinic",
    "sql": "SELECT note, organ, category FROM visits WHERE day >= @since",
    "bigquery": {
        "location": "EU",
        "maximum_bytes_billed": 10**9,
        "parameters": {"since": {"type": "DATE", "value": "2024-01-01"}},
    },
}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("uri", "demo/clinic", ": uri of source bigquery must be bigquery://PROJECT/DATASET, got 'demo"),
        ("uri", "bigquery://demo/a/b", ": uri of source bigquery must be bigquery://"),
        ("uri", "bigquery://", ": uri of source bigquery must be bigquery://"),
        ("bigquery", None, ": source bigquery needs the section bigquery: location, maximum_bytes_billed"),
        ("source", "duckdb", ": the section bigquery is for source bigquery, got source duckdb"),
        ("bigquery.maximum_bytes_billed", 0, ".bigquery.maximum_bytes_billed: Input should be greater"),
        ("bigquery.endpoint", "http://far.example", ": bigquery: endpoint 'http://far.example' is not on"),
        ("bigquery.storage_endpoint", "s:443", ": bigquery: storage_endpoint 's:443' goes with an endpoint"),
        ("bigquery.parameters.since.value", "May", ": bigquery: parameter value 'May' is no DATE"),
        ("bigquery.parameters.since.type", "UUID", ".bigquery.parameters.since.type: Input should be"),
        ("bigquery.allowed_tagged_columns", ["x"], ".bigquery.allowed_tagged_columns: Extra inputs"),
        ("sql", "SELECT a FROM t WHERE b = @day", ".sql: a query parameter (@name or ?) has no value here"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_bigquery_site_is_one_line(
    small_federation: Callable[..., Any], path: str, value: Any, told: str
) -> None:
    made = small_federation(rows=0)
    made.site("alpha")["data"] = copy.deepcopy(BIGQUERY)
    assert load_federation(made.save()).site("alpha").data.bigquery_address == ("demo", "clinic")
    set_in("sites", 0, "data", *path.split("."), to=value)(made.document)
    (line,) = problems(made.save())
    assert line.startswith(f"sites[0].data{told}")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("bigquery://demo", ("demo", "")),
        ("bigquery://demo/", ("demo", "")),
        ("bigquery://demo/owner-1.clinic", ("demo", "owner-1.clinic")),
    ],
)
def test_a_bigquery_address_names_who_pays_and_a_dataset(
    small_federation: Callable[..., Any], uri: str, address: tuple[str, str]
) -> None:
    made = small_federation(rows=0)
    made.site("alpha")["data"] = BIGQUERY | {"uri": uri}
    assert load_federation(made.save()).site("alpha").data.bigquery_address == address


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ({"name": "age", "type": "INTEGER"}, "task: column 'age' has type 'INTEGER': write INT64"),
        ({"name": "a-b", "type": "STRING"}, "task: column 'a-b' is not a plain name"),
        ({"name": "NOTE", "type": "STRING"}, "task: column 'NOTE' is declared twice"),
        ({"name": "organ", "type": "INT64"}, "task: column 'organ' is the label: declare it STRING"),
        (
            {"name": "organ", "type": "STRING", "allowed_values": ["heart"]},
            "task: column 'organ' is the label: declare it STRING, and its values under classes",
        ),
        ({"name": "age", "type": "INT64", "required": True}, "task.columns[1].required: Extra inputs"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_one_line(
    small_federation: Callable[..., Any], column: dict[str, Any], told: str
) -> None:
    made = small_federation(rows=0)
    made.document["task"]["columns"] = [{"name": "note", "type": "STRING", "nullable": False}]
    (declared,) = load_federation(made.save()).task.columns
    assert (declared.name, declared.nullable) == ("note", False)
    made.document["task"]["columns"].append(column)
    (line,) = problems(made.save())
    assert line.startswith(told)


def test_all_problems_are_told_at_once(small_federation: Callable[..., Any]) -> None:
    made = small_federation(rows=0)
    for change in (
        set_in("training", "learning_rate", to=0),
        set_in("quorum", "min_sites", to=9),
        set_in("sites", 1, "name", to="alpha"),
        set_in("sites", 2, "data", "sql", to="DROP TABLE visits"),
        set_in("limits", to={"batch_size": 8, "rounds": 0}),
    ):
        change(made.document)
    del made.document["title"]
    starts = sorted(line.split(":")[0] for line in problems(made.save()))
    assert starts == [
        "limits.rounds", "quorum.min_sites", "sites", "sites[2].data.sql", "title", "training.batch_size",
        "training.learning_rate",
    ]  # fmt: skip


def test_all_problems_of_a_quorum_are_told_at_once(small_federation: Callable[..., Any]) -> None:
    made = small_federation(rows=0, names=NAMES[:7], quorum={"min_sites": 4, "min_sum_sites": 4})
    made.document["limits"] |= {"learning_rate": 0.01}
    assert problems(made.save()) == [
        "quorum.min_sites: sealed needs at least 5 of 7 sites on a roster when 1 may collude, got 4",
        "quorum.min_sum_sites: must be at least 5 for 7 sites of which 1 may collude, got 4",
        "training.learning_rate: must be at most limits.learning_rate, 0.01, got 0.05",
    ]


@pytest.mark.parametrize(
    ("sites", "colluding", "least"),
    [(3, 0, 3), (3, 1, 3), (4, 1, 3), (4, 2, 4), (5, 1, 4), (5, 2, 4), (5, 3, 5), (7, 1, 5), (10, 1, 6)],
)
def test_fewest_sites_under_sealed_follow_from_who_may_collude(
    small_federation: Callable[..., Any], sites: int, colluding: int, least: int
) -> None:
    """max(3, t + 2, (K + t) // 2 + 1): a roster of as many is taken, one of fewer is not."""
    quorum = {"min_sites": least, "colluding_sites": colluding}
    made = small_federation(rows=0, names=NAMES[:sites], quorum=quorum)
    assert load_federation(made.path).min_sum_sites == (least if (sites, colluding) != (3, 0) else 2)
    quorum["min_sites"] = least - 1
    (line,) = problems(made.save())
    assert line.startswith(f"quorum.min_sites: sealed needs at least {least} of {sites} sites on a roster")


def test_more_may_be_asked_of_a_sum_than_the_seal_needs(small_federation: Callable[..., Any]) -> None:
    made = small_federation(rows=0, names=NAMES[:7], quorum={"min_sites": 6, "min_sum_sites": 6})
    assert load_federation(made.path).min_sum_sites == 6


def test_two_sites_cannot_seal(small_federation: Callable[..., Any]) -> None:
    """A sum of two is each one's own business to the other."""
    made = small_federation(rows=0, names=NAMES[:2], quorum={"min_sites": 2})
    (line,) = problems(made.path)
    assert line.startswith("quorum.min_sites: sealed needs at least 3 of 2 sites")
    for protection in ("none", "he"):
        made.document["protection"] = protection
        federation = load_federation(made.save())
        assert (federation.protection, federation.min_sum_sites) == (protection, 2)


def test_other_protections_take_the_quorum_that_the_file_has(small_federation: Callable[..., Any]) -> None:
    made = small_federation(rows=0, names=NAMES[:7], protection="he", quorum={"min_sites": 4})
    assert load_federation(made.path).min_sum_sites == 4
    made.document["quorum"]["min_sum_sites"] = 2
    assert load_federation(made.save()).min_sum_sites == 2
    made.document["quorum"]["min_sum_sites"] = 5
    assert problems(made.save()) == ["quorum.min_sum_sites: must be at most min_sites, 4, got 5"]


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
    federation = load_federation(small_federation(rows=0).path)
    assert federation.method == "sealed"
    assert federation.with_method("fedavg").protection == "none"
    assert federation.with_method("he-fl").protection == "he"
    assert federation.with_method("smc-fl").protection == "smc"
    assert federation.with_method("masked").protection == "masked"
    assert federation.with_method("he-fl").with_method("sealed") == federation
    assert federation.protection == "sealed"
    known = "ours, sealed, fedavg, he-fl, smc-fl, masked, dp-fl"
    with pytest.raises(UsageError, match=rf"^unknown method 'magic': known are {known}$"):
        federation.with_method("magic")


def test_a_method_whose_protection_the_file_does_not_suit_is_refused(
    small_federation: Callable[..., Any],
) -> None:
    made = small_federation(rows=0, names=NAMES[:7], protection="none", quorum={"min_sites": 2})
    federation = load_federation(made.path)
    assert federation.with_method("he-fl").protection == "he"
    with pytest.raises(UsageError, match=r"^under sealed: quorum\.min_sites: sealed needs at least 5 of 7"):
        federation.with_method("sealed")


def test_sites_are_found_by_name(small_federation: Callable[..., Any]) -> None:
    federation = load_federation(small_federation(rows=0).path)
    assert federation.site("beta").cloud == "beta"
    with pytest.raises(
        UnknownSiteError, match=r"^unknown site 'delta': the federation has alpha, beta, gamma$"
    ):
        federation.site("delta")


@pytest.mark.parametrize(
    ("state", "beside"),
    [("small/state", "small/"), ("s3://bucket/of/state", "s3://bucket/of/"), ("state", "")],
)
def test_keys_and_the_key_holders_memory_lie_beside_the_state(
    small_federation: Callable[..., Any], state: str, beside: str
) -> None:
    federation = load_federation(small_federation(rows=0, state_uri=state).path)
    assert (federation.keys_uri, federation.key_holder_uri) == (f"{beside}keys", f"{beside}key-holder")


@pytest.mark.parametrize(
    "name", ["coordinator", "key-holder", "aggregator", "contexts", "certificates", "charters", "cards"]
)
def test_no_site_has_the_name_of_a_role_or_of_a_folder_of_the_keys(
    small_federation: Callable[..., Any], name: str
) -> None:
    made = small_federation(rows=0, names=("alpha", "beta", name))
    assert problems(made.path) == [f"sites: {name} is the name of a role, not of a site"]


def test_what_the_file_leaves_out_is_careful(small_federation: Callable[..., SmallFederation]) -> None:
    """Sealed, figures known in sealed sums alone, an hour a step."""
    made = small_federation(rows=0)
    for left_out in ("protection", "limits"):
        del made.document[left_out]
    for section in made.document["sites"]:
        del section["evaluation"]
    federation = load_federation(made.save())
    assert federation.protection == "sealed"
    assert (federation.quorum.colluding_sites, federation.min_sum_sites) == (1, 3)
    assert (federation.limits.clipping_norm, federation.limits.values_per_slot) == (100.0, 2)
    assert {federation.release(site) for site in federation.sites} == {"aggregate"}
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
    made = small_federation(rows=0, state_uri=uri)
    if refused:
        (problem,) = problems(made.path)
        assert problem.startswith("state_uri: must be a p")
        assert repr(uri) in problem
    else:
        assert load_federation(made.path).state_uri == uri.rstrip("/")


def test_he_takes_64_sites(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation(rows=0, protection="he")
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
    made = small_federation(rows=0)
    made.document["task"]["classes"] = ['the "heart"', "lung\n", "skin", "back\\slash"]
    told = problems(made.save())
    assert [problem.partition(":")[0] for problem in told] == [f"task.classes[{n}]" for n in (0, 1, 3)]


def test_values_do_not_change(small_federation: Callable[..., SmallFederation]) -> None:
    federation = load_federation(small_federation(rows=0).path)
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
    document["quorum"]["colluding_sites"] = -1
    document["limits"]["clipping_norm"] = 0
    document["limits"]["values_per_slot"] = 4
    document["protection"] = "rot13"
    document["sites"][2]["colour"] = "blue"
    paths = sorted("/".join(map(str, error.absolute_path)) for error in validator.iter_errors(document))
    assert paths == [
        "limits/clipping_norm", "limits/values_per_slot", "protection", "quorum/colluding_sites",
        "quorum/min_sites", "sites/2",
    ]  # fmt: skip


def test_the_quick_start_is_sealed_and_lets_one_hospital_of_four_be_lost() -> None:
    federation = load_federation(SHIPPED / "quickstart.yaml")
    assert (federation.method, federation.protection, len(federation.sites)) == ("ours", "sealed", 4)
    assert (federation.quorum.min_sites, federation.min_sum_sites) == (3, 3)
