"""What is not as its site signed it is left out, and what the aggregator holds is no secret."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key, sum_key
from components.encryption.contexts import public_context
from components.encryption.protection import sealer
from tests.components.aggregation.secure_aggregation.added import (
    FORGERIES,
    LENGTH,
    NONSENSE,
    cutoff,
    flip,
    members,
    only,
    protections,
    publish,
    sum_of,
)
from tests.components.aggregation.three_sites import SITES
from tests.components.rounds.walks import FOUR, Walked, walk


class TestWhatIsNotAsItWasSigned:
    """Each is left out with its reason, and the sum is that of the others."""

    @protections
    def test_an_altered_update(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        for position in (0, 90, -1):
            flip(walked.blob("beta"), position)
            is_left_out(walked, "refused: ")
            flip(walked.blob("beta"), position)

    @protections
    def test_bytes_of_another_size_or_that_would_crash_a_parser(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        blob = walked.blob("beta").read_bytes()
        for changed in (blob[:-1], b"", blob + b"\0", b"\xff" * len(blob)):
            walked.blob("beta").write_bytes(changed)
            is_left_out(walked, "refused: ")

    def test_an_unsigned_or_altered_manifest(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        document = json.loads(walked.manifest("beta").read_bytes())
        for forge in FORGERIES:
            walked.manifest("beta").write_text(json.dumps(forge(document)))
            is_left_out(walked, "refused: ")

    def test_a_manifest_that_is_none(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        for manifest in (b"", b"\x80\x04garbage", b"[" * 60_000, b"x" * 70_000):
            walked.manifest("beta").write_bytes(manifest)
            is_left_out(walked, "refused: ")

    def test_one_that_another_site_signed(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        publish(walked.three, "beta", walked.blob("beta").read_bytes(), signer="alpha")
        is_left_out(walked, "refused: ")

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_one_swapped_with_another_sites(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        for path in (walked.blob, walked.manifest):
            of_beta, of_gamma = path("beta").read_bytes(), path("gamma").read_bytes()
            path("beta").write_bytes(of_gamma)
            path("gamma").write_bytes(of_beta)
        assert members(walked.three.aggregate(walked.sealed)) == ["alpha", "delta"]
        assert set(cutoff(walked.three)["left_out"]) == {"beta", "gamma"}

    @protections
    def test_another_sites_blob_beside_its_own_manifest(self, protection: str) -> None:
        """Under `sealed` the same masks twice: what is left of the sum would be one site's."""
        walked = walk("sealed", protection, sites=FOUR)
        walked.blob("beta").write_bytes(walked.blob("gamma").read_bytes())
        is_left_out(walked, "refused: the sealed update of beta is not the one its manifest signs")

    def test_one_replayed_from_the_round_before(self) -> None:
        first = walk("committed", "sealed", sites=FOUR)
        three = first.three.next_round()
        walked = replace(first, three=three, sealed=three.sealed())
        walked.blob("beta").write_bytes(first.blob("beta").read_bytes())
        walked.manifest("beta").write_bytes(first.manifest("beta").read_bytes())
        is_left_out(walked, "refused: the sealed update of beta was made for another ticket")

    def test_one_that_its_site_signed_for_something_else(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        blob = walked.blob("beta").read_bytes()
        for field in ("charter", "ticket", "roster", "purpose", "protection", "certificate"):
            publish(walked.three, "beta", blob, **{field: "0" * 64})
            is_left_out(walked, f"refused: the sealed update of beta was made for another {field}")
        publish(walked.three, "beta", blob, site="alpha")
        is_left_out(walked, "refused: a document that should be betas names another signer")

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_one_of_another_length(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        three = walked.three
        context = public_context(three.keys_uri, three.attempt().certificate())
        for length in (LENGTH - 1, LENGTH + 1, 5000):
            blob = b"".join(sealer(protection, context).seal(np.ones(length)))
            publish(three, "beta", blob, length=length)
            is_left_out(walked, f"refused: the sealed update of beta has {length} values, this round")
            publish(three, "beta", blob)  # or it says that it is of the right one
            is_left_out(walked, "refused: ")

    def test_a_signed_manifest_that_makes_no_sense(self) -> None:
        walked = walk("sealed", "none", sites=FOUR)
        for changes in NONSENSE:
            publish(walked.three, "beta", walked.blob("beta").read_bytes(), **changes)
            is_left_out(walked, "refused: ")

    @protections
    def test_one_that_is_missing(self, protection: str) -> None:
        walked = walk("sealed", protection, sites=FOUR)
        walked.blob("beta").unlink()
        is_left_out(walked, "unreachable")
        walked.manifest("beta").unlink()
        is_left_out(walked, "unreachable")

    @protections
    def test_signed_bytes_that_are_no_sealed_update(self, protection: str) -> None:
        """A site that signs rubbish is the one that is left out; the sum of the others goes on."""
        walked = walk("sealed", protection, sites=FOUR)
        for blob in (b"\xff" * 312, b"XCSEALED" + bytes(304)):
            publish(walked.three, "beta", blob)
            is_left_out(walked, "refused: ")

    def test_a_signed_ciphertext_with_a_word_that_none_has(self) -> None:
        walked = walk("sealed", "sealed", sites=FOUR)
        blob = bytearray(walked.blob("beta").read_bytes())
        blob[-8:] = b"\xff" * 8
        publish(walked.three, "beta", bytes(blob))
        is_left_out(walked, "refused: ")


def is_left_out(walked: Walked, reason: str) -> None:
    """Beta alone is left out, for `reason`, and the sum is that of the others."""
    others = ["alpha", "delta", "gamma"]
    outcome = walked.three.aggregate(walked.sealed)
    assert members(outcome) == others
    assert list(cutoff(walked.three)["left_out"]) == ["beta"]
    assert cutoff(walked.three)["left_out"]["beta"].startswith(reason)
    assert sum_of(walked.three) == only(walked, *others)
    for key in (cutoff_key, sum_key):
        (walked.three.exchange_folder / key(walked.three.opened.ticket)).unlink()


class TestWhatTheAggregatorHolds:
    SCRIPT = (
        "import json, sys\n"
        "from components.aggregation.secure_aggregation.summing import aggregate_updates\n"
        "sealed, more = json.loads(sys.argv[1])\n"
        "print(aggregate_updates(sealed, {}, **more).manifest['sites'])\n"
        "print({'tenseal', 'torch', 'duckdb', 'pyarrow', 'transformers'} & sys.modules.keys())\n"
    )

    @pytest.mark.parametrize("protection", ["he", "sealed"])
    def test_is_no_secret_and_no_library_that_parses(self, protection: str) -> None:
        """Public keys, the public context and the exchange are all that is there, and they are enough."""
        walked = walk("sealed", protection)
        three, home = walked.three, Path(os.environ["CROSSCLOUD_HOME"])
        for owner in (*SITES, "coordinator", "key-holder"):
            shutil.rmtree(three.keys_folder / owner)
        for folder in ("sites", "state"):
            shutil.rmtree(three.exchange_folder.parent / folder, ignore_errors=True)
        kept = {path.relative_to(home / "small").parts[0] for path in home.rglob("*") if path.is_file()}
        assert kept == {"keys", "exchange"}
        more = {
            "ticket": three.opened.reference,
            "exchange_uri": three.exchange_uri,
            "keys_uri": three.keys_uri,
        }
        environment = {name: value for name, value in os.environ.items() if name != "CROSSCLOUD_KEYS"}
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, json.dumps([walked.sealed, more])],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert done.stdout.splitlines() == [str(list(SITES)), "set()"]
        assert three.exchange.exists(sum_key(three.opened.ticket))
