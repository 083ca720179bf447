from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import UsageError
from components.execution.jobs import connection
from components.execution.jobs.client import open_cluster
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.order import Cluster
from components.execution.jobs.refusals import ClusterUnreachableError
from tests.components.execution.jobs.conftest import NAMESPACE, SWIFT, TRAIN, completes
from tests.jobs_api.access import DISPATCHER, ROLE
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template


def rewritten(
    path: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None
) -> Cluster:
    document = yaml.safe_load(path.read_text())
    document["clusters"][0]["cluster"] |= cluster or {}
    if user is not None:
        document["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(document))
    return Cluster(namespace=NAMESPACE, kubeconfig=str(path))


def test_a_token_file_is_read_for_every_request(server: JobsServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.access.tokens = {"first": set(ROLE), "second": set(ROLE)}
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig", token_file=Path("token"))
    client = open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(kubeconfig)), patience=SWIFT)
    client.sight("a")
    token.write_text("second")
    del server.access.tokens["first"]
    client.sight("a")
    assert [each.token for each in server.faults.requests] == ["first", "second"]


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "id"]}},
        {"auth-provider": {"name": "gcp"}},
        {"token": "t", "exec": {"command": "sh"}},
        {"username": "u", "password": "p"},
        {"token": "t", "as": "system:admin"},
    ],
)
def test_a_kubeconfig_of_a_site_runs_no_program_beside_the_coordinators_key(
    server: JobsServer, tmp_path: Path, user: dict[str, Any]
) -> None:
    server.write_kubeconfig(tmp_path / "kubeconfig")
    cluster = rewritten(tmp_path / "kubeconfig", user=user)
    with pytest.raises(UsageError, match="the user must have a token, a tokenFile or a client certificate"):
        open_cluster(cluster)


@pytest.mark.parametrize("name", ["tokenFile", "client-key", "client-certificate", "certificate-authority"])
@pytest.mark.parametrize(
    "file", ["/var/run/secrets/kubernetes.io/serviceaccount/token", "../coordinator/signing.key"]
)
def test_no_file_beyond_its_own_folder_is_sent_to_the_sites_server(
    server: JobsServer, tmp_path: Path, name: str, file: str
) -> None:
    server.write_kubeconfig(tmp_path / "kubeconfig")
    of_cluster = name == "certificate-authority"
    cluster = rewritten(
        tmp_path / "kubeconfig",
        cluster={name: file} if of_cluster else None,
        user={"token": "t"} if of_cluster else {name: file},
    )
    with pytest.raises(UsageError, match=f"{name} must lie beside the kubeconfig, got "):
        open_cluster(cluster)


def test_a_token_in_the_kubeconfig_works(server: JobsServer, tmp_path: Path) -> None:
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
    client = open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(kubeconfig)), patience=SWIFT)
    assert client.sight("a").job is None


@pytest.mark.parametrize(
    ("cluster", "line"),
    [
        ({"server": "http://192.0.2.1:6443"}, "must be https://"),
        ({"server": "https://name:password@192.0.2.1"}, "must not hold a password"),
        ({"server": "ftp://192.0.2.1"}, "must be an https:// address"),
        ({"server": "https://[::1"}, "must be an https:// address"),
        ({"server": ""}, "must be an https:// address"),
        ({"server": "https://192.0.2.1", "insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        (
            {"server": "https://192.0.2.1", "certificate-authority": "missing.crt"},
            r"not a kubeconfig that can be used \(ConfigException\)",
        ),
    ],
)
def test_a_server_to_whom_no_token_may_go_is_refused(
    server: JobsServer, tmp_path: Path, cluster: dict[str, Any], line: str
) -> None:
    terms = rewritten(server.write_kubeconfig(tmp_path / "kubeconfig"), cluster=cluster)
    with pytest.raises(UsageError, match=line) as caught:
        open_cluster(terms)
    assert "password@" not in str(caught.value)
    assert DISPATCHER not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "current-context: a",
        "{current-context: a, contexts: [{name: a, context: {cluster: b}}], clusters: [], users: []}",
        "{current-context: a, contexts: 5, clusters: [], users: []}",
    ],
)
def test_what_is_no_kubeconfig_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"kubeconfig: .*current") as caught:
        open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(path)))
    assert "\n" not in str(caught.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"kubeconfig: cannot be read \(No such file or directory\)"):
        open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(tmp_path / "kubeconfig")))


def test_without_kubeconfig_the_cluster_of_this_process_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobsServer(tls=True) as server:
        assert server.certificates is not None
        server.add_namespace(NAMESPACE, template())
        monkeypatch.setattr(connection, "SERVICE_ACCOUNT", tmp_path)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
        cluster = Cluster(namespace=NAMESPACE)
        with pytest.raises(UsageError, match="runs in no cluster"):
            open_cluster(cluster)
        (tmp_path / "token").write_text(DISPATCHER)
        (tmp_path / "ca.crt").write_bytes(server.certificates.authority)
        server.controller.runner = completes
        assert run_job(TRAIN, cluster, patience=SWIFT).reason == ""


def test_a_server_with_a_certificate_of_its_own_is_trusted_by_the_authority_named(tmp_path: Path) -> None:
    with JobsServer(tls=True) as server, JobsServer(tls=True) as other:
        server.add_namespace(NAMESPACE, template())
        server.controller.runner = completes
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        assert run_job(TRAIN, Cluster(namespace=NAMESPACE, kubeconfig=str(path)), patience=SWIFT).reason == ""
        terms = rewritten(path, cluster={"server": other.url})
        with pytest.raises(ClusterUnreachableError) as caught:
            open_cluster(terms, patience=SWIFT).sight("a")
        assert caught.value.told == "unreachable: the certificate of the API server"
        assert other.faults.requests == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_proxies_of_the_environment_get_no_token(
    server: JobsServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in (variable, variable.lower()):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert open_cluster(cluster, patience=SWIFT).sight("a").job is None
    assert server.faults.count("list jobs.batch") == 1


def test_an_answer_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    with JobsServer() as server, JobsServer() as other:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        server.faults.redirect(
            "list jobs.batch", f"{other.url}/apis/batch/v1/namespaces/{NAMESPACE}/jobs", 99
        )
        patience = replace(SWIFT, unreachable_s=0.5)
        client = open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(path)), patience=patience)
        with pytest.raises(ClusterUnreachableError):
            client.sight("a")
        assert other.faults.requests == []


def test_nothing_logs_the_token(
    server: JobsServer, cluster: Cluster, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server.controller.runner = completes
    server.faults.refuse("list jobs.batch", 401)
    assert run_job(TRAIN, cluster, patience=SWIFT).reason == ""
    told = capfd.readouterr()
    assert "Job" in told.err or "crosscloud-train" in told.err
    assert DISPATCHER not in caplog.text + told.err + told.out
