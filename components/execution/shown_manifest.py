"""What of a step's manifest is shown beside its artifact in Kubeflow."""

from __future__ import annotations

from collections.abc import Mapping


def artifact_metadata(manifest: Mapping[str, object]) -> dict[str, str | int]:
    """Account, masked counts and drift of the manifest of rows, as flat names."""
    told: dict[str, str | int] = {}
    for part in ("account", "masked"):
        entries = manifest.get(part)
        if isinstance(entries, Mapping):
            told |= {f"{part}_{name}": value for name, value in entries.items()}
    drift = manifest.get("drift")
    if isinstance(drift, list):
        told["drift"] = ", ".join(drift)
    return told
