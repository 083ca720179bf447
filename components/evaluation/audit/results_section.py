"""An audit as a part of RESULTS.md: what was claimed, what was found, and what that means."""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluation.audit.record import AuditRecord, Trial

HEADER = (
    "Mechanism",
    "Runs",
    "ε claimed",
    "ε at least",
    "whatever the mechanism",
    "One run",
    "Right",
    "Verdict",
)
MEANS = (
    "A lower bound is what these guesses prove: no mechanism of a smaller ε lets so many be right, but by a "
    "chance of at most what confidence leaves. Below the claim it contradicts nothing; it does not prove the "
    "claim, which rests on the noise that is drawn and on its accounting."
)


def row(record: AuditRecord, trial: Trial) -> tuple[str, ...]:
    """One trial in the columns of `HEADER`; right guesses are those of its best view."""
    right = trial.right[trial.best_view]
    shown = f"{min(right)}" if min(right) == max(right) else f"{min(right)}–{max(right)}"
    return (
        trial.mechanism,
        str(trial.runs),
        f"{trial.claimed:.2f}",
        f"{trial.together.gaussian:.2f}",
        f"{trial.together.any_mechanism:.2f}",
        f"{trial.alone.largest:.2f}",
        f"{shown} of {record.guesses}",
        trial.verdict,
    )


def section(record: AuditRecord, command: str) -> str:
    """The part, from its heading on.

    Args:
        record: of the audit.
        command: that made it.
    """
    told = "the operating system" if record.seed is None else f"seed {record.seed}, for repetition alone"
    blocks = [
        f"## Audit of {record.federation}",
        f"Every run trains once with {record.canaries:,} canaries, each included by a fair coin, under the "
        f"federation's own terms and through sealed sums of {record.sites} sites, {record.honest} of them "
        f"honest, over {record.rounds} rounds of {record.values:,} values. {record.guesses:,} canaries are "
        f"guessed, a number fixed beforehand. Bounds hold with {100 * record.confidence:g} % for the runs "
        f"of a line together, and for any single run, at δ = {record.delta:g}.",
        MEANS,
        _table([row(record, trial) for trial in record.trials]),
    ]
    faults = [f"- **{trial.mechanism}**: {trial.says}." for trial in record.broken]
    faults += [f"- **{name}**: not audited, {reason}." for name, reason in record.skipped.items()]
    if faults:
        blocks += [
            "Deliberately broken mechanisms, which a working audit must find:",
            "\n".join(faults),
        ]
    found = record.machine
    blocks.append(
        f"Command `{command.replace('`', chr(39))}`, {record.seconds:.0f} s, one core of "
        f"{found.get('processor', 'an unknown processor')}, crosscloud {record.version}, randomness of "
        f"{told}, finished {record.finished_at}."
    )
    return "\n\n".join(blocks)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEADER, tuple("---" for _ in HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
