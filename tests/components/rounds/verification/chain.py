"""A real chain with a void, a second attempt, a lost site, a new edition and a new key."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from components.agreement.private_keys import load_signing_key
from components.artifacts.documents import digest, sign
from components.encryption.keys import certify_key
from components.errors import QuorumNotReachedError
from components.rounds.verification import Verification, verify_state
from tests.components.aggregation.three_sites import ThreeSites, put_in_force

SITES = ("alpha", "beta", "delta", "gamma")


DOMAINS = {
    "round.json": "round",
    "void.json": "void",
    "ticket.json": "ticket",
    "roster.json": "roster",
    "receipt.json": "receipt",
    "commitments": "commitment",
    "sealed": "sealed update",
    "released": "release",
    "certificates": "key certificate",
}


Change = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Chain:
    """The committed chain of a federation, to be altered and put back."""

    home: Path

    def verified(self, **options: str) -> Verification:
        return verify_state("chain/state", keys_uri="chain/keys", **options)

    @cached_property
    def committed(self) -> dict[Path, bytes]:
        """Every object as it was when the chain was built."""
        return {path: path.read_bytes() for path in self.objects()}

    @property
    def problems(self) -> tuple[str, ...]:
        return self.verified().problems

    def path(self, name: str) -> Path:
        """`3/proof/roster.json` of the state, `keys/…` of the keys; certificates are of one chain."""
        number, _, rest = name.partition("/")
        if rest.startswith("certificates/sealed/"):
            [chain] = (self.home / "chain/keys/certificates/sealed").iterdir()
            return chain / rest.rpartition("/")[2]
        folder = f"keys/{rest}" if number == "keys" else f"state/rounds/{int(number):05d}/{rest}"
        return self.home / "chain" / folder

    def body(self, name: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.path(name).read_bytes())["body"]
        return body

    def sign(self, name: str, change: Change, owner: str, signer: str = "") -> str:
        """Signs a changed document anew with the key of `owner`; returns its digest."""
        parts = name.split("/")
        domain = DOMAINS.get(parts[-1]) or DOMAINS[parts[1] if parts[0] == "keys" else parts[2]]
        body = dict(change(self.body(name)))
        document = sign(
            load_signing_key("chain/keys", owner), domain=domain, signer=signer or owner, body=body
        )
        self.path(name).write_bytes(document)
        return digest(document)

    def checkpoint(self, number: int) -> str:
        return f"{number}/checkpoint-{self.body(f'{number}/round.json')['model'][:16]}.safetensors"

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Puts back what the block changes, as the chain was when it was built."""
        try:
            yield
        finally:
            for path in set(self.objects()) - set(self.committed):
                path.unlink()
            for path, content in self.committed.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.is_file() or path.read_bytes() != content:
                    path.write_bytes(content)
            assert {path: path.read_bytes() for path in self.objects()} == self.committed

    @contextlib.contextmanager
    def altered(self, *paths: Path) -> Iterator[None]:
        """As `restored`, for a block that changes only these."""
        saved = {path: path.read_bytes() for path in paths}
        try:
            yield
        finally:
            for path, content in saved.items():
                path.write_bytes(content)

    def objects(self) -> list[Path]:
        """All that a verification rests on."""
        below = [*(self.home / "chain/state").rglob("*")]
        below += [*self.path("keys/charters").rglob("*"), *self.path("keys/certificates").rglob("*")]
        return sorted(path for path in below if path.is_file() and not path.name.startswith("report"))


def build_chain() -> None:
    """Round 2 is void; round 3 needs two attempts and loses delta; round 4 is under edition 2 and key 2."""
    one = ThreeSites.start("chain", protection="sealed", sites=SITES, rotation_rounds=10)
    one.committed()
    two = one.next_round()
    summed = two.aggregate(two.sealed()).reference
    two.release(["alpha", "beta", "gamma"])
    with pytest.raises(QuorumNotReachedError):
        two.open_sum(summed)
    three = two.next_attempt()
    roster = three.roster(three.train())
    with pytest.raises(QuorumNotReachedError):
        three.aggregate(three.seal(roster, ["alpha", "beta"]))
    again = three.next_attempt()
    three_of_four = again.seal(again.roster(again.train()), ["alpha", "beta", "gamma"])
    again.commit(again.open_sum(again.summed({**three_of_four, "delta": ""})).reference)
    edition = replace(again.charter, edition=2, previous=again.charter.digest, max_rounds=50)
    put_in_force("chain", edition)
    certify_key(edition, keys_uri="chain/keys", first_round=4)
    again.next_round().committed()


def changed(**values: Any) -> Change:
    return lambda body: body | values
