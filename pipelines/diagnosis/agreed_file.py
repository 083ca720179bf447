"""What can be told of a federation file from its text alone."""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from datetime import datetime
from pathlib import Path

from components.agreement.charter import Charter, SitePublicKeys
from components.artifacts.documents import digest
from components.data_processing.feature_augmentation.encoder import PACKAGE_SCHEME, locate, verify
from components.encryption.update_vector import fixed_point
from components.errors import EncoderError, UsageError
from components.rounds.round_opening.opening import genesis
from pipelines.charter_comparison import shape, terms
from pipelines.compile import compile_round
from pipelines.diagnosis.findings import NotCheckedError
from pipelines.diagnosis.parties import OFFLINE
from pipelines.federation import Federation
from pipelines.kubeflow.cron import parse_cron
from pipelines.noise_schedule import noise_terms
from pipelines.readiness import encoder_spec


def allowance(federation: Federation, *, now: datetime) -> str:
    """The schedule starts no more rounds in any month than its privacy allowance has.

    Args:
        federation: with a schedule, and privacy per month.
        now: with its time zone.

    Raises:
        UsageError: it does.
        NotCheckedError: the federation has no schedule, or no allowance per month.
    """
    noise, schedule = noise_terms(federation, first_round=1), federation.schedule
    if schedule is None or noise is None or noise.per != "month":
        raise NotCheckedError("no schedule starts rounds under an allowance per month")
    rounds = len(noise.noise_multipliers)
    most, month = parse_cron(schedule.cron).most_in_a_month(now)
    found = f"{schedule.cron!r} starts up to {most} rounds in a month ({month}), privacy has {rounds}"
    if most > rounds:
        raise UsageError(
            f"schedule.cron: {found}: the rounds after them are refused until the next month; start fewer, "
            f"or say privacy.rounds {most}, which share the same epsilon"
        )
    return found


def charter_terms(federation: Federation) -> str:
    """The terms that the file asks for make a charter that can be signed.

    Raises:
        UsageError: they do not; one problem a line.
    """
    # Keys of nobody: every rule of a charter is looked at, and this one is never proposed.
    draft = Charter(
        **terms(federation),
        edition=1,
        previous="",
        sites={
            site: SitePublicKeys(signing=_nobodys_key(), agreement=_nobodys_key())
            for site in federation.site_names
        },
        coordinator=_nobodys_key(),
        key_holder=_nobodys_key(),
        genesis=digest(genesis(shape(federation))),
    )
    problems = draft.problems()
    if problems:
        raise UsageError("\n".join(problems))
    fixed_point(draft)
    found = f"{federation.method}, {draft.min_sites} of {len(draft.sites)} sites on a roster"
    if draft.privacy is None:
        return found
    return (
        f"{found}, epsilon {draft.privacy.target_epsilon:g} at delta {draft.privacy.delta:g} over "
        f"{len(draft.privacy.noise_multipliers)} rounds, of one {draft.privacy.protected}"
    )


def compiled(federation: Federation) -> str:
    """The file compiles to a pipeline spec.

    Raises:
        UsageError: it does not.
    """
    with tempfile.TemporaryDirectory(prefix="crosscloud-") as folder:
        spec = compile_round(federation, Path(folder) / "round.yaml").read_bytes()
    return f"a spec of {len(spec):,} bytes with SHA-256 {digest(spec)[:12]}"


def encoder(federation: Federation, *, offline: bool) -> str:
    """The language model is on this machine, the agreed one, and as wide as the file says.

    Raises:
        NotCheckedError: it would have to be fetched.
        EncoderError: it is not there, or another one.
        UsageError: it has another width.
    """
    spec = encoder_spec(federation)
    fetched = not (
        spec.name.startswith((PACKAGE_SCHEME, ".", "/"))
        or Path(spec.name).is_dir()
        or spec.name.count("/") > 1
    )
    if offline and fetched:
        raise NotCheckedError(f"{spec.name} comes from the hub or its cache, and {OFFLINE}")
    folder = locate(spec)
    found = verify(folder, spec)
    try:
        width = json.loads((folder / "config.json").read_bytes())["hidden_size"]
    except (OSError, ValueError, KeyError):
        raise EncoderError(
            f"encoder {spec.name} has no config.json with a hidden_size: copy it whole"
        ) from None
    if width != spec.dimensions:
        raise UsageError(
            f"encoder {spec.name} has {width} dimensions, the federation file says {spec.dimensions}: "
            "correct encoder.dimensions"
        )
    agreed = "the agreed one" if spec.digest else "and the file names none: write it down as encoder.digest"
    return f"{spec.name} is here; its digest is {found[:12]}, {agreed}"


def _nobodys_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
