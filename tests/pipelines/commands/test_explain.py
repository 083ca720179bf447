"""`crosscloud explain`: the site's own records say everything that has left it, and why it refused."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.execution.outcome import Outcome
from components.site_steps.running import run_here
from pipelines.explanation.comparison import author
from tests.conftest import SITES, SmallFederation
from tests.pipelines.command_line import Say
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

STEPS = ("ingest", "augment", "train", "seal", "release", "adapt", "evaluate")


def exchange_files(home: Path) -> dict[str, tuple[int, str]]:
    """Size and digest of every object of the exchange, read from the disk."""
    root = home / "small/exchange"
    contents = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {key: (len(content), hashlib.sha256(content).hexdigest()) for key, content in contents.items()}


def left(said: str) -> dict[str, tuple[int, str]]:
    """The objects that have left by a site's records."""
    return {each["key"]: (each["size"], each["sha256"]) for each in json.loads(said)["left"] if each["key"]}


def bears(key: str, site: str) -> bool:
    """Whether a site's name stands in a key, however."""
    return site in re.split(r"[/.-]", key)


class TestAWholeRound:
    """By the command: every step a process of its own, as it is anywhere."""

    @pytest.mark.parametrize("site", SITES)
    def test_every_byte_in_the_exchange_under_a_sites_name_is_in_its_records(
        self, after_one_round: SmallFederation, say: Say, site: str
    ) -> None:
        there = {key: told for key, told in exchange_files(after_one_round.home).items() if bears(key, site)}
        assert len(there) == 5 + len(STEPS), (
            "commitment, update and manifest, release, figures, a journal a step"
        )
        said = say("explain", after_one_round.path, "--as", site, "--json")
        assert (said.code, said.err) == (0, "")
        assert left(said.out) == there
        told = [each for each in json.loads(said.out)["left"] if not each["key"]]
        assert [each["occasion"]["step"] for each in told] == list(STEPS)
        assert {each["occasion"]["ticket"] for each in json.loads(said.out)["left"]} == {
            json.loads((after_one_round.home / "small/state/rounds/00001/round.json").read_text())["body"][
                "ticket"
            ]
        }
        assert json.loads(said.out)["refused"] == []

    def test_is_told_in_words(self, after_one_round: SmallFederation, say: Say) -> None:
        lines = say("explain", after_one_round.path, "--as", "alpha").lines
        assert lines[0] == "alpha: 19 departures, times in UTC"
        (sealed,) = [line for line in lines if "sealed update" in line]
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  1/1    [0-9a-f]{12}  seal ", sealed)
        assert "sealed update: only a sum of at least 3 sites opens it" in sealed
        size = (after_one_round.home / "small/exchange/rounds/00001-1/sealed/alpha.bin").stat().st_size
        assert f"{size:,}" in sealed
        text = "\n".join(lines)
        for words in (
            "commitment: a salted digest of the update, no contents",
            "release of its masks for the sum of alpha, beta, gamma",
            "figures: accuracy and confusion counts, allowed by the site's policy",
            "manifest shown in Kubeflow (",
        ):
            assert words in text
        assert "not named" not in text
        assert lines[-2:] == [
            "refused, or come to nothing: 0",
            "privacy: its policy sets no budget, nothing is charged",
        ]

    def test_needs_neither_exchange_nor_state(self, after_one_round: SmallFederation, say: Say) -> None:
        for name in ("exchange", "state"):
            (after_one_round.home / f"small/{name}").rename(after_one_round.home / f"away-{name}")
        assert len(left(say("explain", after_one_round.path, "--as", "beta", "--json").out)) == 12

    def test_of_another_round_is_nothing(self, after_one_round: SmallFederation, say: Say) -> None:
        assert left(say("explain", after_one_round.path, "--as", "beta", "--json", "--round", "2").out) == {}
        assert (
            len(left(say("explain", after_one_round.path, "--as", "beta", "--json", "--round", 1).out)) == 12
        )


def test_what_a_sites_steps_create_is_recorded_by_them_and_nobody_else(
    small_federation: Callable[..., SmallFederation], say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exchange is listed before and after every site's turn."""
    made = small_federation([20, 21, 22])
    walk = RoundInProcess(made)
    written: dict[str, dict[str, tuple[int, str]]] = {site: {} for site in SITES}

    def turn(site: str, work: Callable[[], object]) -> None:
        before = exchange_files(made.home)
        work()
        after = exchange_files(made.home)
        assert before.items() <= after.items()
        written[site] |= {key: told for key, told in after.items() if key not in before}

    for site in SITES:
        turn(site, partial(walk.learn, [site]))
    walk.call()
    for site in SITES:
        turn(site, partial(walk.seal, [site]))
    walk.add()
    for site in SITES:
        turn(site, partial(walk.release, [site]))
    walk.open()
    walk.commit()
    for site in SITES:
        turn(site, partial(walk._figures, site))
    capsys.readouterr()
    for site in SITES:
        assert len(written[site]) == 5
        assert left(say("explain", made.path, "--as", site, "--json").out) == written[site]
        assert all(author(key) == site for key in written[site])


class TestComparedWithTheExchange:
    def test_all_is_as_recorded(self, after_one_round: SmallFederation, say: Say) -> None:
        for site in SITES:
            lines = say("explain", after_one_round.path, "--as", site, "--check").lines
            assert lines[-1] == "12 objects of the exchange are as recorded, 0 differ"

    @pytest.mark.parametrize(
        "key",
        [
            "rounds/00001-1/sealed/alpha.bin",
            "rounds/00001-1/sealed/alpha/again.bin",
            "rounds/00002-1/commitments/alpha.json",
            "outcomes/alpha/x.json",
            "extra/alpha",
        ],
    )
    def test_an_object_put_there_behind_the_sites_back_is_told(
        self, after_one_round: SmallFederation, say: Say, key: str
    ) -> None:
        path = after_one_round.home / "small/exchange" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.write_bytes(b"what somebody took out")
        said = say("explain", after_one_round.path, "--as", "alpha", "--check")
        assert said.code == 1
        (line,) = [line for line in said.out.splitlines() if line.startswith(f"{key}: ")]
        if existed:
            assert line.startswith(f"{key}: has 22 bytes with digest ")
        else:
            assert line == f"{key}: lies in the exchange under the site's name and is not in its records"
        assert said.out.splitlines()[-1].endswith(", 1 differ")
        assert say("explain", after_one_round.path, "--as", "beta", "--check").code == 0

    def test_an_object_that_is_gone_is_told(self, after_one_round: SmallFederation, say: Say) -> None:
        key = "rounds/00001-1/released/alpha.json"
        (after_one_round.home / "small/exchange" / key).unlink()
        said = say("explain", after_one_round.path, "--as", "alpha", "--check", "--json")
        assert said.code == 1
        assert json.loads(said.out)["check"] == {
            "same": 11,
            "erased": 0,
            "notices": 0,
            "differences": [f"{key}: has left the site by its records and is not in the exchange"],
        }

    def test_what_was_begun_and_has_not_arrived_is_no_difference(
        self, after_one_round: SmallFederation, say: Say
    ) -> None:
        folder = next((after_one_round.home / "small/sites/alpha/store/left").iterdir())
        for path in folder.glob("*sealed=alpha.bin-*.sent.json"):
            path.unlink()
        (after_one_round.home / "small/exchange/rounds/00001-1/sealed/alpha.bin").unlink()
        said = say("explain", after_one_round.path, "--as", "alpha", "--check")
        assert said.code == 0
        assert "opens it (may have left: the step ended before that was known)" in said.out


class TestRefused:
    """Steps are run as everywhere: guarded, in a process of their own."""

    def run(self, made: SmallFederation, step: str, ticket: str, **arguments: Any) -> Outcome:
        return run_here(
            step,
            arguments,
            site="alpha",
            store_uri="small/sites/alpha/store",
            exchange_uri="small/exchange",
            keys_uri="small/keys",
            ticket=ticket,
            deadline_s=60,
        )

    def test_requests_are_listed_with_reason_and_message_even_of_no_valid_ticket(
        self, after_one_round: SmallFederation, say: Say
    ) -> None:
        made = after_one_round
        forged = made.home / "small/exchange/rounds/00002-1/ticket.json"
        forged.parent.mkdir(parents=True)
        signed = json.loads((made.home / "small/exchange/rounds/00001-1/ticket.json").read_text())
        signed["body"]["round_number"] = 2
        forged.write_text(json.dumps(signed, separators=(",", ":"), sort_keys=True))
        asked = [
            ("release", "small/exchange/rounds/00002-1/ticket.json"),
            ("release", "elsewhere/rounds/00002-1/ticket.json"),
            ("dump_rows", "small/exchange/rounds/00001-1/ticket.json"),
        ]
        reasons = [self.run(made, step, ticket).reason for step, ticket in asked]
        assert all(reasons)
        told = json.loads(say("explain", made.path, "--as", "alpha", "--json").out)
        refused = told["refused"]
        assert [(each["step"], each["ticket"], each["reason"]) for each in refused] == [
            (step, ticket, reason) for (step, ticket), reason in zip(asked, reasons, strict=True)
        ]
        assert "signature" in refused[0]["message"]
        assert [each["reason"] for each in told["left"] if each["reason"]] == reasons
        assert {each["occasion"]["ticket"] for each in told["left"] if each["reason"]} == {""}
        lines = say("explain", made.path, "--as", "alpha").lines
        at = lines.index("refused, or come to nothing: 3")
        assert lines[at + 1].split()[:2] == ["time", "step"]
        assert asked[1][1] in lines[at + 3]

    def test_a_roster_that_is_none_is_among_them(self, after_one_round: SmallFederation, say: Say) -> None:
        ticket = "small/exchange/rounds/00001-1/ticket.json"
        other = after_one_round.home / "small/exchange/rounds/00001-1/roster-2.json"
        other.write_text("{}")
        outcome = self.run(
            after_one_round, "seal", ticket, roster="small/exchange/rounds/00001-1/roster-2.json"
        )
        assert outcome.reason.startswith("refused")
        (note,) = json.loads(say("explain", after_one_round.path, "--as", "alpha", "--json").out)["refused"]
        assert (note["step"], note["reason"]) == ("seal", outcome.reason)

    def test_a_budget_that_holds_no_more_is_among_them_and_the_cost_is_told(
        self, small_federation: Callable[..., SmallFederation], say: Say, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = small_federation(30, **ours(rounds=2))
        RoundInProcess(made).finish()
        policy = made.home / "small/keys/alpha/policy.yaml"
        policy.write_text(re.sub(r"epsilon: [0-9.]+", "epsilon: 0.5", policy.read_text()))
        policy.chmod(0o600)
        second = RoundInProcess(made)
        data = second.federation.site("alpha").data
        task = second.federation.task
        outcome = self.run(
            made,
            "ingest",
            second.ticket,
            source_kind=data.source,
            source_uri=data.uri,
            sql=data.sql,
            template=task.template,
            label_column=task.label_column,
            split_column=task.split.column,
            test_fraction=task.split.test_fraction,
            classes=list(task.classes),
            columns=[],
            deadline_s=60,
        )
        assert outcome.reason == "refused: the sites privacy budget does not hold this round"
        capsys.readouterr()
        said = say("explain", made.path, "--as", "alpha")
        (line,) = [
            line for line in said.lines if "privacy budget" in line and "ingest" in line and "round 2" in line
        ]
        assert "would bring epsilon from" in line
        assert said.lines[-1].startswith("privacy: epsilon ")
        assert (
            " of 0.5 at delta 1e-05 is spent on small/sites/alpha/warehouse.duckdb (total), by 1 release "
            in (said.lines[-1])
        )


class TestWhoMayAsk:
    def test_nobody_without_the_sites_own_policy(self, after_one_round: SmallFederation, say: Say) -> None:
        (after_one_round.home / "small/keys/beta/policy.yaml").unlink()
        said = say("explain", after_one_round.path, "--as", "beta")
        assert (said.code, said.out) == (2, "")
        (line,) = said.err.splitlines()
        assert line.startswith("crosscloud: beta: there is no ")
        assert "only its own people may ask" in line

    def test_a_file_that_names_a_store_not_of_the_sites_policy_is_refused(
        self, after_one_round: SmallFederation, say: Say
    ) -> None:
        after_one_round.site("alpha")["store_uri"] = "small/somewhere"
        after_one_round.save()
        said = say("explain", after_one_round.path, "--as", "alpha")
        assert (said.code, said.out) == (2, "")
        (line,) = said.err.splitlines()
        assert "small/somewhere is not below one that the site's policy admits" in line

    def test_an_unknown_site(self, after_one_round: SmallFederation, say: Say) -> None:
        said = say("explain", after_one_round.path, "--as", "delta")
        assert (said.code, said.err) == (
            2,
            "crosscloud: unknown site 'delta': the federation has alpha, beta, gamma\n",
        )

    def test_an_altered_record_is_one_line(self, after_one_round: SmallFederation, say: Say) -> None:
        folder = next((after_one_round.home / "small/sites/alpha/store/left").iterdir())
        next(folder.glob("outcome-seal-*.json")).write_text("{}")
        said = say("explain", after_one_round.path, "--as", "alpha")
        assert said.code == 1
        (line,) = said.err.splitlines()
        assert "the site's record left/000000001-000001-" in line
