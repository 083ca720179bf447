"""What a departure is, in words that an officer can put before others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from components.agreement.protections import HE, MASKED, NONE, SEALED, SMC
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.execution.departures import Departure
from components.execution.ticket_reference import METRICS

_SUM = "only a sum of at least {least} sites opens it"
_UPDATES = {
    SEALED: f"sealed update: {_SUM}",
    MASKED: f"masked update: {_SUM}",
    SMC: "masked update: only a sum of at least {least} sites can be read, by whoever reads the exchange",
    HE: "update under CKKS: the decryption key opens it, by itself or in a sum",
    NONE: "update in clear: whoever reads the exchange reads it",
}
_COUNTS = {
    SEALED: f"sealed counts of test rows: {_SUM}",
    MASKED: f"masked counts of test rows: {_SUM}",
    SMC: "masked counts of test rows: only a sum of at least {least} sites can be read",
}
_OBJECTS = {
    "commitments": "commitment: a salted digest of the update, no contents",
    "shares": "shares of the keys that mask the update, each encrypted to one site of the roster",
    "sharers.json": "names of the sites that have dealt their shares, and digests",
    "unmasked": "unmasking: one share of every site for one agreed sum, under a lock that a quorum opens",
    "figures": "figures: accuracy and confusion counts, allowed by the site's policy",
    "journal": "journal: seconds, bytes and words for what the step found",
    "outcomes": "outcome of the step, signed: the same that it tells its asker",
}
_STATES = {
    "sent": "",
    "told": "",
    "met": " (another time: something lay there already)",
    "begun": " (may have left: the step ended before that was known)",
}


def purpose(departure: Departure, sums: Mapping[str, tuple[str, ...]]) -> str:
    """What left the site.

    Args:
        departure: as it was written down.
        sums: of `released_sums`.
    """
    if not departure.key:
        return _told(departure)
    return _object(departure, sums) + _STATES[departure.state]


def released_sums(store: Store, site: str) -> dict[str, tuple[str, ...]]:
    """Members of the sums that a site has released its masks for, by SHA-256 of the release."""
    found: dict[str, tuple[str, ...]] = {}
    for key in store.keys("releases"):
        document = store.read(key, limit=1 << 20)
        # What cannot be read is no release: the departure is then told without its members.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            shares = json.loads(document)["body"]["shares"]
            found[digest(document)] = tuple(sorted({site, *shares.keys()}))
    return found


def _object(departure: Departure, sums: Mapping[str, tuple[str, ...]]) -> str:
    parts = departure.key.split("/")
    what = "counts" if parts[0] == METRICS else "update"
    kind = parts[0] if parts[0] == "outcomes" else parts[2] if len(parts) > 2 else ""
    if kind == "sealed":
        return (
            _update(departure)
            if departure.key.endswith(".bin")
            else f"manifest of the {what}: its digest and size"
        )
    if kind == "released":
        members = ", ".join(sums.get(departure.sha256, ())) or "one agreed set of sites"
        return f"release of its masks for the sum of {members}"
    if kind in ("commitments", "shares"):
        return _OBJECTS[kind].replace("the update", f"the {what}")
    return _OBJECTS.get(kind, f"object of the step {departure.occasion.step or '(not named)'}")


def _update(departure: Departure) -> str:
    occasion = departure.occasion
    sealed = _COUNTS if departure.key.startswith(f"{METRICS}/") else _UPDATES
    words = sealed.get(occasion.protection, "update under a protection that this version does not know")
    return words.format(least=occasion.least_sites)


def _told(departure: Departure) -> str:
    if departure.reason:
        return f"reason: {departure.reason}"
    shown = [name.removeprefix("manifest ") for name in departure.fields if name.startswith("manifest ")]
    figures = [name.removeprefix("metric ") for name in departure.fields if name.startswith("metric ")]
    parts = ["reference of what it made"] * bool(departure.told)
    parts += [f"manifest shown in Kubeflow ({', '.join(shown)})"] * bool(shown)
    parts += [f"figures ({', '.join(figures)})"] * bool(figures)
    parts += ["words for what it found"] * ("findings" in departure.fields)
    return "; ".join(parts) or "that it is done"
