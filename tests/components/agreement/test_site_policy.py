from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from components.agreement.data_policy import (
    KINDS,
    BigQueryPolicy,
    DataResidencyPolicy,
    DriftRules,
    MaskingRules,
    QueryParameter,
)
from components.agreement.site_policy import SitePolicy, load_policy, query_digest, task_digest
from components.errors import RefusedError, UsageError

PINNED = "c4" * 32
AGE = {"name": "age", "type": "STRING", "nullable": True, "description": "", "allowed_values": ["18", "19"]}
TASK: dict[str, Any] = {
    "template": "{note}",
    "label_column": "organ",
    "split_column": "category",
    "test_fraction": 0.25,
    "classes": ["heart", "lung"],
    "columns": [AGE],
}
SQL = "SELECT note, organ FROM visits"
TERMS = {"project": "p", "location": "EU", "maximum_bytes_billed": 9}


def policy(**rules: Any) -> SitePolicy:
    return SitePolicy(**{"charter": PINNED, **rules})


def refused(text: str) -> Any:
    """What is refused is told to the others in full: it names nothing but what they know."""
    return pytest.raises(RefusedError, match=text, check=lambda error: error.disclosed == str(error))


class TestRules:
    def test_a_protection_is_one_of_those_listed(self) -> None:
        both = policy(protections=("sealed", "he"))
        both.require_protection("sealed")
        both.require_protection("he")
        for protection in ("none", "", "seal", "Sealed"):
            with refused(f"accepts protection sealed, he, the charter has {protection}$"):
                both.require_protection(protection)
        with refused("accepts protection none at all, the charter has sealed"):
            policy().require_protection("sealed")

    def test_a_query_is_one_that_was_read(self) -> None:
        assert query_digest(SQL) == hashlib.sha256(SQL.encode()).hexdigest() == query_digest(f"\n {SQL}\t\n")
        admitted = policy(queries=(query_digest("SELECT 1"), query_digest(SQL)))
        admitted.require_query(SQL)
        admitted.require_query(f" {SQL}\n")
        for other in ("", SQL + ";", SQL.lower(), SQL.replace(" ", "  "), f"{SQL} -- x", "SELECT 2"):
            with refused(f"the query with digest {query_digest(other)[:12]} is not one"):
                admitted.require_query(other)
        with refused("is not one the site's policy admits"):
            policy().require_query(SQL)

    def test_a_task_is_one_that_was_read(self) -> None:
        admitted = policy(tasks=("12" * 32, task_digest(**TASK)))
        admitted.require_task(task_digest(**TASK))
        for other in (task_digest(**(TASK | {"template": "{note} "})), "", "12" * 31):
            with refused(f"the task with digest {other} .* is not one the site's policy admits: .*'tasks'"):
                admitted.require_task(other)
        with refused("is not one the site's policy admits"):
            policy().require_task(task_digest(**TASK))

    def test_a_task_is_its_canonical_json(self) -> None:
        written = (
            '{"classes":["heart","lung"],"columns":[{"allowed_values":["18","19"],"description":"",'
            '"name":"age","nullable":true,"type":"STRING"}],"label_column":"organ","split_column":"category",'
            '"template":"{note}","test_fraction":0.25}'
        )
        assert task_digest(**TASK) == hashlib.sha256(written.encode()).hexdigest()

    def test_a_task_does_not_depend_on_how_its_parts_arrive(self) -> None:
        """Through kfp tuples come as lists, numbers as floats and keys in another order."""
        arrived = {
            "columns": [dict(reversed(AGE.items())) | {"allowed_values": ("18", "19")}],
            "classes": ("heart", "lung"),
        }
        assert task_digest(**(TASK | arrived)) == task_digest(**TASK)
        whole = [task_digest(**(TASK | {"test_fraction": number})) for number in (1, 1.0)]
        assert whole[0] == whole[1] != task_digest(**TASK)

    @pytest.mark.parametrize(
        "change",
        [
            {"template": "{note} {organ}"},
            {"label_column": "category"},
            {"split_column": "organ"},
            {"test_fraction": 0.251},
            {"classes": ["heart"]},
            {"classes": ["lung", "heart"]},
            {"columns": []},
            {"columns": [AGE, AGE | {"name": "ward"}]},
            {"columns": [AGE | {"name": "ward"}]},
            {"columns": [AGE | {"type": "INT64"}]},
            {"columns": [AGE | {"nullable": False}]},
            {"columns": [AGE | {"description": "in years"}]},
            {"columns": [AGE | {"allowed_values": ["18"]}]},
            {"columns": [AGE | {"allowed_values": []}]},
        ],
        ids=str,
    )
    def test_every_part_of_a_task_is_in_its_digest(self, change: dict[str, Any]) -> None:
        assert task_digest(**(TASK | change)) != task_digest(**TASK)

    def test_a_language_model_is_the_admitted_one(self) -> None:
        one = policy(encoder="e1" * 32)
        one.require_encoder("e1" * 32)
        with refused("digest e2e2e2e2e2e2 is not the one"):
            one.require_encoder("e2" * 32)
        with refused(r"digest \(none\) is not the one"):
            one.require_encoder("")
        policy().require_encoder("")
        policy().require_encoder("e2" * 32)

    def test_peers_are_all_there(self) -> None:
        insists = policy(peers=("beta", "alpha"))
        insists.require_peers(["gamma", "beta", "alpha"])
        insists.require_peers(iter(("alpha", "beta")))
        with refused("insists on beta, which does not take part"):
            insists.require_peers(["alpha", "gamma"])
        with refused("insists on alpha, beta, which"):
            insists.require_peers([])
        policy().require_peers([])

    def test_figures_are_published_as_far_as_it_says(self) -> None:
        ordered = ("none", "aggregate", "per_site")
        for most, allowed in enumerate(ordered):
            for asked, release in enumerate(ordered):
                if asked <= most:
                    policy(evaluation=allowed).require_release(release)
                    continue
                with refused(f"does not allow its figures to be published {release}"):
                    policy(evaluation=allowed).require_release(release)
        with refused("published aggregate"):
            policy().require_release("aggregate")


class TestWarehouse:
    TERMS = BigQueryPolicy(project="demo", dataset="clinic", location="EU", maximum_bytes_billed=9)

    def test_bigquery_is_read_on_the_policys_terms_alone(self) -> None:
        site = policy(bigquery=self.TERMS)
        site.require_warehouse("bigquery", "bigquery://demo/clinic")
        site.require_warehouse("bigquery", "bigquery://demo/clinic/")
        for uri in ("bigquery://demo", "bigquery://demo/clinic2", "bigquery://other/clinic", ""):
            with refused("is not the one that the site's policy names"):
                site.require_warehouse("bigquery", uri)
        with refused("reads BigQuery alone, the run asks for a parquet source"):
            site.require_warehouse("parquet", "visits.parquet")
        with refused("has no section 'bigquery'"):
            policy().require_warehouse("bigquery", "bigquery://demo/clinic")
        policy().require_warehouse("duckdb", "visits.duckdb")

    def test_the_dataset_may_be_left_out(self) -> None:
        site = policy(bigquery=self.TERMS.model_copy(update={"dataset": ""}))
        site.require_warehouse("bigquery", "bigquery://demo")
        with refused("is not the one"):
            site.require_warehouse("bigquery", "bigquery://demo/clinic")

    def test_kinds_of_masking_are_those_that_there_are(self) -> None:
        from components.data_processing.masking.kinds import DEFAULT_KINDS

        assert KINDS == DEFAULT_KINDS


class TestStores:
    @pytest.mark.parametrize(
        "uri",
        [
            "s3://bucket/exchange",
            "s3://bucket/exchange/sub/folder",
            "gs://own",
            "gs://own/store",
            "sites/alpha",
            "sites/alpha/store",
            "sites/alpha/store/",
            "/srv/own",
            "/srv/own/store",
            "file:///srv/files/store",
        ],
    )
    def test_below_an_admitted_prefix(self, uri: str) -> None:
        self.admitted().require_stores([uri])

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "/",
            "s3://bucket",
            "s3://bucket/",
            "s3://bucket/exchange-evil",
            "s3://bucket/exchange.evil/x",
            "s3://bucket/exchang",
            "s3://bucket-evil/exchange",
            "s3://evil/s3://bucket/exchange",
            "gs://own-too",
            "gs://ow",
            "abfs://own",
            "sites/alphabet",
            "sites",
            "sites/beta",
            "/sites/alpha",
            "/srv/owner",
            "file:///srv/own",
            "http://bucket/exchange",
        ],
    )
    def test_beside_or_above_it(self, uri: str) -> None:
        with refused("is not below one that the site's policy admits"):
            self.admitted().require_stores([uri])

    @pytest.mark.parametrize(
        "uri",
        [
            "s3://bucket/exchange/../secret",
            "s3://bucket/exchange/..",
            "sites/alpha/../beta",
            "/srv/own/../../etc",
            "file:///srv/files/a/../../own",
            "file:///srv/files/%2e%2e/own",
            "file:///srv/files/..%2Fown",
            "file:///srv/files/%2E./own",
        ],
    )
    def test_no_way_up(self, uri: str) -> None:
        with refused("is not below one"):
            self.admitted().require_stores([uri])

    @pytest.mark.parametrize(
        "uri",
        ["s3://bucket/exchange::http://evil", "sites/alpha/zip://x::s3://evil/x", "gs://own/a::file:///etc"],
    )
    def test_no_chained_address(self, uri: str) -> None:
        with refused("is not below one"):
            self.admitted().require_stores([uri])

    def test_all_of_several(self) -> None:
        self.admitted().require_stores(["gs://own/a", "sites/alpha/b"])
        for uris in (["gs://own/a", "evil"], ["evil", "gs://own/a"]):
            with refused("the address evil is not below one"):
                self.admitted().require_stores(uris)
        with refused("is not below one"):
            policy().require_stores(["gs://own"])

    @staticmethod
    def admitted() -> SitePolicy:
        """Prefixes with and without a slash at their end."""
        prefixes = ("s3://bucket/exchange", "gs://own/", "sites/alpha/", "/srv/own", "file:///srv/files")
        return policy(stores=prefixes)


class TestFile:
    FULL = policy(
        protections=("sealed",),
        queries=("0" * 64, "12" * 32),
        tasks=("34" * 32,),
        stores=("s3://bucket/exchange", "sites/ü: #x"),
        encoder="e1" * 32,
        peers=("beta",),
        rounds_a_day=3,
        evaluation="per_site",
        bigquery=BigQueryPolicy(
            project="demo",
            dataset="clinic",
            location="EU",
            maximum_bytes_billed=10**9,
            parameters={"since": QueryParameter(type="DATE", value="2024-01-01")},
            data_residency=DataResidencyPolicy(warehouse="EU", reader="aws:eu-central-1", may_leave=True),
            allowed_tagged_columns=("visits.note",),
        ),
        drift=DriftRules(action="stop", most_row_ratio=1.5),
        masking=MaskingRules(kinds=("card",)),
    )

    @staticmethod
    def write(home: Path, content: bytes) -> Path:
        (home / "keys/alpha").mkdir(parents=True)
        (home / "keys/alpha/policy.yaml").write_bytes(content)
        return home / "keys/alpha/policy.yaml"

    @pytest.mark.parametrize("rules", [FULL, policy(), policy(charter="1" * 64)])
    def test_round_trip(self, home: Path, rules: SitePolicy) -> None:
        self.write(home, rules.to_yaml())
        assert load_policy("keys", "alpha") == rules

    def test_every_field_stands_under_its_explanation(self) -> None:
        lines = self.FULL.to_yaml().decode().splitlines()
        for name, field in SitePolicy.model_fields.items():
            place = next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
            assert field.description
            assert lines[place - 1] == f"# {field.description}"

    def test_a_party_without_a_policy_takes_no_part(self, home: Path) -> None:
        with refused(r"^alpha has no policy\.yaml: .*'crosscloud charter sign'$"):
            load_policy("keys", "alpha")

    def test_the_key_holder_needs_the_charter_alone(self, home: Path) -> None:
        self.write(home, f"charter: {PINNED}\n".encode())
        found = load_policy("keys", "alpha")
        assert found == policy()
        assert (found.protections, found.queries, found.stores, found.rounds_a_day) == ((), (), (), None)
        assert found.evaluation == "none"
        assert found.bigquery is None
        assert (found.drift.action, found.masking.kinds) == ("keep", KINDS)

    @pytest.mark.parametrize(
        ("written", "kind", "value"),
        [
            ("2024-01-01", "DATE", "2024-01-01"),
            ("7", "INT64", "7"),
            ("0.25", "FLOAT64", "0.25"),
            ("true", "BOOL", "true"),
            ("2026-11-01T00:00:00+00:00", "TIMESTAMP", "2026-11-01T00:00:00+00:00"),
            ("[A, '7', 7]", "STRING", ("A", "7", "7")),
        ],
    )
    def test_a_parameter_is_its_text_however_yaml_reads_it(
        self, home: Path, written: str, kind: str, value: Any
    ) -> None:
        terms = f"{{project: p, location: EU, maximum_bytes_billed: 9, parameters: {{x: {{type: {kind}, "
        self.write(home, f"charter: {PINNED}\nbigquery: {terms}value: {written}}}}}}}\n".encode())
        found = load_policy("keys", "alpha").bigquery
        assert found is not None
        assert found.parameters == {"x": QueryParameter(type=kind, value=value)}  # type: ignore[arg-type]
        assert found.parameters["x"].value == value

    @pytest.mark.parametrize(
        ("rule", "told"),
        [
            ({"charter": "c4"}, "charter: "),
            ({"charter": "C4" * 32}, "charter: "),
            ({"charter": PINNED + "\n"}, "charter: "),
            ({"charter": None}, "charter: "),
            ({"queries": ["SELECT 1"]}, "queries.0: "),
            ({"queries": SQL}, "queries: "),
            ({"tasks": ["{note}"]}, "tasks.0: "),
            ({"protections": "sealed"}, "protections: "),
            ({"stores": "s3://bucket"}, "stores: "),
            ({"stores": [7]}, "stores.0: "),
            ({"stores": [""]}, "stores.0: "),
            ({"encoder": "e1"}, "encoder: "),
            ({"rounds_a_day": 0}, "rounds_a_day: "),
            ({"rounds_a_day": "many"}, "rounds_a_day: "),
            ({"evaluation": "averaged"}, "evaluation: "),
            ({"rounds_per_day": 3}, "rounds_per_day: Extra inputs are not permitted"),
            ({"smallest_sigma": 1.0}, "smallest_sigma: Extra inputs are not permitted"),
            ({"masking": {"kinds": ["names"]}}, "masking.kinds.0: "),
            ({"drift": {"action": "hide"}}, "drift.action: "),
            ({"drift": {"least_row_ratio": 1.5}}, "drift.least_row_ratio: "),
            ({"drift": {"most_row_ratio": float("inf")}}, "drift.most_row_ratio: "),
            (
                {"bigquery": {"project": "p", "location": "EU"}},
                "bigquery.maximum_bytes_billed: Field",
            ),
            ({"bigquery": TERMS | {"maximum_bytes_billed": 0}}, "bigquery.maximum_bytes_billed: "),
            ({"bigquery": TERMS | {"credentials": "key.json"}}, "bigquery.credentials: Extra inputs"),
            (
                {"bigquery": TERMS | {"data_residency": {"warehouse": "EU", "reader": "aws"}}},
                "bigquery.data_",
            ),
        ],
    )
    def test_a_rule_that_is_none_is_told(self, home: Path, rule: dict[str, Any], told: str) -> None:
        path = self.write(home, yaml.safe_dump({"charter": PINNED} | rule).encode())
        with pytest.raises(UsageError) as refusal:
            load_policy("keys", "alpha")
        assert str(refusal.value).startswith(f"{path}: {told}")
        assert "\n" not in str(refusal.value)

    def test_all_that_is_wrong_is_told_at_once(self, home: Path) -> None:
        path = self.write(home, b"rounds_a_day: 0\nhint: x\n")
        with pytest.raises(UsageError) as refusal:
            load_policy("keys", "alpha")
        lines = str(refusal.value).splitlines()
        assert [line.split(": ")[1] for line in lines] == ["charter", "rounds_a_day", "hint"]
        assert all(line.startswith(f"{path}: ") for line in lines)

    @pytest.mark.parametrize(
        "content", [b"charter: [", b"\xff\xfe\xff", b"charter: !!python/name:os.system\n"]
    )
    def test_what_is_no_yaml_is_refused(self, home: Path, content: bytes) -> None:
        self.write(home, content)
        with pytest.raises(UsageError, match=r"policy\.yaml is not YAML$"):
            load_policy("keys", "alpha")

    @pytest.mark.parametrize("content", [b"", b"- a\n", b"text"])
    def test_what_is_no_mapping_is_refused(self, home: Path, content: bytes) -> None:
        self.write(home, content)
        with pytest.raises(UsageError, match=r"policy\.yaml"):
            load_policy("keys", "alpha")

    def test_a_rule_that_stands_there_twice_is_told(self, home: Path) -> None:
        path = self.write(home, policy(protections=("sealed",)).to_yaml() + b"protections: [none]\n")
        with pytest.raises(UsageError, match=f"^{path}: protections stands there twice"):
            load_policy("keys", "alpha")

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_file_that_others_may_write_is_refused(self, home: Path, mode: int) -> None:
        path = self.write(home, policy().to_yaml())
        path.chmod(mode)
        with pytest.raises(UsageError, match=f"has mode {mode:04o} and may be written by others"):
            load_policy("keys", "alpha")

    def test_does_not_change_in_memory(self) -> None:
        with pytest.raises(ValidationError):
            policy().charter = "00" * 32
