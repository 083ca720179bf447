"""What somebody may try who can write to the exchange, and who it is that does not go along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from components.artifacts.documents import canonical_json, digest, sign
from components.errors import (
    CrosscloudError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
)
from components.rounds.verification import verify_state
from tests.conftest import SITES, SmallFederation
from tests.pipelines.conftest import copied, moved
from tests.pipelines.kept_updates import assert_mean_of_updates, record
from tests.pipelines.round_in_process import RoundInProcess

FOUR = (*SITES, "delta")


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class Attacked(RoundInProcess):
    """The second round as it is when all four sites have sealed and nobody has added, to be changed."""

    def __init__(self, made: SmallFederation) -> None:
        super().__init__(made)
        self.made = made
        self.folder = made.home / "small/exchange" / self.opened.folder

    def sealed(self, site: str) -> tuple[Path, Path]:
        return self.folder / f"sealed/{site}.bin", self.folder / f"sealed/{site}.json"

    @property
    def cutoff(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "cutoff.json").read_text())
        return found


@pytest.fixture(scope="module")
def prepared() -> dict[str, SmallFederation]:
    """The federation that every attack starts from, once it is made."""
    return {}


@pytest.fixture
def attacked(
    small_federation: Callable[..., SmallFederation],
    prepared: dict[str, SmallFederation],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Attacked:
    if not prepared:
        made = small_federation(20, names=FOUR)
        RoundInProcess(made).finish()
        second = RoundInProcess(made)
        second.learn()
        second.call()
        second.seal()
        prepared["made"] = moved(made, tmp_path_factory.mktemp("prepared") / "sealed")
    made = copied(prepared["made"], tmp_path / "attacked")
    monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
    again = Attacked(made)
    again.learn()
    again.call()
    return again


Attack = Callable[[Path, Path, SmallFederation], None]


def alter(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(flipped(blob.read_bytes()))


def cut_short(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def alter_the_manifest(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    """The altered update's own digest, under the signature of another."""
    alter(blob, manifest, federation)
    document = json.loads(manifest.read_text())
    document["body"]["blob"] = digest(blob.read_bytes())
    manifest.write_bytes(canonical_json(document))


def take_the_signature_off(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    document = json.loads(manifest.read_text())
    del document["signature"]
    manifest.write_bytes(canonical_json(document))


def replay(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    for path in (blob, manifest):
        shutil.copy(path.parents[2] / "00001-1/sealed" / path.name, path)


def put_anothers_in_its_place(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    shutil.copy(blob.with_stem("beta"), blob)
    shutil.copy(manifest.with_stem("beta"), manifest)


def sign_as_another(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    body = json.loads(manifest.read_text())["body"]
    manifest.write_bytes(sign(key_of(federation, "beta"), domain="sealed update", signer="alpha", body=body))


def take_away(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.unlink()
    manifest.unlink()


def garbage_in_its_place(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    blob.write_bytes(b"\xff" * blob.stat().st_size)


def sign_garbage(blob: Path, manifest: Path, federation: SmallFederation) -> None:
    """What only the site itself can do."""
    garbage_in_its_place(blob, manifest, federation)
    body = json.loads(manifest.read_text())["body"] | {"blob": digest(blob.read_bytes())}
    manifest.write_bytes(sign(key_of(federation, "alpha"), domain="sealed update", signer="alpha", body=body))


def key_of(federation: SmallFederation, owner: str) -> Ed25519PrivateKey:
    content = (federation.home / f"small/keys/{owner}/signing.key").read_bytes()
    key = load_pem_private_key(content, None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


NOT_SIGNED_FOR = "is not the one its manifest signs"
NO_SIGNATURE = "the signature of alpha on a sealed update document does not verify"


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (alter, NOT_SIGNED_FOR),
        (cut_short, NOT_SIGNED_FOR),
        (garbage_in_its_place, NOT_SIGNED_FOR),
        (alter_the_manifest, NO_SIGNATURE),
        (sign_as_another, NO_SIGNATURE),
        (take_the_signature_off, "is not a signed document"),
        (replay, "was made for another ticket"),
        (put_anothers_in_its_place, "names another signer"),
        (take_away, "unreachable: a store (ObjectMissingError)"),
        (sign_garbage, "not a sealed update of format 1"),
    ],
)
def test_the_aggregator_leaves_out_what_a_site_did_not_sign_for_this_round(
    attacked: Attacked, attack: Attack, reason: str
) -> None:
    """Only what the site has signed itself is judged as a ciphertext, as the last case shows."""
    attack(*attacked.sealed("alpha"), attacked.made)
    attacked.add()
    others = ["beta", "delta", "gamma"]
    assert attacked.cutoff["members"] == others
    assert reason in str(attacked.cutoff["left_out"])
    attacked.release(others)
    attacked.open()
    attacked.commit()
    assert_mean_of_updates(attacked.made, 2, others)


def test_whom_the_aggregator_leaves_out_is_told_with_the_reason_and_the_round_goes_on(
    attacked: Attacked,
) -> None:
    alter(*attacked.sealed("gamma"), attacked.made)
    attacked.add()
    attacked.release([site for site in FOUR if site != "gamma"])
    attacked.open()
    attacked.commit()
    attacked.report()
    reason = "refused: the sealed update of gamma is not the one its manifest signs"
    report = json.loads((attacked.made.home / "small/state/rounds/00002/report.json").read_text())
    assert {each["name"]: each["reason"] for each in report["sites"] if each["reason"]} == {"gamma": reason}
    assert record(attacked.made, 2)["left_out"] == {"gamma": reason}
    assert verify_state("small/state", keys_uri="small/keys").problems == ()


def test_untouched_updates_are_all_added(attacked: Attacked) -> None:
    attacked.add()
    assert attacked.cutoff["members"] == sorted(FOUR)
    attacked.release()
    attacked.open()
    attacked.commit()
    assert_mean_of_updates(attacked.made, 2, sorted(FOUR))


def test_too_few_honest_updates_void_the_attempt_and_open_nothing(attacked: Attacked) -> None:
    for site in ("alpha", "beta"):
        alter(*attacked.sealed(site), attacked.made)
    with pytest.raises(QuorumNotReachedError, match="2 of 4 sites on the roster sealed, the quorum is 3"):
        attacked.add()
    assert (attacked.folder / "shortfall.json").exists()
    assert not any((attacked.folder / name).exists() for name in ("cutoff.json", "sum.bin"))


def nothing_opened(attacked: Attacked) -> bool:
    made = ("receipt.json", "aggregate.safetensors")
    remembered = attacked.made.home / f"small/key-holder/opened/{attacked.opened.digest}-update.json"
    return not any(path.exists() for path in (remembered, *(attacked.folder / name for name in made)))


def test_the_key_holder_opens_no_sum_but_the_one_he_adds_himself(attacked: Attacked) -> None:
    total = attacked.made.home / attacked.add()
    attacked.release()
    honest = total.read_bytes()
    for forged in (attacked.sealed("alpha")[0].read_bytes(), flipped(honest), honest[:-1], honest + b"\0"):
        total.write_bytes(forged)
        with pytest.raises(DigestMismatchError, match="is not the sum of its members"):
            attacked.open()
        assert nothing_opened(attacked)
    total.write_bytes(honest)
    attacked.open()
    assert (attacked.folder / "receipt.json").exists()


def test_a_set_that_is_smaller_after_a_release_is_released_by_nobody_who_released_before(
    attacked: Attacked,
) -> None:
    """Two sums that differ by one site would be that site's update."""
    attacked.add()
    attacked.release(["alpha", "beta"])
    path = attacked.folder / "cutoff.json"
    path.write_text(json.dumps(attacked.cutoff | {"members": ["alpha", "beta", "delta"]}))
    for site in ("alpha", "beta"):
        with pytest.raises(RefusedError, match="a second set of sites was fixed for the roster of round 2"):
            attacked.release([site])
    attacked.release(["delta"])
    with pytest.raises(CrosscloudError):
        attacked.open()
    assert nothing_opened(attacked)


ReleaseAttack = Callable[[Path, SmallFederation], None]


def alter_the_release(path: Path, federation: SmallFederation) -> None:
    document = json.loads(path.read_text())
    document["body"]["locked"] = document["body"]["locked"][:-8] + "AAAAAAA="
    path.write_bytes(canonical_json(document))


def replay_the_release(path: Path, federation: SmallFederation) -> None:
    shutil.copy(path.parents[2] / "00001-1/released" / path.name, path)


def release_as_another(path: Path, federation: SmallFederation) -> None:
    body = json.loads(path.read_text())["body"]
    path.write_bytes(sign(key_of(federation, "gamma"), domain="release", signer="beta", body=body))


def take_the_release_away(path: Path, federation: SmallFederation) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "attack", [alter_the_release, replay_the_release, release_as_another, take_the_release_away]
)
def test_a_release_that_is_not_its_sites_for_this_round_voids_it(
    attacked: Attacked, attack: ReleaseAttack
) -> None:
    attacked.add()
    attacked.release()
    attack(attacked.folder / "released/beta.json", attacked.made)
    with pytest.raises(QuorumNotReachedError, match="round 2 is void: beta sealed but did not release"):
        attacked.open()
    assert nothing_opened(attacked)
    following = RoundInProcess(attacked.made)
    assert following.opened.round_number == 3
    assert following.opened.model == attacked.opened.model


def test_a_site_that_releases_something_else_gets_nothing_opened(attacked: Attacked) -> None:
    """A share that belongs to no lock, signed by the site itself."""
    attacked.add()
    attacked.release()
    path = attacked.folder / "released/beta.json"
    body = json.loads(path.read_text())["body"]
    body["shares"]["alpha"] = body["shares"]["gamma"]
    path.write_bytes(sign(key_of(attacked.made, "beta"), domain="release", signer="beta", body=body))
    with pytest.raises(IntegrityError):
        attacked.open()
    assert nothing_opened(attacked)
