"""Following a run whose endpoint comes and goes."""

from __future__ import annotations

import pytest

from pipelines.kubeflow.following import follow
from pipelines.kubeflow.refusals import EndpointDeniedError, EndpointUnreachableError
from tests.pipelines.kubeflow.conftest import Submitter
from tests.pipelines.kubeflow.pipelines_api.faults import Fault
from tests.pipelines.kubeflow.test_standing import NIGHTS, Scene

GET = "GET /runs/ID"


class Watch:
    """A clock that goes on while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def running(submitter: Submitter) -> tuple[Scene, str]:
    scene = Scene(submitter)
    return scene, scene.kept.fire(scene.scheduled(), NIGHTS[0])["run_id"]


def test_an_endpoint_that_is_away_for_a_while_is_waited_for(running: tuple[Scene, str]) -> None:
    scene, run_id = running
    scene.submitter.server.faults.add(GET, Fault(status=503), times=30)
    scene.submitter.server.story.append({"state": "SUCCEEDED"})
    watch = Watch()
    ended = follow(scene.endpoint, run_id, {}, print, poll_s=10, sleep=watch.sleep, clock=watch.clock)
    assert ended.state == "SUCCEEDED"
    # Three attempts a look: ten looks without an answer.
    assert watch.now == 100


def test_an_endpoint_that_stays_away_ends_the_waiting_not_the_run(running: tuple[Scene, str]) -> None:
    scene, run_id = running
    scene.submitter.server.faults.always = Fault(status=503)
    watch = Watch()
    with pytest.raises(EndpointUnreachableError, match=r"the run goes on$"):
        follow(scene.endpoint, run_id, {}, print, poll_s=60, sleep=watch.sleep, clock=watch.clock)
    assert watch.now == 600


def test_a_token_that_has_expired_ends_the_waiting(running: tuple[Scene, str]) -> None:
    scene, run_id = running
    scene.submitter.server.tokens = {"another"}
    with pytest.raises(EndpointDeniedError, match=r"; the run goes on$"):
        follow(scene.endpoint, run_id, {}, print)
