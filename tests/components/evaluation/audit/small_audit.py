"""A federation's terms as they are audited, with fewer canaries than a real audit has."""

from __future__ import annotations

from pathlib import Path

import yaml

from components.evaluation.audit.audited_run import Audited
from pipelines.auditing import audited
from pipelines.federation import Federation

QUICK_START = Path("manifests/federations/quickstart.yaml")
FEATURES, CLASSES = 96, 11


def small(epsilon: float, **privacy: object) -> Audited:
    """The quick start's terms, of a head with 96 features and 11 classes; 960 canaries."""
    document = yaml.safe_load(QUICK_START.read_text())
    document["task"]["classes"] = document["task"]["classes"][:CLASSES]
    document["encoder"] = {"name": "any", "digest": "0" * 64, "dimensions": FEATURES}
    document["privacy"] |= privacy
    return audited(Federation.model_validate(document), epsilon)
