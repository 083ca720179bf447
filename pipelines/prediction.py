"""Labels texts with a site's adapted model, so that what was trained can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import private_folder
from components.agreement.public_corpus import read_corpus
from components.agreement.public_projection import read_projection
from components.agreement.server_steps import split
from components.agreement.site_policy import POLICY, SitePolicy, load_policy
from components.artifacts import tensors
from components.artifacts.stores import open_store
from components.data_processing.feature_augmentation.centring import centred, public_mean
from components.data_processing.feature_augmentation.encoder import Encoder
from components.data_processing.feature_augmentation.projecting import projected
from components.data_processing.masking.masking import mask
from components.data_processing.record_ingestion.site_terms import masked_kinds
from components.errors import RefusedError, UsageError
from components.rounds.state import committed_rounds, newest_record, read_checkpoint, standing_record
from components.training import heads
from components.training.adaptation.adaptation import adaptation_key, adapted
from pipelines.federation import Federation
from pipelines.readiness import encoder_spec


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most likely class of a text and its probability."""

    text: str
    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """A committed model, ready to label.

    Attributes:
        federation: whose classes and encoder are used.
        head: the global model, or a site's adapted one.
        round_number: of the commit it comes from.
        is_adapted: whether the site's Δw was added.
        corpus: SHA-256 of the public texts that features are centred on; empty for none.
        projection: SHA-256 of what features are multiplied by then; empty for nothing.
        kinds: of values that the site has masked in its records, and has masked in these texts as well.
    """

    federation: Federation
    head: tensors.Tensors
    round_number: int
    is_adapted: bool
    corpus: str = ""
    projection: str = ""
    kinds: tuple[str, ...] = ()

    def label(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction a text, in order."""
        exchange, encoder = open_store(self.federation.exchange_uri), Encoder(encoder_spec(self.federation))
        features = encoder.encode(mask(texts, self.kinds).texts if self.kinds else texts)
        if self.corpus:
            features = centred(features, public_mean(read_corpus(exchange, self.corpus), encoder))
        if self.projection:
            features = projected(features, read_projection(exchange, self.projection).matrix)
        scores = heads.logits(self.head, features).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        return [
            Prediction(text=text, label=self.federation.task.classes[column], probability=float(row[column]))
            for text, row, column in zip(texts, probabilities, best, strict=True)
        ]


def newest_labeller(federation: Federation, site: str, *, use_global: bool) -> Labeller:
    """The newest committed model that was not taken back, with the site's Δw where it has one.

    Raises:
        UnknownSiteError: the federation has no such site.
        UsageError: no round is committed yet.
        DigestMismatchError: the checkpoint is not the one that was committed.
    """
    place = federation.site(site)
    state = open_store(federation.state_uri)
    record = None
    corpus = projection = ""
    if committed_rounds(state):
        charter = charter_in_force(federation.keys_uri)
        newest = newest_record(state, federation.keys_uri, charter)
        record = standing_record(state, federation.keys_uri, charter, newest)
        corpus, projection = charter.public_corpus, charter.projection
    if record is None:
        raise UsageError(f"{federation.federation} has no committed round yet: run one with 'crosscloud run'")
    head, _ = split(tensors.decode_any(read_checkpoint(state, record)))
    store, key = open_store(place.store_uri), adaptation_key(record.model)
    adapts = not use_global and store.exists(key)
    if adapts:
        head = adapted(head, tensors.decode(store.read(key)))
    return Labeller(
        federation=federation,
        head=head,
        round_number=record.round_number,
        is_adapted=adapts,
        corpus=corpus,
        projection=projection,
        kinds=_masked_kinds(federation, site),
    )


def _masked_kinds(federation: Federation, site: str) -> tuple[str, ...]:
    """As the site's policy says; as a new policy would where it lies on another machine."""
    try:
        there = (private_folder(federation.keys_uri, site) / POLICY).is_file()
    except UsageError:
        # Public keys lie in a bucket, and nothing says where private ones would lie here.
        there = False
    try:
        return masked_kinds(load_policy(federation.keys_uri, site) if there else SitePolicy(charter="0" * 64))
    except RefusedError as error:
        raise UsageError(str(error)) from None
