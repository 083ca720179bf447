"""What `crosscloud run` does for all parties of a local federation before its first round."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.agreement.charter import read_charter
from components.agreement.charter_book import charter_in_force
from pipelines.charter_comparison import policy_problems
from pipelines.chartering import ensure_charter, unsigned
from tests.conftest import SITES, SmallFederation
from tests.pipelines.chartered import KEYS, SIGNERS, Chartered, content

Make = Callable[..., SmallFederation]


def test_all_parties_of_a_local_federation_sign_and_pin(chartered: Chartered) -> None:
    keys = chartered.made.home / KEYS
    signatures = keys / "charters/00001/signatures"
    assert {path.stem for path in signatures.iterdir()} == set(SIGNERS)
    assert charter_in_force(KEYS) == chartered.charter
    assert unsigned(chartered.federation, chartered.charter) == ()
    for owner in SIGNERS:
        pinned = yaml.safe_load(chartered.policy(owner).read_text())["charter"]
        assert pinned == chartered.charter.digest
    private = {
        f"{owner}/{name}" for owner in (*SITES, "coordinator", "key-holder") for name in ("signing.key",)
    }
    private |= {f"{site}/agreement.key" for site in SITES} | {f"{owner}/policy.yaml" for owner in SIGNERS}
    private |= {str(path.relative_to(keys)) for path in (keys / "key-holder").glob("sealed-*.secret")}
    found = content(keys)
    assert {name for name, (_, mode) in found.items() if mode == 0o600} >= private
    folders = [keys / owner for owner in (*SIGNERS, "coordinator")]
    assert {str(path.relative_to(keys)) for folder in folders for path in folder.iterdir()} == private
    assert len(private) == 5 + 3 + 4 + 1
    assert not chartered.policy("coordinator").exists(), "the coordinator signs nothing"


def test_what_is_made_is_made_once(chartered: Chartered) -> None:
    before = content(chartered.made.home)
    assert ensure_charter(chartered.federation) == chartered.charter
    assert content(chartered.made.home) == before


def in_order(chartered: Chartered) -> list[str]:
    """What a first start makes, one after the other."""
    cards = [
        [
            f"{owner}/signing.key",
            *([f"{owner}/agreement.key"] if owner in SITES else []),
            f"cards/{owner}.json",
        ]
        for owner in (*SITES, "coordinator", "key-holder")
    ]
    signed = [[f"charters/00001/signatures/{each}.json", f"{each}/policy.yaml"] for each in SIGNERS]
    keys = chartered.made.home / KEYS
    found = [keys.glob(each) for each in ("key-holder/*.secret", "contexts/*", "certificates/**/*.json")]
    encryption = [str(path.relative_to(keys)) for paths in found for path in paths]
    made = [*cards, ["charters/00001/charter.json"], *signed, encryption]
    return [name for names in made for name in names]


def test_a_first_start_that_was_cut_off_after_any_file_is_finished(
    chartered: Chartered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = chartered.made.home
    created = [home / KEYS / name for name in in_order(chartered)]
    assert sorted(created) == sorted(path for path in (home / KEYS).rglob("*") if path.is_file())
    for count in range(len(created)):
        copy = tmp_path / str(count)
        for path in created[:count]:
            target = copy / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        monkeypatch.setenv("CROSSCLOUD_HOME", str(copy))
        missing = created[count].relative_to(home)
        left = content(copy)
        charter = ensure_charter(chartered.federation)
        now = content(copy)
        assert left.items() <= now.items(), f"{missing}: what was there has changed"
        assert {f"{KEYS}/{owner}/policy.yaml" for owner in SIGNERS} <= set(now), missing
        assert charter_in_force(KEYS) == charter, missing
        assert policy_problems(chartered.federation, charter) == [], missing


STARTS = """
import os, sys
from pathlib import Path
from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from components.errors import CrosscloudError
federation = load_federation(Path(sys.argv[1]))
print("ready", flush=True)
for home in sys.stdin:
    os.environ["CROSSCLOUD_HOME"] = home.strip()
    try:
        print(ensure_charter(federation).digest, flush=True)
    except (CrosscloudError, OSError) as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
"""


def test_of_first_starts_at_the_same_time_each_works(small_federation: Make, tmp_path: Path) -> None:
    """Two processes, set off by the same line, fifteen times."""
    made = small_federation(rows=0)
    command = [sys.executable, "-c", STARTS, str(made.path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        streams = [(each.stdin, each.stdout) for each in (one, other)]
        assert all(out.readline() == "ready\n" for _, out in streams if out)
        for trial in range(15):
            for stdin, _ in streams:
                print(tmp_path / f"together-{trial}", file=stdin, flush=True)
            told = {out.readline().strip() for _, out in streams if out}
            keys = tmp_path / f"together-{trial}" / KEYS
            assert told == {read_charter((keys / "charters/00001/charter.json").read_bytes()).digest}, trial
            secrets = [path for path in (keys / "key-holder").iterdir() if path.suffix == ".secret"]
            assert len(secrets) == 1, f"{trial}: one of the two has made the key"
