"""The federation file: who takes part, on what data, with which model, under which protection.

Every problem of a file is reported at once, each with its path. Public keys and secrets never
stand in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from components.agreement.charter import PRIVATE, least_sum_sites
from components.agreement.methods import METHODS
from components.agreement.protections import TRAITS
from components.agreement.site_policy import AGGREGATE
from components.errors import FederationFileError, UnknownSiteError, UsageError
from pipelines.compression_section import Compression
from pipelines.federation_rules import disagreements
from pipelines.federation_sections import (
    EncoderSection,
    Head,
    Limits,
    Name,
    Privacy,
    PublicCorpus,
    Quorum,
    Section,
    Site,
    StoreUri,
    Task,
    Training,
)
from pipelines.placement_sections import Images, Placement
from pipelines.release_rules import Release, default_release
from pipelines.retention_section import Retention
from pipelines.schedule_section import Schedule


class Federation(Section):
    """A federation of sites that train one model."""

    federation: Name
    """Its id."""
    title: str = Field(min_length=1, max_length=120)
    task: Task
    encoder: EncoderSection
    compression: Compression | None = None
    head: Head = Head()
    training: Training
    protection: Literal["none", "he", "smc", "masked", "sealed"] = "sealed"
    """How updates are sealed: `sealed` opens one agreed sum and nothing else; `masked` does so with masks
    alone, for very large updates; `smc` shows that sum to everybody who sees the exchange, and goes on
    without sites that are lost at any time; `he` is CKKS under one key; `none` sends them in clear."""
    quorum: Quorum
    limits: Limits = Limits()
    privacy: Privacy | None = None
    """Of `fedsgd`, `analytic` and `dp-sgd`: what the others release has no sensitivity to one example."""
    state_uri: StoreUri
    """Store of the committed rounds."""
    exchange_uri: StoreUri
    """Store that all parties read: tickets, sealed updates, published models."""
    images: Images = Images()
    aggregator: Placement = Placement()
    key_holder: Placement = Placement()
    coordinator: Placement = Placement()
    sites: list[Site] = Field(min_length=2)
    schedule: Schedule | None = None
    retention: Retention = Retention()
    sample_data: Literal["hospitals"] | None = None
    """Sample warehouses that `crosscloud run` makes before the first round where none is there yet."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = disagreements(self.model_dump())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def site_names(self) -> list[str]:
        """Names of the sites in the order of the file."""
        return [site.name for site in self.sites]

    @property
    def keys_uri(self) -> str:
        """Folder of the public keys, beside the state."""
        parent, separator, _ = self.state_uri.rpartition("/")
        return f"{parent}{separator}keys"

    @property
    def key_holder_uri(self) -> str:
        """The key holder's own store, where it remembers what it has opened."""
        parent, separator, _ = self.state_uri.rpartition("/")
        return f"{parent}{separator}key-holder"

    @property
    def min_sum_sites(self) -> int:
        """u_min, fewest sites in a sum that is opened."""
        if self.quorum.min_sum_sites is not None:
            return self.quorum.min_sum_sites
        if not TRAITS[self.protection].masked:
            return self.quorum.min_sites
        return least_sum_sites(len(self.sites), self.quorum.colluding_sites)

    @property
    def method(self) -> str:
        """Name of the method that protection and algorithm make."""
        wanted = (self.protection, self.training.algorithm)
        named = f"{self.training.algorithm} under {self.protection}"
        return next((name for name, parts in METHODS.items() if parts == wanted), named)

    @property
    def num_features(self) -> int:
        """Width of a row's features, projected where the file asks for it."""
        return self.compression.dimensions if self.compression else self.encoder.dimensions

    @property
    def projection_corpus(self) -> PublicCorpus | None:
        """The public texts whose features tell the directions of the projection; None without one."""
        if self.compression is None:
            return None
        return self.compression.corpus or self.encoder.public_corpus

    def release(self, site: Site) -> Release:
        """What may be known of a site's figures: what it says, or the most that its protection hides."""
        return site.evaluation.release or default_release(self.protection)

    @property
    def counting_sites(self) -> list[str]:
        """Sites whose test rows are counted in sealed sums, in the order of the file."""
        return [site.name for site in self.sites if self.release(site) == AGGREGATE]

    def site(self, name: str) -> Site:
        """The site of this name.

        Raises:
            UnknownSiteError: there is none.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise UnknownSiteError(name, self.site_names)

    def with_method(self, method: str) -> Federation:
        """The same federation under one of the named methods.

        Raises:
            UsageError: no method has this name, or the file breaks a rule of its protection.
        """
        if method not in METHODS:
            raise UsageError(f"unknown method {method!r}: known are {', '.join(METHODS)}")
        protection, algorithm = METHODS[method]
        training = self.training.model_copy(update={"algorithm": algorithm})
        privacy = self.privacy if algorithm in PRIVATE else None
        update = {"protection": protection, "training": training, "privacy": privacy}
        changed = self.model_copy(update=update)
        problems = disagreements(changed.model_dump())
        if problems:
            raise UsageError("\n".join(f"under {method}: {problem}" for problem in problems))
        return changed


def load_federation(path: Path) -> Federation:
    """Reads and validates a federation file.

    Raises:
        FederationFileError: it cannot be read, or breaks one or more rules; all are listed.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except FileNotFoundError:
        raise FederationFileError(str(path), ["there is no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FederationFileError(str(path), [f"cannot be read: {type(error).__name__}"]) from None
    except yaml.YAMLError as error:
        raise FederationFileError(str(path), [f"is not YAML: {_one_line(str(error))}"]) from None
    if not isinstance(document, dict):
        raise FederationFileError(str(path), ["must be a mapping of keys to values"])
    try:
        return _located(Federation.model_validate(document), path)
    except ValidationError as error:
        problems = _problems(error)
        problems += [problem for problem in disagreements(document) if problem not in problems]
        raise FederationFileError(str(path), problems) from None


def json_schema() -> dict[str, Any]:
    """JSON schema of the file, for editors."""
    return Federation.model_json_schema() | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crosscloud federation file",
    }


def _located(federation: Federation, path: Path) -> Federation:
    """The same with the public corpora's paths as they are from here."""
    found: dict[str, Section] = {}
    for section, name in ((federation.encoder, "public_corpus"), (federation.compression, "corpus")):
        corpus = getattr(section, name, None)
        if section is not None and corpus is not None:
            located = corpus.model_copy(update={"file": str(path.parent / corpus.file)})
            key = "encoder" if section is federation.encoder else "compression"
            found[key] = section.model_copy(update={name: located})
    return federation.model_copy(update=found) if found else federation


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key that stands twice instead of silently keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


def _problems(error: ValidationError) -> list[str]:
    problems: list[str] = []
    for each in error.errors(include_url=False):
        path = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(str(part) for part in each["loc"]))
        message = each["msg"].removeprefix("Value error, ")
        given = "" if each["type"] in {"value_error", "missing"} else f", got {_shown(each['input'])}"
        for line in message.splitlines():
            problems.append(f"{path}: {line}{given}" if path else f"{line}{given}")
    return problems


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
