"""Records of audits that were never made, for what is said of them."""

from __future__ import annotations

from typing import Any

from components.evaluation.audit.record import AuditRecord, Bounds, Trial


def trial(mechanism: str = "intact", gaussian: float = 0.7, **changes: Any) -> Trial:
    low = Bounds(gaussian=gaussian, any_mechanism=0.4)
    told: dict[str, Any] = {"says": "", "claimed": 1.0, "right": {"one": (7, 9), "two": (5, 6)}} | changes
    return Trial(mechanism=mechanism, together=low, alone=Bounds(gaussian=0.5, any_mechanism=0.3), **told)


def record(*trials: Trial) -> AuditRecord:
    return AuditRecord(
        federation="hospitals",
        version="0.1.0",
        finished_at="2026-11-29T03:00:00+00:00",
        seed=None,
        delta=1e-5,
        confidence=0.999,
        canaries=7680,
        guesses=10,
        sites=3,
        honest=2,
        values=8086,
        rounds=3,
        seconds=12.5,
        machine={"processor": "a | processor", "cores": 2},
        trials=trials,
        skipped={"one seed in all rounds": "no two rounds"},
    )
