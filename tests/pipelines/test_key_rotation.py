"""Three rounds under keys that may serve one: nobody types a command, and old rounds stay verifiable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.agreement.key_certificate import certified_keys
from components.artifacts.stores import open_store
from components.encryption.key_providers.settings import Pkcs11Settings
from components.encryption.protection import generate_contexts
from components.encryption.secret_keys.key_store import KeyStore
from components.errors import UsageError
from components.rounds.verification import verify_state
from pipelines.chartering import ensure_charter, propose_charter, sign_charter
from pipelines.encryption_key import wrap_keys
from pipelines.federation import Federation, load_federation
from pipelines.keyring import key_problems, rotate_key
from tests.components.encryption.key_providers.conftest import TOKEN
from tests.components.encryption.key_providers.softhsm import PIN, SoftHsm
from tests.components.encryption.key_providers.traces import files_with, traces
from tests.conftest import SmallFederation
from tests.pipelines.round_in_process import RoundInProcess

STRIDE = 8192
ROTATED_EVERY_ROUND = {"max_examples": 1000, "key_rotation_rounds": 1}


def run_rounds(made: SmallFederation, count: int) -> None:
    for _ in range(count):
        RoundInProcess(made).finish()


def serving(federation: Federation) -> list[str]:
    """The certificates that the receipts of the committed rounds name."""
    exchange = open_store(federation.exchange_uri)
    keys = [key for key in exchange.keys("rounds") if key.endswith("/receipt.json")]
    return [json.loads(exchange.read(key))["body"]["certificate"] for key in keys]


def chain_of(federation: Federation) -> list[str]:
    charter = ensure_charter(federation)
    return [each.digest for each in certified_keys(federation.keys_uri, charter, charter.protection)]


def test_the_key_holder_rotates_by_itself(small_federation: Callable[..., SmallFederation]) -> None:
    made = small_federation([41, 66, 102], limits=ROTATED_EVERY_ROUND)
    run_rounds(made, 3)
    federation = load_federation(made.path)
    chain = chain_of(federation)
    assert len(set(chain)) == 4
    assert serving(federation) == chain[:3]
    verified = verify_state(federation.state_uri, keys_uri=federation.keys_uri)
    assert (verified.rounds, verified.problems) == (3, ())


def test_under_an_hsm_the_secret_key_is_in_no_file(
    small_federation: Callable[..., SmallFederation],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The first key begins in the clear, as a federation does that is tried out, and moves into the HSM."""
    hsm = SoftHsm.start(tmp_path / "hsm", monkeypatch)
    hsm.add_token(TOKEN)
    made = small_federation([41, 66, 102], limits=ROTATED_EVERY_ROUND)
    federation = load_federation(made.path)
    ensure_charter(federation)
    folder = made.home / "small/keys/key-holder"
    (secret,) = folder.glob("*.secret")
    (public,) = (made.home / "small/keys/contexts").iterdir()
    first = traces(secret.read_bytes(), public=public.read_bytes(), stride=STRIDE)
    assert files_with([made.home], first) == {secret.name}
    under = Pkcs11Settings(
        provider="pkcs11", module=str(hsm.module), token=TOKEN, key="master", make_key=True
    )
    (folder / "provider.yaml").write_text(json.dumps(under.model_dump()))
    (folder / "pin").write_text(PIN)
    for name in ("provider.yaml", "pin"):
        (folder / name).chmod(0o600)
    later = _watched(monkeypatch)
    assert KeyStore.open(federation.keys_uri).make_wrapping_key()
    wrap_keys(federation)
    run_rounds(made, 3)
    assert key_problems(federation, ["key-holder"]).wrong == []
    chain = chain_of(federation)
    assert serving(federation) == chain[:3]
    assert len(list(folder.glob("*.secret"))) == len(chain) == 4
    verified = verify_state(federation.state_uri, keys_uri=federation.keys_uri)
    assert (verified.rounds, verified.problems) == (3, ())
    assert len(later) == 3
    halves = [path.read_bytes() for path in (made.home / "small/keys/contexts").iterdir()]
    known = b"".join(halves)
    needles = [
        *first,
        *(needle for secret in later for needle in traces(secret, public=known, stride=STRIDE)),
    ]
    assert files_with([made.home, tmp_path / "hsm"], needles) == set()
    out, err = capfd.readouterr()
    told = (out + err).encode()
    assert not any(needle in told for needle in needles)


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The secret keys that are made from here on, as they pass through memory."""
    made: list[bytes] = []

    def watched(name: str) -> tuple[bytes, bytes]:
        public, secret = generate_contexts(name)
        made.append(secret)
        return public, secret

    monkeypatch.setattr("components.encryption.keys.generate_contexts", watched)
    return made


def test_a_key_that_nobody_can_unwrap_any_more_costs_a_round(
    small_federation: Callable[..., SmallFederation],
) -> None:
    """As components/encryption/key_providers/README.md tells the key holder to go on."""
    made = small_federation([41, 66, 102])
    RoundInProcess(made).finish()
    lost = RoundInProcess(made)
    lost.learn()
    lost.call()
    lost.seal()
    lost.add()
    lost.release()
    for secret in (made.home / "small/keys/key-holder").glob("*.secret"):
        secret.unlink()
    with pytest.raises(UsageError, match="no private key at"):
        lost.open()
    rotate_key(load_federation(made.path))
    made.document["limits"]["max_examples"] += 1
    federation = load_federation(made.save())
    edition = propose_charter(federation)
    for signer in edition.signers:
        sign_charter(federation, edition, signer)
    RoundInProcess(made).finish()
    verified = verify_state(federation.state_uri, keys_uri=federation.keys_uri)
    assert (verified.rounds, verified.voided, verified.problems) == (2, 1, ())
