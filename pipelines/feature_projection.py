"""The public projection that a federation file asks for: made for a charter, compared with a charter's."""

from __future__ import annotations

from components.agreement.charter import Charter
from components.agreement.public_projection import Projection, read_projection
from components.artifacts.stores import open_store
from components.data_processing.feature_augmentation.encoder import Encoder, locate, verify
from components.data_processing.feature_augmentation.projecting import principal_directions
from components.errors import BadDataError, EncoderError, ObjectMissingError, UsageError
from pipelines.federation import Federation
from pipelines.readiness import encoder_spec, projection_texts


def proposed_projection(federation: Federation, newest: Charter | None) -> Projection | None:
    """What the next edition of a charter names; None where features stay as they are.

    The newest edition's where it is what the file asks for: made again elsewhere it would differ in its last
    bits, and with it every feature.

    Args:
        federation: as its file says.
        newest: edition that the next one will follow, if there is one.

    Raises:
        UsageError: the public texts are not there or too few, or the encoder is not.
    """
    asked, corpus = federation.compression, federation.projection_corpus
    if asked is None or corpus is None:
        return None
    if newest is not None and not _differs(federation, newest):
        return read_projection(open_store(federation.exchange_uri), newest.projection)
    spec = encoder_spec(federation)
    try:
        weights = verify(locate(spec), spec)
        matrix = principal_directions(Encoder(spec).encode(projection_texts(federation)), asked.dimensions)
    except EncoderError as error:
        raise UsageError(f"encoder.name: {error}: the projection is made with it") from None
    except BadDataError as error:
        raise UsageError(f"compression.dimensions: {error}: ask for fewer, or name more texts") from None
    return Projection(matrix=matrix, corpus=corpus.digest, encoder=weights)


def asked_projection(federation: Federation, charter: Charter) -> str:
    """The charter's projection where it is what the file asks for; in words what the file asks for elsewhere.

    Raises:
        IntegrityError: what is published under the charter's name is another, or no projection.
    """
    if federation.compression is None:
        return ""
    return _differs(federation, charter) or charter.projection


def _differs(federation: Federation, charter: Charter) -> str:
    """What the file asks for, in words, where the charter does not have it; empty where it has."""
    asked, corpus, encoder = federation.compression, federation.projection_corpus, federation.encoder
    if asked is None or corpus is None:
        return ""
    words = f"{asked.dimensions} of {encoder.dimensions} directions of corpus {corpus.digest[:12]}"
    if not charter.projection:
        return words
    try:
        found = read_projection(open_store(federation.exchange_uri), charter.projection)
    except ObjectMissingError:
        return f"{words} (and {federation.exchange_uri} lacks the charter's)"
    same = (
        found.matrix.shape == (asked.dimensions, encoder.dimensions)
        and found.corpus == corpus.digest
        and encoder.digest in {"", found.encoder}
    )
    return "" if same else words
