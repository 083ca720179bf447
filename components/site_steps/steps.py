"""The steps of a site by name, and how one is done with plain arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from components.errors import RefusedError

if TYPE_CHECKING:
    from components.agreement.workplace import Workplace
    from components.execution.outcome import Outcome

STEPS: Mapping[str, str] = {
    "ingest": "components.data_processing.record_ingestion.step:ingest",
    "augment": "components.data_processing.feature_augmentation.step:augment",
    "train": "components.training.local_training.training:train",
    "share": "components.encryption.key_sharing.sharing:share_keys",
    "seal": "components.encryption.update_sealing.sealing:seal_update",
    "release": "components.encryption.mask_release.releasing:release_masks",
    "unmask": "components.encryption.mask_recovery.unmasking:unmask_sum",
    "adapt": "components.training.adaptation.adaptation:adapt",
    "evaluate": "components.evaluation.model_evaluation.evaluation:evaluate",
    "count": "components.evaluation.count_commitment.counting:count",
}
"""Module and function of every step: named, as who dispatches a step need not have what it imports."""
COMPUTING = ("augment", "train")
"""Steps that get the site's accelerator."""


def bound(step: str, arguments: Mapping[str, Any]) -> Callable[[Workplace], Outcome]:
    """The step's work, to be given a site's opened workplace.

    Args:
        step: name of the step.
        arguments: the step's own, as JSON can carry them.

    Raises:
        RefusedError: there is no such step, or it takes other arguments.
    """
    target = STEPS.get(step)
    if target is None:
        text = f"there is no step {step[:40]!r}: a site does {', '.join(STEPS)}"
        raise RefusedError(text, disclosed=text)
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        inspect.signature(function).bind(None, **arguments)
    except TypeError as error:
        text = f"{step} takes other arguments: {error}"
        raise RefusedError(text, disclosed=text) from None
    return lambda place: function(place, **arguments)
