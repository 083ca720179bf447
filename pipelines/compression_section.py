"""The section of a federation file that makes updates smaller."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.data_sections import Section
from pipelines.federation_sections import PublicCorpus


class Compression(Section):
    """A public projection of features to fewer: model, updates and their seal shrink in proportion."""

    kind: Literal["projection"]
    """Onto the principal directions of public texts, which are the same for every site and every round."""
    dimensions: int = Field(ge=1, le=65535)
    """Features of a row that are left, fewer than `encoder.dimensions`."""
    corpus: PublicCorpus | None = None
    """The public texts, more of them than dimensions; `encoder.public_corpus` where none are named here."""
