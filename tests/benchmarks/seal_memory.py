"""Memory of sealing, summing and opening large updates through the steps, from and to the stores.

Each step runs in a forked child of its own, as steps do; what is told is its peak resident size
beyond what it had when it was forked, and beyond the update, which a site holds as integers of
four bytes. Linux only.
"""

from __future__ import annotations

import base64
import os
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.commitment import Commitment, commitment_key, committed_digest
from components.agreement.protections import SEALED
from components.agreement.round_secrets import draw_once
from components.agreement.site_update import keep_update
from components.artifacts.stores import reference
from components.encryption.keys import certify_key, initialise_keys
from components.encryption.update_vector import fixed_point
from components.execution.forking import fork
from components.rounds.round_opening.opening import ModelShape, RoundRequest, open_round
from tests.components.aggregation.three_sites import ThreeSites, draft_charter, put_in_force

CLASSES = 100


def measure(values: int, protection: str = SEALED, sites: int = 3) -> dict[str, float]:
    """Peak memory in MB by step, beyond the update itself; `values` must be a multiple of 100.

    What a site seals are integers of four bytes, what is opened numbers of eight: each step's peak is told
    beyond the one of the two that it has to hold.
    """
    names = tuple(f"site-{number}" for number in range(1, sites + 1))
    federation = _federation(values // CLASSES - 1, protection, names)
    vector = np.random.default_rng(5).integers(-1000, 1000, values + 2, dtype=np.int32)
    vector[-2:] = 100, 0
    update_mb = vector.nbytes / 1e6
    commitments = {site: _commit(federation, site, vector) for site in names}
    del vector
    roster = federation.roster(commitments)
    peaks = {"seal": 0.0}
    for site in names:
        peak = _peak_mb(lambda site=site: federation.seal(roster, [site]))  # type: ignore[misc]
        peaks["seal"] = max(peaks["seal"], peak - update_mb)
    sealed = dict.fromkeys(names, "there")
    peaks["aggregate"] = _peak_mb(lambda: federation.aggregate(sealed))
    summed = federation.summed(sealed)
    peaks["open"] = _peak_mb(lambda: federation.open_sum(summed)) - 2 * update_mb
    return {"update": update_mb, **peaks}


def _federation(features: int, protection: str, names: tuple[str, ...]) -> ThreeSites:
    shape = ModelShape(features=features, hidden_units=0, classes=CLASSES, seed=1)
    initialise_keys("small", (*names, COORDINATOR, KEY_HOLDER), keys_uri="large/keys")
    charter = draft_charter("large/keys", protection, names, shape)
    put_in_force("large", charter)
    certify_key(charter, keys_uri="large/keys", first_round=1)
    fixed_point(charter)
    request = RoundRequest(
        federation="small",
        sites=names,
        protection=protection,
        local_epochs=1,
        learning_rate=0.1,
        batch_size=1,
        seed=1,
    )
    uris = {name: f"large/{name.removesuffix('_uri')}" for name in ("state_uri", "exchange_uri", "keys_uri")}
    return ThreeSites(name="large", request=request, shape=shape, opened=open_round(request, shape, **uris))


def _commit(federation: ThreeSites, site: str, vector: np.ndarray[tuple[int], np.dtype[np.int32]]) -> str:
    """What `train` publishes for a vector, without the training."""
    place = federation.place(site)
    place.accept(datetime.now(UTC))
    keep_update(place.store, place.ticket, vector)
    secrets = draw_once(place.store, place.key, place.ticket.digest)
    document = Commitment(
        charter=place.ticket.charter,
        ticket=place.ticket.digest,
        site=site,
        ephemeral=base64.b64encode(secrets.ephemeral.public_key().public_bytes_raw()).decode(),
        commitment=committed_digest(place.ticket, site, secrets.salt, vector),
    ).signed(place.key)
    place.exchange.create(commitment_key(place.ticket, site), document)
    return reference(place.exchange, commitment_key(place.ticket, site))


def _peak_mb(work: Callable[[], object]) -> float:
    """Growth of the resident size of a forked child while it does the work."""
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        try:
            before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            Path("/proc/self/clear_refs").write_text("5")
            work()
            peak = next(
                int(line.split()[1]) * 1024
                for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmHWM")
            )
            os.write(writer, str((peak - before) / 1e6).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return float(pipe.read())
