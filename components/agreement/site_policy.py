"""The site policy: what a site lets a round do, in a file that only the site can write.

`policy.yaml` lies in the site's private folder, beside its keys. The coordinator's pipeline can
ask for anything; a step at the site does what this file and the charter it pins allow, and refuses
the rest. `crosscloud charter sign` writes a first one; its owner edits it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import yaml
from pydantic import BaseModel, ConfigDict, Field

from components.agreement.data_policy import BigQueryPolicy, DriftRules, MaskingRules
from components.agreement.owned_file import read_owned
from components.agreement.private_keys import private_folder
from components.artifacts.documents import canonical_json, digest
from components.errors import RefusedError

POLICY = "policy.yaml"
BIGQUERY = "bigquery"
NONE, AGGREGATE, PER_SITE = RELEASES = ("none", "aggregate", "per_site")
"""What a site lets be known of its figures: each allows what stands before it as well."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PrivacyPolicy(BaseModel):
    """What a site lets be learned about one dataset, whoever reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dataset: Annotated[str, Field(min_length=1)]
    """What names the data at the site, whatever query reads them."""
    ledger_uri: Annotated[str, Field(min_length=1)]
    """Store of the ledger, which all federations share that read this dataset."""
    unit: Annotated[str, Field(min_length=1)] = "row"
    """The protected unit: `row`, or the column that names it."""
    rows_per_unit: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Most rows of one unit that are read; `ingest` leaves others out. Absent: `unit` is but a word."""
    epsilon: Annotated[float, Field(gt=0, le=1000)]
    """Most that may be spent, at this delta, in a period."""
    delta: Annotated[float, Field(gt=0, lt=1)]
    per: Literal["month", "total"] = "total"
    """In each calendar month (UTC), or in all."""
    least_noise_multiplier: Annotated[float, Field(ge=0)] = 0.0
    """Smallest sigma of a round."""

    @property
    def protected(self) -> str:
        """What its epsilon is about, in words: the dataset, and each of whom unless it is single rows."""
        return self.dataset if self.unit == "row" else f"{self.dataset} for each {self.unit}"


class SitePolicy(BaseModel):
    """One site's rules; the key holder's policy has the charter alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    charter: Digest
    """cd of the charter the site has signed. A ticket of any other is refused."""
    next_charter: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """cd of the next edition, which the site has signed too: it takes over once everybody has."""
    protections: tuple[str, ...] = ()
    """Protections under which its update may leave it."""
    queries: tuple[Digest, ...] = ()
    """SHA-256 of each SQL text that may be run on its warehouse."""
    tasks: tuple[Digest, ...] = ()
    """SHA-256 of each task its records are read for: template, label, split, classes, declared columns."""
    stores: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Prefixes of the addresses it reads and writes."""
    encoder: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the language model; empty for any."""
    peers: tuple[str, ...] = ()
    """Sites without which it takes no part in a sum."""
    rounds_a_day: Annotated[int, Field(ge=1)] | None = None
    """Most attempts in 24 hours; unlimited where absent."""
    evaluation: Literal["none", "aggregate", "per_site"] = "none"
    """What may be known of its figures: sealed sums with other sites' (`aggregate`), or its own as well."""
    privacy: PrivacyPolicy | None = None
    """Its privacy budget. With one, the site takes part in rounds with differential privacy alone."""
    bigquery: BigQueryPolicy | None = None
    """On what terms its BigQuery is read, and no other kind of source then; nothing where absent."""
    drift: DriftRules = DriftRules()
    """What it does when its records have changed: `keep` writes findings down, `tell`, or `stop`."""
    masking: MaskingRules = MaskingRules()
    """Which values are masked in its texts before the language model reads them; [] for none."""

    def require_protection(self, protection: str) -> None:
        """`RefusedError` unless updates may leave under this protection."""
        if protection not in self.protections:
            allowed = ", ".join(self.protections) or "none at all"
            _refuse(f"the site's policy accepts protection {allowed}, the charter has {protection}")

    def require_query(self, sql: str) -> None:
        """`RefusedError` unless the site has admitted exactly this SQL."""
        if query_digest(sql) not in self.queries:
            _refuse(
                f"the query with digest {query_digest(sql)[:12]} is not one the site's policy admits: "
                "its people add the digest to 'queries' once they have read it"
            )

    def require_task(self, named: str) -> None:
        """`RefusedError` unless the site has admitted the task with this `task_digest`."""
        if named not in self.tasks:
            _refuse(
                f"the task with digest {named} (template, label, split, classes, declared columns) is not "
                "one the site's policy admits: its people add the digest to 'tasks' once they have read the "
                "federation file's section 'task'"
            )

    def require_warehouse(self, source: str, uri: str) -> None:
        """`RefusedError` unless BigQuery is read on this policy's terms, where it has some."""
        if self.bigquery is None:
            if source == BIGQUERY:
                _refuse(
                    "the site's policy has no section 'bigquery': its people write the terms on which it is "
                    "read, or have 'crosscloud charter sign' write a first policy"
                )
        elif source != BIGQUERY:
            _refuse(f"the site's policy reads BigQuery alone, the run asks for a {source} source")
        elif uri.rstrip("/") != self.bigquery.uri:
            _refuse(f"the warehouse {uri} is not the one that the site's policy names")

    def require_stores(self, uris: Iterable[str]) -> None:
        """`RefusedError` unless every address lies below an admitted prefix and is not chained."""
        prefixes = [prefix.rstrip("/") for prefix in self.stores]
        for uri in uris:
            below = any(uri == prefix or uri.startswith(f"{prefix}/") for prefix in prefixes)
            # A file:// URI is unquoted before it is followed: %2e%2e leads up as well.
            if not below or "::" in uri or ".." in unquote(uri).split("/"):
                _refuse(f"the address {uri} is not below one that the site's policy admits")

    def require_encoder(self, named: str) -> None:
        """`RefusedError` unless this digest of the language model is the admitted one."""
        if self.encoder and named != self.encoder:
            _refuse(
                f"the language model with digest {named[:12] or '(none)'} is not the one that the site's "
                "policy admits"
            )

    def require_peers(self, sites: Iterable[str]) -> None:
        """`RefusedError` unless all insisted peers are among the sites."""
        missing = sorted(set(self.peers) - set(sites))
        if missing:
            _refuse(f"the site's policy insists on {', '.join(missing)}, which does not take part")

    def require_release(self, release: str) -> None:
        """`RefusedError` unless figures may be published this way."""
        if release not in RELEASES[: RELEASES.index(self.evaluation) + 1]:
            _refuse(f"the site's policy does not allow its figures to be published {release}")

    def to_yaml(self) -> bytes:
        """The file's content, each field under its explanation."""
        lines = ["# What this site lets a federated round do. Only the site writes this file."]
        for name, field in SitePolicy.model_fields.items():
            lines.append(f"# {field.description}")
            value = self.model_dump(mode="json")[name]
            lines.append(yaml.safe_dump({name: value}, width=200).rstrip())
        return "\n".join(lines).encode() + b"\n"


def query_digest(sql: str) -> str:
    """SHA-256 of an SQL text without the blanks around it."""
    return digest(sql.strip().encode())


def task_digest(
    *,
    template: str,
    label_column: str,
    split_column: str,
    test_fraction: float,
    classes: Sequence[str],
    columns: Sequence[Mapping[str, Any]],
) -> str:
    """SHA-256 of what records are read as, whatever query and warehouse they come from.

    A step is asked for all of it by the coordinator's pipeline, and a column with allowed values or a list of
    classes asks a question of every row. Numbers count by their value and keys in any order; the order of
    lists is part of it.

    Args:
        template: text template over columns.
        label_column: with the class of a record.
        split_column: whose fingerprint splits training and test.
        test_fraction: share of test fingerprints, between 0 and 1.
        classes: allowed labels, in the order of the model's outputs.
        columns: that are declared, each with all its fields.
    """
    description = {
        "template": template,
        "label_column": label_column,
        "split_column": split_column,
        "test_fraction": test_fraction,
        "classes": list(classes),
        "columns": [dict(column) for column in columns],
    }
    return digest(canonical_json(description))


def load_policy(keys_uri: str, owner: str) -> SitePolicy:
    """The policy of a site, or of the key holder.

    Raises:
        RefusedError: there is none; a party without a policy takes no part.
        UsageError: it breaks a rule; all are listed.
    """
    path = private_folder(keys_uri, owner) / POLICY
    if not path.is_file():
        text = f"{owner} has no {POLICY}: it signs the charter first, with 'crosscloud charter sign'"
        raise RefusedError(text, disclosed=text)
    return read_owned(path, SitePolicy.model_validate)


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
