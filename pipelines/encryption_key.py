"""The key holder's encryption keys on this machine: what wraps them, whether they open, moving them."""

from __future__ import annotations

from pathlib import Path

from components.agreement.charter import Charter
from components.agreement.key_certificate import CertifiedKey, certified_keys, key_of_round
from components.agreement.protections import TRAITS
from components.artifacts.stores import open_store
from components.encryption.contexts import public_context
from components.encryption.key_providers.provider import require_working
from components.encryption.key_providers.settings import FileSettings, load_settings
from components.encryption.secret_keys.key_moves import Move, clear_keys, move_keys
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import RefusedError, UsageError
from components.rounds.state import next_round_number
from pipelines.federation import Federation

SOON = 10
"""A key is due soon once no more than a tenth of the rounds it may serve are left."""


def keeps_for_development(federation: Federation) -> bool:
    """Whether the key holder's secret keys lie in files that whoever reads them can use."""
    try:
        return TRAITS[federation.protection].keyed and KeyStore.open(federation.keys_uri).for_development
    except UsageError:
        # Its settings break a rule, which whoever uses them is told.
        return False


def make_wrapping_key(federation: Federation) -> str:
    """Makes the key that wraps, where there is none and the settings let it be made.

    Returns:
        What was made, in a line; empty for nothing.

    Raises:
        UsageError: the provider cannot be used, or its settings break a rule.
    """
    if not TRAITS[federation.protection].keyed:
        return ""
    keys = KeyStore.open(federation.keys_uri)
    if not keys.make_wrapping_key() or keys.provider is None:
        return ""
    return f"wrapping key made: {keys.provider.provider} {keys.provider.key}"


def wrap_keys(federation: Federation, *, before: Path | None = None) -> list[Move]:
    """Moves the key holder's secret keys under the provider that its `provider.yaml` names.

    Args:
        federation: whose keys they are.
        before: settings of the provider that wrapped them until now; None where they lay in the clear.

    Raises:
        UsageError: a key was not moved, and lies as it lay; one line each, once the others are moved.
    """
    if before is not None and not before.is_file():
        raise UsageError(f"there is no {before}: name the provider.yaml that was in force until now")
    moves, problems = move_keys(
        federation.federation,
        keys_uri=federation.keys_uri,
        before=load_settings(before) if before else FileSettings(),
    )
    if problems:
        raise UsageError("\n".join(problems))
    return moves


def end_of(charter: Charter, certified: CertifiedKey) -> int:
    """The first round that a key may no longer serve."""
    return certified.certificate.first_round + charter.rotation_rounds


def encryption_key_problems(federation: Federation, charter: Charter | None) -> tuple[list[str], list[str]]:
    """What is wrong with the key holder's encryption keys, and what will be soon.

    Args:
        federation: whose keys they are.
        charter: in force; None before there is one, and no key then.

    Raises:
        SignatureError: a certificate was altered.
    """
    if not TRAITS[federation.protection].keyed:
        return [], []
    try:
        keys = KeyStore.open(federation.keys_uri)
        if keys.provider:
            require_working(keys.provider, federation=federation.federation)
    except UsageError as error:
        broken, working = [str(error)], None
    else:
        broken = [f"{path} lies in the clear: 'crosscloud keys wrap' moves it" for path in clear_keys(keys)]
        working = None if broken else keys
    if charter is None:
        return broken, []
    # What cannot wrap does not unwrap either, and a token counts wrong PINs.
    wrong, soon = _certificate_problems(federation, charter, working)
    return [*broken, *wrong], soon


def _certificate_problems(
    federation: Federation, charter: Charter, keys: KeyStore | None
) -> tuple[list[str], list[str]]:
    """Looks at the certificates and, where there are `keys`, whether the secret half of each opens."""
    keys_uri = federation.keys_uri
    following = next_round_number(open_store(federation.state_uri))
    try:
        serving = key_of_round(keys_uri, charter, following)
    except UsageError as error:
        return [str(error)], []
    if serving is None:
        return [], []
    wrong: list[str] = []
    chain = certified_keys(keys_uri, charter, charter.protection)
    for certified in chain[chain.index(serving) :]:
        try:
            if keys:
                keys.read(SecretName.of(certified.certificate))
            public_context(keys_uri, certified)
        except (UsageError, RefusedError) as error:
            wrong.append(str(error))
    left = end_of(charter, serving) - following
    if serving != chain[-1] or left > charter.rotation_rounds // SOON:
        return wrong, []
    return wrong, [
        f"the encryption key may serve {left} more of its {charter.rotation_rounds} rounds: step 'open' "
        "makes the next one in time if it can store it, 'crosscloud keys rotate' does now"
    ]
