"""Charters of a federation file: drafted from it and signed by its parties.

Where all parties are on one machine, `ensure_charter` does what they would do one by one.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, KEY_HOLDER, Charter
from components.agreement.charter_book import (
    charter_in_force,
    editions,
    missing_signatures,
    propose,
    read_edition,
    sign_edition,
)
from components.agreement.data_policy import BigQueryPolicy
from components.agreement.key_certificate import certified_keys
from components.agreement.noise_terms import ROW, NoiseTerms
from components.agreement.private_keys import SIGNING_KEY, load_signing_key, private_folder, write_private
from components.agreement.public_corpus import publish_corpus
from components.agreement.public_projection import Projection, publish_projection
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.server_optimizer import with_state
from components.agreement.site_policy import POLICY, PrivacyPolicy, SitePolicy, load_policy, query_digest
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.encryption.keys import certify_key, initialise_keys, offered_keys
from components.encryption.update_vector import fixed_point
from components.errors import RefusedError, SignatureError, UsageError
from components.rounds.round_opening.opening import genesis
from components.rounds.state import next_round_number
from pipelines.charter_comparison import (
    asked_task,
    differences,
    policy_problems,
    require_noise,
    shape,
    terms,
)
from pipelines.feature_projection import proposed_projection
from pipelines.federation import Federation
from pipelines.federation_sections import Site
from pipelines.noise_schedule import noise_terms
from pipelines.readiness import unpublished_corpus, unpublished_projection_corpus
from pipelines.taking_back import next_restart, require_possible, says_nothing_new


def ensure_charter(federation: Federation) -> Charter:
    """The charter in force, made and signed by all parties on this machine where there is none.

    Raises:
        UsageError: the federation file differs from the charter or from a site's policy, or the
            charter waits for a signature.
    """
    _finish_first_edition(federation)
    charter = charter_in_force(federation.keys_uri)
    problems = [*differences(federation, charter), *policy_problems(federation, charter)]
    if problems:
        raise UsageError("\n".join(problems))
    if not certified_keys(federation.keys_uri, charter, charter.protection):
        first_round = next_round_number(open_store(federation.state_uri))
        try:
            certify_key(charter, keys_uri=federation.keys_uri, first_round=first_round)
        except UsageError:
            # Another start may have certified one in the meantime; it serves as well.
            if not certified_keys(federation.keys_uri, charter, charter.protection):
                raise
    return charter


def _finish_first_edition(federation: Federation) -> None:
    """Makes and signs the first edition where there is none, or where such a start was cut off.

    What waits for parties of other machines is left to them.
    """
    keys_uri = federation.keys_uri
    owners = (*federation.site_names, COORDINATOR, KEY_HOLDER)
    proposed = newest_edition(federation)
    if proposed is None:
        initialise_keys(federation.federation, owners, keys_uri=keys_uri)
        try:
            proposed = propose_charter(federation)
        except UsageError:
            # Another start may have been faster: its edition is signed then.
            proposed = newest_edition(federation)
            if proposed is None:
                raise
    everybody = all((private_folder(keys_uri, owner) / SIGNING_KEY).is_file() for owner in owners)
    if proposed.edition == 1 and everybody:
        for signer in proposed.signers:
            has_policy = (private_folder(keys_uri, signer) / POLICY).is_file()
            if not has_policy or signer in unsigned(federation, proposed):
                sign_charter(federation, proposed, signer)


def propose_charter(
    federation: Federation, *, take_back: int | None = None, keep_rounds: bool = False
) -> Charter:
    """Drafts the next edition from the federation file and the parties' cards, and publishes it.

    Args:
        federation: as its file says.
        take_back: round to be taken back with all after it; None for none.
        keep_rounds: lets rounds stand that the edition before takes back and no round has yet.

    Raises:
        UsageError: a party has offered no keys, the terms break a rule, no model of the edition before
            could go on under them, or the round cannot be taken back.
    """
    keys_uri = federation.keys_uri
    newest = newest_edition(federation)
    if newest:
        _require_same_memory(federation, newest)
    sites, coordinator, key_holder = offered_keys(
        federation.federation, sorted(federation.site_names), keys_uri=keys_uri
    )
    projection = proposed_projection(federation, newest)
    charter = Charter(
        **terms(federation, first_round=_schedule_start(federation, newest)),
        edition=newest.edition + 1 if newest else 1,
        previous=newest.digest if newest else "",
        sites=sites,
        coordinator=coordinator,
        key_holder=key_holder,
        genesis=newest.genesis if newest else digest(genesis(shape(federation))),
        projection=digest(projection.to_bytes()) if projection else "",
        restart=next_restart(federation, newest, take_back, keep_rounds=keep_rounds),
    )
    if newest and says_nothing_new(federation, newest, charter):
        raise UsageError(
            f"edition {newest.edition} of the charter has these terms already: nothing was written"
        )
    _require_same_space(newest, charter)
    require_possible(federation, charter)
    if not charter.problems():
        fixed_point(charter)
    _publish(federation, projection)
    propose(keys_uri, charter)
    return charter


def _publish(federation: Federation, projection: Projection | None) -> None:
    """Puts public texts, and the projection that the charter names, where all sites read them."""
    exchange = open_store(federation.exchange_uri)
    for content in (unpublished_corpus(federation), unpublished_projection_corpus(federation)):
        if content is not None:
            publish_corpus(exchange, content)
    if projection is not None:
        publish_projection(exchange, projection)


def _require_same_memory(federation: Federation, newest: Charter) -> None:
    """What an optimiser remembers lies beside the weights, from the genesis model on."""
    head = shape(federation)
    asked, agreed = (
        with_state(optimizer, head.weights()).keys()
        for optimizer in (head.server_optimizer, newest.server_optimizer)
    )
    if asked != agreed:
        raise UsageError(
            f"server_optimizer: edition {newest.edition} has {newest.server_optimizer}, the federation file "
            f"asks for {head.server_optimizer}, which remembers something else beside the model: begin a "
            "federation with a state_uri in a folder of its own"
        )


def _require_same_space(newest: Charter | None, charter: Charter) -> None:
    """A model means nothing to features that are projected otherwise than those it has learned from."""
    if newest and newest.projection != charter.projection:
        before, now = (each.projection[:12] or "none" for each in (newest, charter))
        raise UsageError(
            f"compression: edition {newest.edition} has projection {before}, the file asks for {now}, "
            "to which its model means nothing: begin a federation with a state_uri in a folder of its own"
        )


def _schedule_start(federation: Federation, newest: Charter | None) -> int:
    """First round of the schedule of noise: the next one, unless a schedule goes on as it was agreed."""
    upcoming = next_round_number(open_store(federation.state_uri))
    if newest is None or newest.privacy is None:
        return upcoming
    if newest.privacy.per == "total" and newest.privacy.last_round < upcoming:
        return upcoming
    kept = newest.privacy.first_round
    return kept if noise_terms(federation, first_round=kept) == newest.privacy else upcoming


def newest_edition(federation: Federation) -> Charter | None:
    """The edition proposed last, signed or not; None before the first."""
    store = open_store(federation.keys_uri)
    proposed = editions(store)
    return read_edition(store, proposed[-1]) if proposed else None


def sign_charter(
    federation: Federation, charter: Charter, signer: str, *, renew_policy: bool = False
) -> SitePolicy:
    """Signs an edition as one party and pins it in that party's policy.

    Args:
        federation: whose file the first policy is written from.
        charter: to be signed.
        signer: a site or `key-holder`; its private keys are on this machine.
        renew_policy: writes the policy anew from the federation file instead of pinning only.

    Raises:
        UsageError: the party does not sign, the charter names other keys for it, or its policy
            does not accept the charter's protection.
    """
    keys_uri = federation.keys_uri
    key = _key_to_sign_with(keys_uri, charter, signer)
    path = private_folder(keys_uri, signer) / POLICY
    policy = first_policy(federation, charter, signer)
    if path.is_file():
        kept = load_policy(keys_uri, signer)
        if not renew_policy and signer != KEY_HOLDER:
            _require_accepted(kept, charter, signer, path)
        pins = _pins(kept, charter)
        policy = (policy if renew_policy else kept).model_copy(update=pins)
        text = policy.to_yaml() if renew_policy else _repinned(path.read_bytes(), pins)
    else:
        text = policy.to_yaml()
    sign_edition(keys_uri, charter, signer, key)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    write_private(draft, text)
    draft.replace(path)
    return policy


def _key_to_sign_with(keys_uri: str, charter: Charter, signer: str) -> Ed25519PrivateKey:
    """The key that the edition names; `sign_edition` says what is wrong where none here is."""
    newest = load_signing_key(keys_uri, signer)
    with contextlib.suppress(UsageError, SignatureError):
        return charter_signing_key(keys_uri, signer, charter)
    return newest


def _require_accepted(policy: SitePolicy, charter: Charter, signer: str, path: Path) -> None:
    try:
        policy.require_protection(charter.protection)
        require_noise(policy, charter)
    except RefusedError as error:
        raise UsageError(f"{signer} does not sign: {error}. Change {path} first, or do not sign") from None


def _pins(policy: SitePolicy, charter: Charter) -> dict[str, str]:
    """What a party pins once it has signed: the edition it works under goes on until the next is in force."""
    if charter.digest == policy.charter:
        return {"charter": policy.charter, "next_charter": policy.next_charter}
    before = {policy.charter, policy.next_charter} & {charter.previous} - {""}
    return (
        {"charter": before.pop(), "next_charter": charter.digest}
        if before
        else {
            "charter": charter.digest,
            "next_charter": "",
        }
    )


def _repinned(text: bytes, pins: Mapping[str, str]) -> bytes:
    """A policy file with other pins; every other line, comments too, stays as its owner wrote it."""
    lines = "\n".join(f"{name}: {pin or repr(pin)}" for name, pin in pins.items())
    without = re.sub(rb"(?m)^next_charter:.*\n?", b"", text)
    return re.sub(rb"(?m)^charter:.*$", lines.encode(), without)


def first_policy(federation: Federation, charter: Charter, signer: str) -> SitePolicy:
    """The policy a party starts with: exactly what its section of the federation file needs."""
    if signer == KEY_HOLDER:
        return SitePolicy(charter=charter.digest)
    site = federation.site(signer)
    return SitePolicy(
        charter=charter.digest,
        protections=(charter.protection,),
        queries=(query_digest(site.data.sql),),
        tasks=(asked_task(federation),),
        stores=(site.store_uri, federation.exchange_uri),
        encoder=federation.encoder.digest,
        evaluation=federation.release(site),
        privacy=_first_budget(federation, charter, site),
        bigquery=_first_terms(site),
    )


def _first_terms(site: Site) -> BigQueryPolicy | None:
    """The file's own section; what it cannot say, rows that leave and tagged columns, is not allowed."""
    section = site.data.bigquery
    if section is None:
        return None
    project, dataset = site.data.bigquery_address
    return BigQueryPolicy(project=project, dataset=dataset, **dict(section))


def _first_budget(federation: Federation, charter: Charter, site: Site) -> PrivacyPolicy | None:
    """Exactly what the charter's schedule costs, in the ledger that the file names or one beside the data."""
    if charter.privacy is None or federation.privacy is None:
        return None
    folder, _, _ = site.data.uri.rpartition("/")
    beside = folder and not set("*?[") & set(folder) and site.data.bigquery is None
    return PrivacyPolicy(
        dataset=site.data.dataset or site.data.uri,
        ledger_uri=site.data.ledger_uri or (f"{folder}/ledger" if beside else site.store_uri),
        **_first_unit(charter.privacy),
        epsilon=charter.privacy.target_epsilon,
        delta=charter.privacy.delta,
        per=charter.privacy.per,
        least_noise_multiplier=min(charter.privacy.noise_multipliers),
    )


def _first_unit(noise: NoiseTerms) -> dict[str, Any]:
    """Unit and rows as the charter has them; a person that no column names is not counted by."""
    if noise.has_unit_column:
        return {"unit": noise.unit, "rows_per_unit": noise.rows_per_unit}
    return {"unit": ROW if noise.rows_per_unit == 1 else "person"}


def unsigned(federation: Federation, charter: Charter) -> tuple[str, ...]:
    """Who has not signed an edition."""
    return missing_signatures(open_store(federation.keys_uri), charter)
