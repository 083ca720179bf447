"""Measures the committed and the adapted model on a site's test rows.

Figures leave the site only where its section of the federation file says `evaluation.release:
per_site`; otherwise they stay in its own store.
"""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.agreement.model_store import read_model
from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import sign, verify
from components.artifacts.stores import create_or_read, key_of, reference
from components.errors import BadDataError, RefusedError, SignatureError
from components.evaluation.metrics import Evaluation, evaluate_logits
from components.execution.outcome import Outcome
from components.training import heads
from components.training.adaptation.adaptation import adapted
from components.training.features import Examples, read_features

DOMAIN = "evaluation"
PER_SITE = "per_site"


def evaluate(place: Workplace, *, model: str, features: str, adaptation: str, release: str) -> Outcome:
    """Evaluates once a ticket and keeps the figures; publishes them where the site allows it.

    Args:
        place: the site at work.
        model: SHA-256 of the committed model.
        features: reference of the site's features.
        adaptation: reference of the site's Δw.
        release: `per_site` publishes this site's figures, `none` keeps them at the site.

    Returns:
        The reference of the published figures, empty where they are kept.

    Raises:
        RefusedError: the site's policy does not let its figures be published.
        BadDataError: figures are to be published and there are no test rows. A site that keeps its figures
            does not tell whether it has any.
    """
    key = f"evaluations/{place.ticket.digest}.json"
    if not place.store.exists(key):
        test = read_features(place.store, features).test
        if not len(test.labels):
            if release != PER_SITE:
                return Outcome()
            raise BadDataError("the query returned no test rows", disclosed="there are no test rows")
        figures = json.dumps(_measure(place, model, test, adaptation), sort_keys=True).encode()
        create_or_read(place.store, key, figures)
    figures = json.loads(place.store.read(key))
    if release != PER_SITE:
        return Outcome()
    place.policy.require_release(release)
    body = {"ticket": place.ticket.digest, "site": place.site, "model": model, "evaluation": figures}
    document = sign(place.key, domain=DOMAIN, signer=place.site, body=body)
    published = figures_key(place.ticket, place.site)
    if create_or_read(place.exchange, published, document) != document:
        text = "other figures lie in the exchange where this site's belong"
        raise RefusedError(text, disclosed=text)
    before, after = (Evaluation.from_dict(figures[name]) for name in ("global", "adapted"))
    return Outcome(
        reference=reference(place.exchange, published),
        manifest=figures,
        metrics={
            "accuracy": before.accuracy,
            "macro_f1": before.macro_f1,
            "log_loss": before.log_loss,
            "adapted_accuracy": after.accuracy,
            "adapted_macro_f1": after.macro_f1,
            "adapted_log_loss": after.log_loss,
        },
        bytes_sent=len(document),
    )


def figures_key(ticket: Ticket, site: str) -> str:
    """Where a site's published figures lie in the exchange."""
    return f"{ticket.folder}/figures/{site}.json"


def read_figures(document: bytes, ticket: Ticket, site: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """Verifies a site's published figures.

    Raises:
        SignatureError: altered, another site's, or of another round.
    """
    body = verify(document, domain=DOMAIN, signer=site, key=key)
    if body.get("ticket") != ticket.digest or body.get("site") != site:
        raise SignatureError(f"the figures of {site} are of another round")
    figures = body.get("evaluation")
    if not isinstance(figures, dict) or not {"global", "adapted"} <= figures.keys():
        raise SignatureError(f"the figures of {site} are not in the form this version knows")
    return figures


def _measure(place: Workplace, model: str, test: Examples, adaptation: str) -> dict[str, Any]:
    head = read_model(place.exchange, model)
    delta = tensors.decode(place.store.read(key_of(place.store, adaptation)))
    return {
        name: evaluate_logits(heads.logits(weights, test.features), test.labels).to_dict()
        for name, weights in (("global", head), ("adapted", adapted(head, delta)))
    }
