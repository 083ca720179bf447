"""A round committed under `smc`: its proof shows that a quorum has unmasked the set that was opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.rounds.verification import verify_state
from tests.components.aggregation.three_sites import ThreeSites

FIVE = ("alpha", "beta", "delta", "epsilon", "gamma")
PROOF = "small/state/rounds/00001/proof"


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gamma does not seal and epsilon does not unmask; three do, which are the quorum."""
    root = tmp_path_factory.mktemp("unmaskings")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CROSSCLOUD_HOME", str(root))
        patched.delenv("CROSSCLOUD_KEYS", raising=False)
        three = ThreeSites.start(protection="smc", sites=FIVE, colluding_sites=0)
        roster = three.roster(three.train())
        three.share(roster)
        total = three.aggregate(three.seal(roster, FIVE[:3] + FIVE[3:4]), {"gamma": "timeout"}).reference
        three.unmask(FIVE[:3])
        three.commit(three.open_sum(total).reference)
    return root


@pytest.fixture(autouse=True)
def restored(committed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(committed))
    kept = {path: path.read_bytes() for path in (committed / PROOF).rglob("*") if path.is_file()}
    yield
    for path, content in kept.items():
        path.write_bytes(content)


def problems() -> tuple[str, ...]:
    return verify_state("small/state", keys_uri="small/keys").problems


def test_it_has_no_problem_and_keeps_what_the_sum_was_opened_with(committed: Path) -> None:
    assert problems() == ()
    kept = {path.relative_to(committed / PROOF).as_posix() for path in (committed / PROOF).rglob("*.json")}
    assert {name for name in kept if name.startswith(("shares/", "unmasked/"))} == {
        *(f"shares/{site}.json" for site in FIVE),
        *(f"unmasked/{site}.json" for site in FIVE[:3]),
    }
    assert "sharers.json" in kept


Forgery = Callable[[Path], object]
FORGERIES: dict[str, tuple[Forgery, str]] = {
    "an unmasking is gone": (
        lambda proof: (proof / "unmasked/alpha.json").unlink(),
        "unmasking: is not that of 3 sites of the sum, the charter's quorum",
    ),
    "one is another's": (
        lambda proof: (proof / "unmasked/alpha.json").write_bytes(
            (proof / "unmasked/beta.json").read_bytes()
        ),
        "unmasking: is not that of 3 sites of the sum, the charter's quorum",
    ),
    "shares are gone": (
        lambda proof: (proof / "shares/gamma.json").unlink(),
        "unmasking: gamma is one of the sharers, but its shares are not there",
    ),
    "shares are another's": (
        lambda proof: shutil.copy(proof / "shares/beta.json", proof / "shares/gamma.json"),
        "unmasking: the shares of gamma are not those that the sharers were fixed with",
    ),
    "the sharers are gone": (
        lambda proof: (proof / "sharers.json").unlink(),
        "unmasking: ",
    ),
    "the sharers are others": (
        lambda proof: (proof / "sharers.json").write_bytes(
            (proof / "sharers.json").read_bytes().replace(b'"alpha":"', b'"alpha":"0', 1)
        ),
        "unmasking: the shares of alpha are not those",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_proof_is_found(committed: Path, forgery: str) -> None:
    forge, problem = FORGERIES[forgery]
    forge(committed / PROOF)
    (found,) = problems()
    assert found.startswith(f"round 1: {problem}")
    assert "\n" not in found
