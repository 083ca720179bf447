"""What makes a small federation one whose sums are noised: method `ours`."""

from __future__ import annotations

from typing import Any

from tests.conftest import SmallFederation

TRAINING = {
    "algorithm": "fedsgd", "server_optimizer": "adam", "server_learning_rate": 0.05,
    "learning_rate": 0.05, "local_epochs": 2, "batch_size": 16, "seed": 3,
}  # fmt: skip
PRIVACY = {
    "target_epsilon": 8.0, "delta": 1e-5, "public_population": 20000, "clipping_norm": 1.5, "rounds": 2,
}  # fmt: skip


def ours(**privacy: Any) -> dict[str, Any]:
    """Sections of the file; keywords change `privacy`, and None leaves a value out."""
    changed = {name: value for name, value in (PRIVACY | privacy).items() if value is not None}
    return {"training": dict(TRAINING), "privacy": changed}


def set_privacy(made: SmallFederation, **privacy: Any) -> None:
    """Changes values of the section in a file that is there."""
    made.document["privacy"] |= privacy
    made.save()
