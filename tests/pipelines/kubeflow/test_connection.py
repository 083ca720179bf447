"""What an endpoint answers, and what is made of it: always one line, with the mend."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.kubeflow.address import Address
from pipelines.kubeflow.connection import MOST_PAGES, PAGE, connect
from pipelines.kubeflow.refusals import (
    EndpointDeniedError,
    EndpointUnreachableError,
    ForeignEndpointError,
    RefusedRequestError,
)
from pipelines.kubeflow.transport import Patience
from tests.jobs_api.serving import serving_certificates
from tests.pipelines.kubeflow.conftest import HURRIED
from tests.pipelines.kubeflow.pipelines_api.faults import Fault
from tests.pipelines.kubeflow.pipelines_api.server import PipelinesServer

LOGIN_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>hunter2</body></html>"
HEALTH = "GET /healthz"


def address(server: PipelinesServer, **terms: object) -> Address:
    return Address(url=server.url, pages_url=server.url, **terms)  # type: ignore[arg-type]


def refused(server: PipelinesServer, *, patience: Patience = HURRIED, **terms: object) -> UsageError:
    """The error of a connection that does not come about."""
    with pytest.raises(UsageError) as caught:
        connect(address(server, **terms), patience=patience)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_server_that_is_well_is_connected_to(server: PipelinesServer) -> None:
    endpoint = connect(address(server), patience=HURRIED)
    assert (endpoint.many_users, endpoint.namespace) == (False, "")


def test_a_path_before_the_api_is_kept() -> None:
    with PipelinesServer(path="/pipeline") as server:
        assert server.url.endswith("/pipeline")
        connect(address(server), patience=HURRIED)
        assert server.faults.count(HEALTH) > 0


def test_an_unknown_token_is_told_without_the_token(server: PipelinesServer, tmp_path: Path) -> None:
    server.tokens = {"the right one"}
    token = tmp_path / "token"
    token.write_text("hunter2\n")
    error = refused(server, token_file=token)
    assert isinstance(error, EndpointDeniedError)
    assert str(error) == (
        f"{server.url} does not know us (401): name a file that holds a token for it, one that has not "
        "expired, with --token-file"
    )


def test_a_right_that_is_missing_is_told_with_what_the_server_says(server: PipelinesServer) -> None:
    server.faults.always = Fault(status=403, body=b'{"code": 7, "message": "User alice may not list runs"}')
    error = refused(server)
    assert isinstance(error, EndpointDeniedError)
    assert "(403: User alice may not list runs): ask its administrator" in str(error)


def test_a_rotated_token_is_taken_up(server: PipelinesServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.tokens = {"first"}
    endpoint = connect(address(server, token_file=token), patience=HURRIED)
    server.tokens = {"second"}
    with pytest.raises(EndpointDeniedError):
        endpoint.ask(endpoint.client.list_runs)
    token.write_text("second\n")
    endpoint.ask(endpoint.client.list_runs)
    assert {each.token for each in server.faults.requests} == {"first", "second"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must hold one token and nothing else"),
        (b"two tokens\n", "must hold one token and nothing else"),
        (b"a\r\nX-Header: b", "must hold one token and nothing else"),
        ("tökén".encode(), "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_file_without_a_token_is_told(
    server: PipelinesServer, tmp_path: Path, content: bytes, complaint: str
) -> None:
    token = tmp_path / "token"
    token.write_bytes(content)
    assert complaint in str(refused(server, token_file=token))
    assert server.faults.requests == []


def test_a_server_that_is_down_is_told(server: PipelinesServer) -> None:
    server.stop()
    error = refused(server)
    assert isinstance(error, EndpointUnreachableError)
    assert str(error) == (
        f"{server.url} cannot be reached (connection refused): see that the server runs, or name another "
        "--endpoint"
    )


def test_a_name_that_nobody_has_is_told() -> None:
    with pytest.raises(EndpointUnreachableError, match="cannot be reached"):
        connect(Address(url="http://nobody.invalid", pages_url="http://nobody.invalid"), patience=HURRIED)


def test_a_server_that_says_nothing_is_waited_for_a_while(server: PipelinesServer) -> None:
    server.faults.always = Fault(silence_s=2.0)
    error = refused(server, patience=replace(HURRIED, read_s=0.5))
    assert str(error) == f"{server.url} does not answer within 0.5 s"
    assert server.faults.count(HEALTH) == 3


def test_a_server_that_takes_no_connection_is_waited_for_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        patience = replace(HURRIED, connect_s=0.5, read_s=0.5)
        with pytest.raises(EndpointUnreachableError, match=r"not be reached within 0\.5 s|does not answer"):
            connect(Address(url=f"http://127.0.0.1:{port}", pages_url=""), patience=patience)
        for each in waiting:
            each.close()


def test_what_only_reads_is_repeated(server: PipelinesServer) -> None:
    server.faults.add(HEALTH, Fault(), times=1)
    server.faults.add(HEALTH, Fault(status=503, body=b"upstream is busy"), times=1)
    connect(address(server), patience=HURRIED)
    assert server.faults.count(HEALTH) == 4


def test_a_server_that_stays_busy_is_told(server: PipelinesServer) -> None:
    server.faults.always = Fault(status=503, body=b'{"message": "no healthy upstream"}')
    assert str(refused(server)) == (
        f"{server.url} cannot answer now (503: no healthy upstream): ask again later"
    )


def test_what_makes_something_is_asked_once(server: PipelinesServer) -> None:
    endpoint = connect(address(server), patience=HURRIED)
    server.faults.add("POST /experiments", Fault(done=True))
    body = {"display_name": "small"}
    with pytest.raises(EndpointUnreachableError, match="it may have been done: look before you ask again"):
        endpoint.ask(
            lambda: endpoint.client.experiments.experiment_service_create_experiment(experiment=body)
        )
    assert server.faults.count("POST /experiments") == 1
    assert len(server.objects.experiments) == 1


def test_a_login_page_is_told(server: PipelinesServer) -> None:
    server.faults.always = Fault(status=200, body=LOGIN_PAGE, kind="text/html")
    error = refused(server)
    assert isinstance(error, ForeignEndpointError)
    assert str(error) == (
        f"{server.url} answers with a web page where JSON was asked for: a login page stands before it: name "
        "a file that holds a token for it with --token-file"
    )


def test_a_redirect_to_a_login_page_is_not_followed(server: PipelinesServer) -> None:
    server.faults.always = Fault(status=302, location="https://dex.example.com/auth?state=hunter2")
    error = refused(server)
    assert isinstance(error, ForeignEndpointError)
    assert str(error).startswith(f"{server.url} sends us to dex.example.com: a login page stands before it")
    assert "hunter2" not in str(error)


def test_a_wrong_path_is_told(server: PipelinesServer) -> None:
    server.faults.always = Fault(status=404, body=b"404 page not found", kind="text/plain")
    assert str(refused(server)).startswith(
        f"{server.url} has no Kubeflow Pipelines API (404): see that --end"
    )


def test_an_older_server_is_told() -> None:
    with PipelinesServer(path="/other") as server:
        url = server.url.removesuffix("/other")
        with pytest.raises(ForeignEndpointError, match="only an API before v2beta1"):
            connect(Address(url=url, pages_url=url), patience=HURRIED)


@pytest.mark.parametrize("body", [b"[]", b"true", b"", b'{"multi_user": ', b"[" * 100_000])
def test_an_answer_that_is_no_object_is_told(server: PipelinesServer, body: bytes) -> None:
    server.faults.always = Fault(status=200, body=body)
    assert "answers with something that is no JSON object" in str(refused(server))


def test_an_object_of_another_form_is_told(server: PipelinesServer) -> None:
    endpoint = connect(address(server), patience=HURRIED)
    server.faults.always = Fault(status=200, body=b'{"runs": [{"state": 7, "created_at": "yesterday"}]}')
    with pytest.raises(ForeignEndpointError, match="answers in a form this version does not know"):
        endpoint.ask(endpoint.client.list_runs)


def test_the_servers_own_error_is_told_in_one_short_line(server: PipelinesServer) -> None:
    body = (
        b'{"error": "x", "code": 3, "message": "InvalidInputError: \\u001b[31mfirst\\nsecond'
        + b"!" * 999
        + b'"}'
    )
    endpoint = connect(address(server), patience=HURRIED)
    server.faults.always = Fault(status=400, body=body)
    with pytest.raises(RefusedRequestError) as caught:
        endpoint.ask(endpoint.client.list_runs)
    text = str(caught.value)
    assert text.startswith(
        f"{server.url} refuses the request (400): InvalidInputError: \\x1b[31mfirst second!!"
    )
    assert len(text) < 400


def test_tls_is_verified_and_an_own_authority_can_be_named(tmp_path: Path) -> None:
    made = serving_certificates()
    authority, other = tmp_path / "authority.pem", tmp_path / "other.pem"
    authority.write_bytes(made.authority)
    other.write_bytes(serving_certificates().authority)
    with PipelinesServer(tls=made.context) as server:
        connect(address(server, ca_file=authority), patience=HURRIED)
        asked = server.faults.count(HEALTH)
        mend = f"{server.url} is not trusted: name the authority that signed its certificate with --ca-file"
        assert str(refused(server)) == mend
        assert str(refused(server, ca_file=other)).endswith(mend.partition(": ")[2])
        localhost = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(UsageError, match="is not trusted: its certificate is for another name"):
            connect(Address(url=localhost, pages_url="", ca_file=authority), patience=HURRIED)
        assert server.faults.count(HEALTH) == asked


def test_a_server_without_tls_is_told(server: PipelinesServer) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(UsageError, match=r"speak TLS: within your own cluster use http://"):
        connect(Address(url=url, pages_url=url), patience=HURRIED)


def test_a_file_without_authorities_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with PipelinesServer(tls=serving_certificates().context) as server:
        assert "--ca-file" in str(refused(server, ca_file=empty))


def test_an_installation_for_many_users_asks_for_a_namespace(server: PipelinesServer) -> None:
    server.objects.many_users = True
    assert str(refused(server)).endswith("name the namespace of your profile with --namespace")
    assert connect(address(server, namespace="kubeflow"), patience=HURRIED).namespace == "kubeflow"
    assert connect(address(server, namespace="bank"), patience=HURRIED).namespace == "bank"


def test_a_namespace_means_nothing_to_one_user(server: PipelinesServer) -> None:
    assert "is an installation for one user" in str(refused(server, namespace="bank"))


def test_the_users_own_context_is_not_written(server: PipelinesServer, tmp_path: Path) -> None:
    server.objects.many_users = True
    connect(address(server, namespace="bank"), patience=HURRIED)
    assert not (tmp_path / "nobody").exists()


def test_a_list_is_read_page_by_page(server: PipelinesServer) -> None:
    for number in range(2 * PAGE + 1):
        server.objects.create_experiment({"display_name": f"experiment {number}"})
    endpoint = connect(address(server), patience=HURRIED)
    found = endpoint.pages(endpoint.client.list_experiments, "experiments")
    assert len({each.experiment_id for each in found}) == 2 * PAGE + 1
    assert server.faults.count("GET /experiments") == 3


def test_a_list_without_end_is_refused(server: PipelinesServer) -> None:
    endpoint = connect(address(server), patience=HURRIED)
    server.faults.always = Fault(status=200, body=b'{"experiments": [], "next_page_token": "again"}')
    with pytest.raises(UsageError, match="lists more than 10,000 experiments"):
        list(endpoint.pages(endpoint.client.list_experiments, "experiments"))
    assert server.faults.count("GET /experiments") == MOST_PAGES
