"""What a step hands to the pipeline: a reference or a reason, a small manifest, and numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.errors import (
    CrosscloudError,
    IntegrityError,
    SiteError,
    StoreError,
)

MAX_REASON = 200


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended.

    Attributes:
        reference: URI of what the step made; empty when there is nothing to refer to.
        reason: why the site is left out of the round; empty when it takes part.
        manifest: what the coordinator may know of what was made. Never data.
        metrics: numbers for the run's page in Kubeflow.
        bytes_sent: what this step uploaded to the exchange, in bytes.
        bytes_read: what its warehouse read, in bytes, as far as the site tells.
        findings: words for what it found, as far as the site tells.
        ticket: td under which it was made, for the site's own records; it is not told to anybody.
    """

    reference: str = ""
    reason: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_read: int = 0
    findings: tuple[str, ...] = ()
    ticket: str = ""

    def write_manifest(self, path: str) -> None:
        """Writes the manifest where Kubeflow uploads it from; writes nothing for a site left out."""
        if self.manifest:
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(dict(self.manifest), indent=1, sort_keys=True))

    def to_json(self) -> bytes:
        """For the pipe between a step and its guard."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Outcome:
        """Inverse of `to_json`."""
        told = json.loads(content)
        return cls(**{**told, "findings": tuple(told["findings"])})


def disclosed_reason(error: BaseException) -> str:
    """The reason other parties may read: a word, and at most what stands in the federation file.

    Messages of errors that may quote a record (those of the warehouse, of the data contract, of
    any library) stay with the site.
    """
    if isinstance(error, SiteError):
        reason, detail = error.reason, error.disclosed
    elif isinstance(error, IntegrityError):
        reason, detail = "refused", str(error)
    elif isinstance(error, StoreError):
        reason, detail = "unreachable", f"a store ({type(error).__name__})"
    elif isinstance(error, CrosscloudError):
        # Its message may name paths of the site's machine.
        reason, detail = "failed", type(error).__name__
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        reason, detail = "oom", ""
    else:
        reason, detail = "failed", type(error).__name__
    return plain(f"{reason}: {detail}" if detail else reason)


def plain(text: str) -> str:
    """One short line without quotes or control characters, safe to substitute inside JSON."""
    kept = "".join(
        c
        for c in " ".join(text.split()).replace('"', "").replace("'", "").replace("\\", "/")
        if c.isprintable()
    )
    return kept if len(kept) <= MAX_REASON else kept[: MAX_REASON - 1] + "…"
