"""The `augment` step as it is asked for: with plain arguments."""

from __future__ import annotations

from collections.abc import Sequence

from components.agreement.workplace import Workplace
from components.data_processing.feature_augmentation import augmentation
from components.data_processing.feature_augmentation.encoder import EncoderSpec
from components.execution.outcome import Outcome


def augment(
    place: Workplace,
    *,
    rows: str,
    template: str,
    classes: Sequence[str],
    encoder_name: str,
    encoder_revision: str,
    encoder_digest: str,
    encoder_max_length: int,
    encoder_dimensions: int,
    device: str,
) -> Outcome:
    """See `EncoderSpec` and `augmentation.augment` for the arguments, what is done and what is raised."""
    encoder = EncoderSpec(
        name=encoder_name,
        revision=encoder_revision,
        digest=encoder_digest,
        max_length=encoder_max_length,
        dimensions=encoder_dimensions,
    )
    return augmentation.augment(
        place, rows=rows, template=template, classes=classes, encoder=encoder, device=device
    )
