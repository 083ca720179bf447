"""A round in which native code crashes: one site's update at a site, a void attempt at the key holder.

Nothing that passes the checks before is known to crash SEAL, so the crash is made where SEAL is called.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from components.agreement.cutoff import shortfall_key
from components.encryption.bfv import context as bfv_context
from components.encryption.ckks import context as ckks_context
from components.encryption.native.tenseal_contexts import ContextKind
from components.encryption.update_sealing.sealing import seal_update
from components.errors import CiphertextError, UsageError
from components.execution.site_step import SiteStep
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import nothing_is_open
from tests.components.rounds.walks import walk

protections = pytest.mark.parametrize("protection", ["sealed", "he"])
ENCRYPTORS = {"sealed": bfv_context.BlockEncryptor, "he": ckks_context.VectorEncryptor}
DECRYPTORS = {"sealed": bfv_context.BlockDecryptor, "he": ckks_context.VectorDecryptor}


def crash(*_: Any) -> None:
    ctypes.string_at(0)


def killed(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sealed_by(three: ThreeSites, site: str, roster: str) -> str:
    """The reason that the roster and the aggregator are given for a site; empty if it seals."""
    step = SiteStep(
        name="seal",
        site=site,
        store_uri=f"{three.name}/sites/{site}",
        exchange_uri=three.exchange_uri,
        ticket=three.opened.reference,
        deadline_s=60,
    )
    return step.run(lambda: seal_update(three.place(site), roster=roster)).reason


@protections
@pytest.mark.parametrize("loading", [True, False], ids=["loading", "encrypting"])
def test_at_a_site_it_is_that_sites_refusal_and_the_others_go_on(
    protection: str, loading: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    walked = walk("called", protection, sites=("alpha", "beta", "delta", "gamma"))
    three = walked.three
    with monkeypatch.context() as crashing:
        if loading:
            crashing.setattr(ContextKind, "load_public", crash)
        else:
            crashing.setattr(ENCRYPTORS[protection], "encrypt", crash)
        reason = sealed_by(three, "delta", walked.roster)
    assert reason == "refused: the public context ended the process by signal 11"
    others = ("alpha", "beta", "gamma")
    sealed = three.seal(walked.roster, others) | {"delta": ""}
    assert three.aggregate(sealed, {"delta": reason}).manifest["sites"] == list(others)
    # The site's own store holds no half of a sealed update: it may try again.
    assert sealed_by(three, "delta", walked.roster) == ""


@protections
def test_at_the_key_holder_the_attempt_is_void_and_the_refusal_one_bit(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    walked = walk("released" if protection == "sealed" else "summed", protection)
    three = walked.three
    with monkeypatch.context() as crashing:
        crashing.setattr(DECRYPTORS[protection], "decrypt", crash)
        with pytest.raises(CiphertextError, match=r"^the sum of round 1 does not open: refused$"):
            three.open_sum(walked.total)
    assert nothing_is_open(three)
    assert three.exchange.exists(shortfall_key(three.opened.ticket))
    assert three.next_attempt().opened.ticket.round_number == 2


@protections
def test_if_the_system_kills_it_nobody_is_at_fault_and_nothing_is_lost(
    protection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    walked = walk("released" if protection == "sealed" else "summed", protection)
    three = walked.three
    with monkeypatch.context() as killing:
        killing.setattr(DECRYPTORS[protection], "decrypt", killed)
        with pytest.raises(UsageError, match="memory ran out while the sum of round 1 was opened"):
            three.open_sum(walked.total)
    assert not three.exchange.exists(shortfall_key(three.opened.ticket))
    three.commit(three.open_sum(walked.total).reference)
