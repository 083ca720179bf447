"""Counts at the site what the models say of its test rows, and commits to the counts (see README.md).

Every test row is counted once in each of these: correct by the committed model, its cell of that model's
confusion matrix, the number of rows, and, without noise, correct by the site's adapted model. Under an
epsilon its whole contribution so has norm √3, which the noise of a charter is in units of.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.lineage import opened_round
from components.agreement.noise_terms import ROW
from components.agreement.released_sum import counts_adapted, shapes_of
from components.agreement.site_policy import AGGREGATE
from components.agreement.site_update import keep_update, update_key
from components.agreement.ticket import METRICS
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.stores import key_of
from components.encryption.update_vector import to_vector
from components.errors import BadDataError
from components.execution.outcome import Outcome
from components.privacy.charged_commitment import commit, committed
from components.privacy.charging import charge_ticket, charged_head
from components.training import heads
from components.training.adaptation.adaptation import adapted
from components.training.counted_features import require_counted
from components.training.features import Examples, read_features


def count(place: Workplace, *, features: str, adaptation: str) -> Outcome:
    """Accepts the ticket for metrics and pays for it, counts once, keeps the counts and commits to them.

    A site without test rows takes part with zeros, so that nobody learns that it has none. A retry finds the
    counts: noise is never drawn twice under one ticket.

    Args:
        place: the site at work; the model is the ticket's.
        features: reference of the site's features.
        adaptation: reference of the site's Δw; of no meaning under an epsilon.

    Raises:
        RefusedError: the ticket is not for metrics, the site's policy does not let its counts be summed, the
            site does not take part under this ticket, or the features are not of the round's counted rows.
        PrivacyBudgetExceededError: its privacy budget does not hold the counts.
        BadDataError: there are more test rows than the charter admits examples, or a row is of no unit where
            units are protected.
    """
    place.require_purpose(METRICS)
    place.policy.require_release(AGGREGATE)
    ticket, site = place.ticket, place.site
    key = commitment_key(ticket, site)
    if place.exchange.exists(key):
        document = place.exchange.read(key, limit=1 << 16)
        read_commitment(document, ticket, site, place.charter)
        return committed(place, document)
    now = datetime.now(UTC)
    place.accept(now)
    charge_ticket(place, now=now)
    head = charged_head(place)
    if not place.store.exists(update_key(ticket)):
        keep_update(place.store, ticket, _counted(place, features, adaptation))
    return commit(place, head)


def confusion_counts(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    adapted_predictions: NDArray[np.int64] | None = None,
    *,
    classes: int,
    units: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], int]:
    """What a site's test rows add to the counts, and the number of rows or units behind it.

    Args:
        labels: (n,), each in 0 … classes - 1.
        predictions: of the committed model, (n,).
        adapted_predictions: of the site's adapted model, (n,); None where that is not counted.
        classes: of the model.
        units: which protected unit each row is of, (n,): the rows of one are averaged, so that its
            contribution is no longer than a row's. None where rows are counted by themselves.

    Returns:
        Correct, correct by the adapted model where it is counted, and the cells row by row; float64,
        (1 + classes²,) or (2 + classes²,).
    """
    ones = np.ones(len(labels), np.int64)
    rows_of_unit = ones if units is None else np.unique(units, return_counts=True)[1][_codes(units)]
    cells = labels * classes + predictions
    said = [predictions] if adapted_predictions is None else [predictions, adapted_predictions]
    total = np.zeros(len(said) + classes**2, np.float64)
    for rows in np.unique(rows_of_unit).tolist():
        # Whole numbers are exact in float64; so only one division and one addition a size round.
        of = rows_of_unit == rows
        correct = [int((labels == each)[of].sum()) for each in said]
        total += np.append(correct, np.bincount(cells[of], minlength=classes**2)) / rows
    return total, len(labels) if units is None else len(np.unique(units))


def _codes(units: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def _counted(place: Workplace, features: str, adaptation: str) -> NDArray[np.generic]:
    """The vector of this ticket."""
    model, charter = place.model(), place.charter
    update = opened_round(place.exchange, place.keys_uri, place.ticket.previous_folder, charter).ticket
    require_counted(place, update, features)
    test = read_features(place.store, features).test
    models = [model]
    if counts_adapted(charter):
        models.append(adapted(model, tensors.decode(place.store.read(key_of(place.store, adaptation)))))
    scores = [heads.logits_row_by_row(each, test.features) for each in models]
    said = [each.argmax(axis=1).astype(np.int64) for each in scores]
    values, rows = confusion_counts(
        test.labels, *said, classes=model["output.bias"].size, units=units_of(charter, test)
    )
    ticket = place.ticket
    return to_vector(
        charter,
        values,
        rows,
        round_number=ticket.round_number,
        shapes=shapes_of(model),
        purpose=ticket.purpose,
    )


def units_of(charter: Charter, test: Examples) -> NDArray[np.int64] | None:
    """Which unit each test row is of, (n,), where the charter protects units and not rows; else None.

    Raises:
        BadDataError: the features do not say it.
    """
    if charter.privacy is None or charter.privacy.unit == ROW:
        return None
    if test.units is None:
        # Rows that were counted by themselves would be more than the unit's price pays for.
        raise BadDataError(
            f"the features do not say which {charter.privacy.unit} a test row is of",
            disclosed="the test rows are of no unit",
        )
    return test.units
