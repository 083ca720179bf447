"""What a public projection spares: bytes of a sealed update as sent, and as they would have been without it.

Both follow from the number of values and the layout of the protection, and are exact: a site whose sealed
update has another size is not in a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.agreement.attempt import Attempt
from components.agreement.charter import Charter
from components.agreement.model_store import model_shapes
from components.agreement.public_projection import read_projection
from components.agreement.released_sum import Shapes
from components.encryption.protection import sealed_size
from components.encryption.update_vector import vector_length


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What the projection of a round's charter has made of its updates.

    Attributes:
        features: d', that are left of every row.
        encoder_features: d, that the encoder makes of it.
        sealed_bytes: of one site's sealed update in this round.
        sealed_bytes_before: of the same on all of the encoder's features.
    """

    features: int
    encoder_features: int
    sealed_bytes: int
    sealed_bytes_before: int


def compression(attempt: Attempt) -> Compression | None:
    """What the round of an attempt sends and would have sent; None where its charter has no projection.

    Raises:
        IntegrityError: the projection or the model in the exchange is not the one that was agreed on.
    """
    charter, ticket = attempt.charter, attempt.ticket
    if not charter.projection:
        return None
    projection = read_projection(attempt.exchange, charter.projection)
    shapes = model_shapes(attempt.exchange, ticket.model)
    return Compression(
        features=projection.dimensions,
        encoder_features=projection.full_dimensions,
        sealed_bytes=_sealed_bytes(charter, ticket.round_number, shapes),
        sealed_bytes_before=_sealed_bytes(
            charter, ticket.round_number, widened(shapes, projection.full_dimensions)
        ),
    )


def widened(shapes: Shapes, features: int) -> Shapes:
    """Shapes of the same head on so many features."""
    first = "hidden.weight" if "hidden.weight" in shapes else "output.weight"
    return {
        name: (shape[0], features) if name in (first, "skip.weight") else shape
        for name, shape in shapes.items()
    }


def _sealed_bytes(charter: Charter, round_number: int, shapes: Shapes) -> int:
    length = vector_length(charter, round_number, shapes)
    return sealed_size(charter.protection, length, values_per_slot=charter.values_per_slot)
