"""The API server is another party's, and a proxy may stand before it: its answers are not taken on trust."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.execution.jobs.answers import is_well_formed
from components.execution.jobs.client import open_cluster
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster
from components.execution.jobs.refusals import ClusterUnreachableError
from tests.components.execution.jobs.conftest import NAMESPACE, SWIFT, TRAIN, completes
from tests.components.execution.jobs.test_watching import runs_for, runs_until
from tests.jobs_api.server import JobsServer

Run = Callable[..., JobEnd]

EMPTY = {"kind": "JobList", "metadata": {"resourceVersion": "5"}, "items": []}
NO_LISTS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"kind": "JobList", "metadata": {"resourceVersion": "5"}, "items": {}}',
    b'{"kind": "JobList", "metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "x"}}]}',
    b'{"kind": "JobList", "metadata": null, "items": []}',
    b'{"kind": "Status", "status": "Success"}',
    b'{"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": []}',
    json.dumps({**EMPTY, "padding": "x" * 9_000_000}).encode(),
]


@pytest.mark.parametrize("body", NO_LISTS, ids=range(len(NO_LISTS)))
def test_no_list_is_read_as_the_absence_of_the_job(server: JobsServer, run: Run, body: bytes) -> None:
    def garbled(controller: Any, job: Any) -> None:
        controller.run(job)
        server.faults.garble("list jobs.batch", body, times=2)
        time.sleep(0.2)
        controller.end(job)

    assert run(garbled) == JobEnd()
    assert server.faults.count("create jobs.batch") == 1
    assert server.faults.count("list jobs.batch") >= 4


@pytest.mark.parametrize("body", [b"{}", b'{"kind": "Job", "metadata": {}}', b'{"kind": "Status"}'])
def test_a_creation_that_was_answered_by_something_else_is_asked_again(
    server: JobsServer, run: Run, body: bytes
) -> None:
    server.faults.garble("create jobs.batch", body)
    assert run(completes).reason == ""
    assert len(server.jobs(NAMESPACE)) == 1


@pytest.mark.parametrize(
    "body",
    [b"\n\n\n", b"{}\n", b"[]\n", b'{"type": "MODIFIED", "object": 5}\n', b'{"type": "ERROR"}\n', b"{"],
)
def test_events_that_are_none_do_not_end_the_watch(server: JobsServer, run: Run, body: bytes) -> None:
    server.faults.garble("watch jobs.batch", body, times=2)
    assert run(runs_until(lambda: server.faults.count("watch jobs.batch") >= 3)).reason == ""
    assert server.faults.count("watch jobs.batch") >= 3


def test_a_watch_that_tells_the_same_for_ever_is_not_listened_to_for_ever(
    server: JobsServer, run: Run
) -> None:
    """Where a watch calls a Job deleted that the list has, that costs a request now and then."""
    event = json.dumps({"type": "DELETED", "object": {}}).encode() + b"\n"
    server.faults.garble("watch jobs.batch", event, times=10_000)
    patience = replace(SWIFT, first_pause_s=0.2)
    began = time.monotonic()
    assert run(runs_for(1.2), patience=patience).reason == ""
    assert server.faults.count("watch jobs.batch") <= 3 + (time.monotonic() - began) / 0.2


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"metadata": {"name": "a"}},
        {"metadata": {"name": 5, "uid": "u"}},
        {"metadata": {"name": "a", "uid": "u"}, "status": 5},
        {"metadata": {"name": "a", "uid": "u"}, "status": {"conditions": ["Complete"]}},
        {"metadata": {"name": "a", "uid": "u"}, "status": {"conditions": 5}},
        {"metadata": {"name": "a", "uid": "u"}, "status": {"containerStatuses": ["step"]}},
        {
            "metadata": {"name": "a", "uid": "u"},
            "status": {"containerStatuses": [{"state": {"waiting": "x"}}]},
        },
        None,
        "Job",
    ],
)
def test_jobs_and_pods_without_their_parts_are_none(found: Any) -> None:
    assert not is_well_formed(found)


@pytest.mark.parametrize("status", [None, {}, {"conditions": None, "containerStatuses": [{"state": None}]}])
def test_jobs_without_status_are_whole(status: Any) -> None:
    assert is_well_formed({"metadata": {"name": "a", "uid": "u"}, "status": status})


def test_an_answer_that_comes_a_byte_at_a_time_is_not_waited_for(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        while not stop.is_set():
            accepted, _ = listener.accept()
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            try:
                while not stop.wait(0.05):
                    accepted.sendall(b" ")
            except OSError:
                accepted.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    path = tmp_path / "kubeconfig"
    with JobsServer() as server:
        document = yaml.safe_load(server.write_kubeconfig(path).read_text())
    document["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    path.write_text(yaml.safe_dump(document))
    patience = replace(SWIFT, read_s=0.3, unreachable_s=0.5)
    client = open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(path)), patience=patience)
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError):
        client.sight(TRAIN.job)
    assert time.monotonic() - began < 60
    stop.set()
    listener.close()
