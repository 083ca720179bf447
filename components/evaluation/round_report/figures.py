"""What the report of a federation shows: the figures of one round after another.

Figures are read from one JSON document a round. A site that keeps its evaluation to itself has none
here; pooled figures are over the test rows of the sites that publish theirs. Where none does, a sealed sum of
several sites' counts stands in their place, with the error that its noise leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any

from components.errors import IntegrityError
from components.evaluation.audit.record import AuditRecord, audit_of
from components.evaluation.metrics import Evaluation, pool
from components.evaluation.round_report.compression import Compression
from components.evaluation.sealed_counts import SealedCounts, Share

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SiteFigures:
    """One site in one round.

    Attributes:
        name: as in the federation file.
        cloud: where it is.
        took_part: its update is in the sum.
        reason: why it was left out or has no figures, in others' words; empty if all went well.
        bytes_sent: what it sent to others in this round.
        bytes_read: what its warehouse read, rounded up to a power of two; 0 where it does not tell.
        findings: words for how its records have drifted, as far as it tells.
        global_model: the committed model on the site's test rows; None where kept at the site.
        adapted: the same with the site's Δw; None together with `global_model`.
    """

    name: str
    cloud: str
    took_part: bool
    reason: str
    bytes_sent: int
    bytes_read: int
    findings: tuple[str, ...]
    global_model: Evaluation | None
    adapted: Evaluation | None


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """One step of one round; `site` is empty for a step that all sites share."""

    step: str
    site: str
    seconds: float
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """One committed round of a federation."""

    federation: str
    title: str
    method: str
    protection: str
    round_number: int
    attempt: int
    committed_at: datetime
    classes: tuple[str, ...]
    sites: tuple[SiteFigures, ...]
    steps: tuple[StepFigures, ...]
    model_digest: str
    parameters: Mapping[str, str | int | float]
    privacy: Mapping[str, Any] | None = None
    compression: Compression | None = None
    counts: SealedCounts | None = None
    counts_epsilon: float = 0.0
    counts_unit: str = "row"
    counts_reason: str = ""
    audit: AuditRecord | None = None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RoundFigures:
        """Reads the figures of one round.

        Raises:
            IntegrityError: the document is of another format, a field is missing or of the wrong
                kind, or an evaluation does not have the federation's classes.
        """
        if _field(document, "format", int) != FORMAT:
            raise IntegrityError(f"round figures have format {document['format']!r}: only {FORMAT} is known")
        classes = tuple(map(str, _field(document, "classes", list)))
        committed_at = _field(document, "committed_at", str)
        try:
            moment = datetime.fromisoformat(committed_at)
        except ValueError as error:
            raise IntegrityError(
                f"committed_at must be an ISO 8601 time, got {committed_at!r:.60}"
            ) from error
        return cls(
            federation=_field(document, "federation", str),
            title=_field(document, "title", str),
            method=_field(document, "method", str),
            protection=_field(document, "protection", str),
            round_number=_field(document, "round_number", int),
            attempt=_field(document, "attempt", int),
            committed_at=moment,
            classes=classes,
            sites=tuple(_site(site, len(classes)) for site in _field(document, "sites", list)),
            steps=tuple(_step(step) for step in _field(document, "steps", list)),
            model_digest=_field(document, "model_digest", str),
            parameters=dict(_field(document, "parameters", dict)),
            privacy=document.get("privacy"),
            audit=audit_of(document["audit"]) if document.get("audit") is not None else None,
            compression=_compression(document.get("compression")),
            **_counts(document.get("aggregate") or {}, len(classes)),
        )

    @cached_property
    def pooled_global(self) -> Evaluation | None:
        """The committed model on all published test rows; None where no site publishes."""
        published = [site.global_model for site in self.sites if site.global_model is not None]
        return pool(published) if published else None

    @cached_property
    def pooled_adapted(self) -> Evaluation | None:
        """Every site's adapted model on its own test rows, all rows together."""
        published = [site.adapted for site in self.sites if site.adapted is not None]
        return pool(published) if published else None

    @property
    def overall(self) -> Share | None:
        """The committed model's accuracy: on published test rows, else from the sealed sum; None for none."""
        if self.pooled_global:
            return Share(accuracy=self.pooled_global.accuracy, half_width=0.0)
        return self.counts.global_share if self.counts else None

    @property
    def overall_adapted(self) -> Share | None:
        """The same of every site's adapted model on its own rows."""
        if self.pooled_adapted:
            return Share(accuracy=self.pooled_adapted.accuracy, half_width=0.0)
        return self.counts.adapted_share if self.counts else None

    @property
    def participants(self) -> tuple[SiteFigures, ...]:
        """The sites whose updates are in the sum."""
        return tuple(site for site in self.sites if site.took_part)

    @property
    def left_out(self) -> tuple[SiteFigures, ...]:
        """The sites whose updates are not in the sum."""
        return tuple(site for site in self.sites if not site.took_part)

    @property
    def bytes_sent(self) -> int:
        """What all sites together sent in this round."""
        return sum(site.bytes_sent for site in self.sites)

    @property
    def bytes_read(self) -> int:
        """What the warehouses of all sites that tell it read for this round."""
        return sum(site.bytes_read for site in self.sites)

    @property
    def seconds(self) -> float:
        """Time of all steps added up; sites work at the same time, so a round takes less."""
        return sum(step.seconds for step in self.steps)


def _counts(document: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Fields of the round's sealed sum; none of them in a round without, or of before there were any."""
    if "rows" not in document:
        return {"counts_reason": str(document.get("reason", ""))}
    counts = SealedCounts.from_dict(document)
    if len(counts.confusion) != classes:
        raise IntegrityError(
            f"the sealed counts are of {len(counts.confusion)} classes: the federation has {classes}"
        )
    return {
        "counts": counts,
        "counts_epsilon": float(_field(document, "epsilon", (int, float))),
        "counts_unit": _field(document, "unit", str),
    }


def _site(document: Mapping[str, Any], classes: int) -> SiteFigures:
    name = _field(document, "name", str)
    evaluations: dict[str, Evaluation | None] = {"global": None, "adapted": None}
    if document.get("evaluation") is not None:
        published = _field(document, "evaluation", dict)
        for model in evaluations:
            evaluation = Evaluation.from_dict(_field(published, model, dict))
            if len(evaluation.confusion) != classes:
                raise IntegrityError(
                    f"the {model} evaluation of {name} has {len(evaluation.confusion)} classes: "
                    f"the federation has {classes}"
                )
            evaluations[model] = evaluation
    return SiteFigures(
        name=name,
        cloud=_field(document, "cloud", str),
        took_part=_field(document, "took_part", bool),
        reason=_field(document, "reason", str),
        bytes_sent=_field(document, "bytes_sent", int),
        # Reports of rounds before these were told have neither.
        bytes_read=_field({"bytes_read": 0, **document}, "bytes_read", int),
        findings=tuple(map(str, _field({"findings": [], **document}, "findings", list))),
        global_model=evaluations["global"],
        adapted=evaluations["adapted"],
    )


def _compression(document: object) -> Compression | None:
    """None without a projection, and in reports of rounds before there were any."""
    if document is None:
        return None
    if not isinstance(document, dict):
        raise IntegrityError(f"round figures: compression must be a mapping, got {document!r:.60}")
    return Compression(**{each.name: _field(document, each.name, int) for each in fields(Compression)})


def _step(document: Mapping[str, Any]) -> StepFigures:
    return StepFigures(
        step=_field(document, "step", str),
        site=_field(document, "site", str),
        seconds=float(_field(document, "seconds", (int, float))),
        num_bytes=_field(document, "bytes", int),
    )


def _field(document: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of `key`, which must be of `kind`; a bool is no number."""
    value = document.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(member.__name__ for member in kind)
        raise IntegrityError(f"round figures: {key} must be of type {names}, got {value!r:.60}")
    return value
