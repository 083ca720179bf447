"""Whole rounds whose sites have clusters of their own: a dispatcher for one, an agent for another.

The clusters are a server that speaks the Jobs API and runs what a Job's container says as a process of this
machine, with nothing but the environment that the site's template gives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from components.rounds.verification import verify_state
from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from tests.conftest import SmallFederation
from tests.jobs_api.access import DISPATCHER, ROLE
from tests.jobs_api.objects import PODS
from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template
from tests.pipelines.conftest import ROWS
from tests.pipelines.run_in_progress import COMMAND

pytestmark = pytest.mark.slow

NAMESPACE = "crosscloud"
STEPS = ["ingest", "augment", "train", "seal", "release", "adapt", "evaluate"]
AGENT = "token-of-the-agent"


@dataclass
class Clusters:
    """alpha's and beta's own clusters, and the federation that has Jobs run there."""

    made: SmallFederation
    folder: Path
    servers: dict[str, JobsServer]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Types `crosscloud run`."""
        environment = {
            "CROSSCLOUD_HOME": str(self.made.home),
            "CROSSCLOUD_CLUSTERS": str(self.folder),
            "COLUMNS": "200",
        }
        return subprocess.run(
            [*COMMAND, "run", str(self.made.path), *words],
            cwd=self.made.home.parent,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def steps(self, site: str) -> list[str]:
        """What was done as Jobs of a site, in the order of names."""
        jobs = self.servers[site].jobs(NAMESPACE)
        return sorted(job["metadata"]["labels"]["crosscloud.dev/step"] for job in jobs)

    @contextmanager
    def agent(self) -> Iterator[subprocess.Popen[bytes]]:
        """Beta's agent, as its deployment runs it."""
        environment = {
            "CROSSCLOUD_SITE": "beta",
            "CROSSCLOUD_EXCHANGE_URI": "small/exchange",
            "CROSSCLOUD_KEYS_URI": "small/keys",
            "CROSSCLOUD_HOME": str(self.made.home),
            "CROSSCLOUD_NAMESPACE": NAMESPACE,
            "CROSSCLOUD_KUBECONFIG": str(self.folder / "beta-agent" / "kubeconfig"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "components.site_steps.agent"], env=os.environ | environment
        )
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.fixture
def clusters(small_federation: Callable[..., SmallFederation], tmp_path: Path) -> Iterator[Clusters]:
    made = small_federation(list(ROWS.values()))
    made.site("alpha")["placement"] = {"kind": "kubernetes-job", "kubeconfig_secret": "opens-alpha"}
    made.site("beta")["placement"] = {"kind": "kubernetes-job", "door": "agent"}
    made.save()
    ensure_charter(load_federation(made.path))
    with JobsServer() as alpha, JobsServer() as beta:
        for site, server in (("alpha", alpha), ("beta", beta)):
            settings = {
                "CROSSCLOUD_STORE_URI": f"small/sites/{site}/store",
                "CROSSCLOUD_EXCHANGE_URI": "small/exchange",
                "CROSSCLOUD_KEYS_URI": "small/keys",
            }
            server.add_namespace(NAMESPACE, template(site, env=settings))
            server.controller.runner = ProcessRunner(
                folder=tmp_path / f"logs-{site}",
                mounts={"/work": made.home},
                environment={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
            )
        beta.access.tokens = {AGENT: set(ROLE)}
        alpha.write_kubeconfig(tmp_path / "clusters/alpha/kubeconfig", token=DISPATCHER)
        beta.write_kubeconfig(tmp_path / "clusters/beta-agent/kubeconfig", token=AGENT)
        yield Clusters(made=made, folder=tmp_path / "clusters", servers={"alpha": alpha, "beta": beta})


def outcomes(made: SmallFederation, site: str) -> list[dict[str, object]]:
    exchange = made.home / "small/exchange"
    return [json.loads(path.read_text())["body"] for path in (exchange / f"outcomes/{site}").glob("*.json")]


def test_a_round_is_committed_by_jobs_in_the_sites_own_clusters(clusters: Clusters) -> None:
    with clusters.agent():
        ended = clusters.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 of 3" in ended.stdout
    assert clusters.steps("alpha") == clusters.steps("beta") == sorted(STEPS)
    home = clusters.made.home
    for site in ("alpha", "beta"):
        told = outcomes(clusters.made, site)
        assert len(told) == len(STEPS)
        assert not any(outcome["reason"] for outcome in told)
        assert not (home / f"small/exchange/notices/{site}").exists()
    found = verify_state("small/state", keys_uri="small/keys", charter="")
    assert not found.problems
    assert found.rounds == 1
    report = json.loads((home / "small/state/rounds/00001/report.json").read_text())
    assert all(site["took_part"] for site in report["sites"])
    _nothing_of_the_site_has_left_it(clusters)


def _nothing_of_the_site_has_left_it(clusters: Clusters) -> None:
    """Searched in bytes: what the API servers hold, and every document of the exchange."""
    home = clusters.made.home
    held = b"".join(
        json.dumps([server.jobs(NAMESPACE), server.objects.list(PODS, NAMESPACE)]).encode()
        for server in clusters.servers.values()
    )
    documents = [path.read_bytes() for path in (home / "small/exchange").rglob("*.json")]
    assert len(documents) > 4 * len(STEPS)
    held += b"".join(documents)
    for site in ("alpha", "beta"):
        for name in ("signing.key", "agreement.key"):
            secret = b"".join((home / "small/keys" / site / name).read_bytes().splitlines()[1:-1])
            assert len(secret) > 40
            assert secret not in held
        with duckdb.connect(str(clusters.made.warehouse(site)), read_only=True) as connection:
            rows = connection.execute("SELECT patient, note FROM visits").fetchall()
        for value in {value for row in rows for value in row}:
            assert value.encode() not in held
