"""Whole rounds whose sites have clusters of their own: a dispatcher for one, an agent for another.

The clusters are a server that speaks the Jobs API, holds Jobs to the shipped admission policies, and runs
what a Job's container says as a process of this machine, with the environment of the site's template.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from components.artifacts.stores import open_store
from components.execution.jobs.client import open_cluster
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.jobs.refusals import ClusterError
from components.execution.jobs.template import fill_template
from components.rounds.verification import verify_state
from pipelines.chartering import ensure_charter
from pipelines.explanation.account import site_account
from pipelines.explanation.comparison import compare
from pipelines.federation import load_federation
from pipelines.retention.parties import Pruning, prune
from tests.conftest import SmallFederation
from tests.jobs_api.access import DISPATCHER, ROLE, TEMPLATE
from tests.jobs_api.objects import CONFIG_MAPS, PODS
from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer
from tests.jobs_api.warm_python import warm_python
from tests.manifests.site.admission import Manifest, Policy, Review, denials
from tests.manifests.site.overlays import SITE
from tests.manifests.site.stored import created
from tests.pipelines.conftest import ROWS
from tests.pipelines.lent_interpreter import lent
from tests.pipelines.run_in_progress import COMMAND

pytestmark = pytest.mark.slow

NAMESPACE = "crosscloud"
STEPS = ["ingest", "augment", "train", "seal", "release", "adapt", "evaluate"]
AGENT = "token-of-the-agent"
PLACEHOLDERS = {
    "s3://YOUR-BUCKET/store": "CROSSCLOUD_STORE_URI",
    "s3://YOUR-EXCHANGE/exchange": "CROSSCLOUD_EXCHANGE_URI",
    "s3://YOUR-EXCHANGE/keys": "CROSSCLOUD_KEYS_URI",
}


@dataclass
class Clusters:
    """alpha's and beta's own clusters, and the federation that has Jobs run there."""

    made: SmallFederation
    folder: Path
    servers: dict[str, JobsServer]
    runners: list[ProcessRunner]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Types `crosscloud run`."""
        environment = {
            "CROSSCLOUD_HOME": str(self.made.home),
            "CROSSCLOUD_CLUSTERS": str(self.folder),
            "COLUMNS": "200",
        }
        interpreter = lent()
        return subprocess.run(
            [*(interpreter.command() if interpreter else COMMAND), "run", str(self.made.path), *words],
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
            assert process.wait(60) == 0


@dataclass(frozen=True)
class Owned:
    """What a site's owner applies, from manifests/site/base with the site's own values in it."""

    template: Manifest
    pins: dict[str, str]
    policies: list[Policy]

    @classmethod
    def of(cls, site: str, settings: dict[str, str]) -> Owned:
        """The template and the pins say the same."""

        def read(name: str) -> list[Manifest]:
            text = (SITE / "base" / name).read_text()
            text = text.replace("YOUR-SITE", site)
            for placeholder, variable in PLACEHOLDERS.items():
                text = text.replace(placeholder, settings[variable])
            return list(yaml.safe_load_all(text))

        policies = [
            each for path in sorted((SITE / "base").glob("admission-*.yaml")) for each in read(path.name)
        ]
        return cls(
            template=read("job.yaml")[0],
            pins=read("pins.yaml")[0]["data"],
            policies=[
                Policy.compiled(each) for each in policies if each["kind"] == "ValidatingAdmissionPolicy"
            ],
        )

    def denied(self, job: Mapping[str, Any]) -> str:
        """What the admission policies say against a Job that is to be created; empty for one they admit."""
        review = Review(resource="jobs.batch", operation="CREATE", new=created(dict(job)))
        found = denials(self.policies, review, self.pins)
        return f"denied by policy {found[0].policy}: {found[0].message}" if found else ""


@pytest.fixture
def clusters(small_federation: Callable[..., SmallFederation], tmp_path: Path) -> Iterator[Clusters]:
    made = small_federation(list(ROWS.values()))
    made.site("alpha")["placement"] = {"kind": "kubernetes-job", "kubeconfig_secret": "opens-alpha"}
    made.site("beta")["placement"] = {"kind": "kubernetes-job", "door": "agent"}
    made.save()
    ensure_charter(load_federation(made.path))
    with JobsServer() as alpha, JobsServer() as beta:
        runners = []
        for site, server in (("alpha", alpha), ("beta", beta)):
            settings = {
                "CROSSCLOUD_STORE_URI": f"small/sites/{site}/store",
                "CROSSCLOUD_EXCHANGE_URI": "small/exchange",
                "CROSSCLOUD_KEYS_URI": "small/keys",
            }
            owned = Owned.of(site, settings)
            server.add_namespace(NAMESPACE, owned.template)
            server.access.policy = owned.denied
            runner = ProcessRunner(
                folder=tmp_path / f"logs-{site}",
                mounts={"/work": made.home},
                environment={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
            )
            server.controller.runner = runner
            runners.append(runner)
        beta.access.tokens = {AGENT: set(ROLE)}
        alpha.write_kubeconfig(tmp_path / "clusters/alpha/kubeconfig", token=DISPATCHER)
        beta.write_kubeconfig(tmp_path / "clusters/beta-agent/kubeconfig", token=AGENT)
        servers = {"alpha": alpha, "beta": beta}
        yield Clusters(made=made, folder=tmp_path / "clusters", servers=servers, runners=runners)


def outcomes(made: SmallFederation, site: str) -> list[dict[str, object]]:
    exchange = made.home / "small/exchange"
    return [json.loads(path.read_text())["body"] for path in (exchange / f"outcomes/{site}").glob("*.json")]


def test_a_round_is_committed_by_jobs_in_the_sites_own_clusters(clusters: Clusters, tmp_path: Path) -> None:
    with warm_python(tmp_path / "bin") as python, clusters.agent():
        for runner in clusters.runners:
            runner.python = python
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
    _what_has_left_is_explained_and_then_erased(clusters)


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


def _what_has_left_is_explained_and_then_erased(clusters: Clusters) -> None:
    """Answers of Jobs are in the sites' records as all else, and go with their requests."""
    federation = load_federation(clusters.made.path)
    now = datetime.now(UTC)
    for site in ("alpha", "beta", "gamma"):
        account = site_account(federation, site, now=now)
        answers = [each for each in account.departures if each.key.startswith(f"outcomes/{site}/")]
        assert len(answers) == (0 if site == "gamma" else len(STEPS))
        assert {each.occasion.ticket for each in answers} <= {account.departures[0].occasion.ticket}
        found = compare(account, open_store("small/exchange"), "small/keys")
        assert (found.differences, found.notices, found.erased) == ((), 0, 0)
    prune(federation, "coordinator", Pruning(now=now + timedelta(minutes=1), older_than=0))
    assert not open_store("small/exchange").keys("requests")
    assert not open_store("small/exchange").keys("outcomes")
    found = compare(site_account(federation, "alpha", now=now), open_store("small/exchange"), "small/keys")
    assert (found.differences, found.erased > len(STEPS)) == ((), True)
    assert not verify_state("small/state", keys_uri="small/keys", charter="").problems


def test_the_shipped_policies_stand_between_a_dispatcher_and_the_sites_data(clusters: Clusters) -> None:
    """The token that creates the site's Jobs creates no other."""
    server = clusters.servers["alpha"]
    order = JobOrder(step="train", request="ab" * 32, deadline_s=60)
    template = yaml.safe_load(server.objects.get(CONFIG_MAPS, NAMESPACE, TEMPLATE)["data"]["job.yaml"])
    job = fill_template(template, order, NAMESPACE)
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["python3", "-c", "print(open('/work'))"]
    cluster = Cluster(namespace=NAMESPACE, kubeconfig=str(clusters.folder / "alpha/kubeconfig"))
    with pytest.raises(ClusterError) as refused:
        open_cluster(cluster).create(job)
    assert refused.value.told == "denied: policy crosscloud-step"
    assert server.jobs(NAMESPACE) == []
