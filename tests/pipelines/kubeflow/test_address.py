"""Endpoints from options and from Kubeflow's usual environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.kubeflow.address import Address, find_address, require_address

HOST = "https://kubeflow.example.com"


def test_an_option_goes_before_the_environment() -> None:
    environment = {"KF_PIPELINES_ENDPOINT": f"{HOST}/pipeline/"}
    found = find_address(environment=environment)
    assert found == Address(url=f"{HOST}/pipeline", pages_url=f"{HOST}/pipeline")
    assert find_address(endpoint="other.example.com", environment=environment) == Address(
        url="https://other.example.com", pages_url="https://other.example.com"
    )


def test_without_either_there_is_none() -> None:
    assert find_address(environment={}) is None
    with pytest.raises(UsageError, match="no Kubeflow endpoint is named: name one with --endpoint or in KF_"):
        require_address(None)


def test_pages_may_lie_elsewhere() -> None:
    environment = {"KF_PIPELINES_UI_ENDPOINT": "https://pages.example.com"}
    found = require_address(find_address(endpoint=HOST, environment=environment))
    assert found.run_page("1") == "https://pages.example.com/#/runs/details/1"


def test_the_token_is_a_file_of_the_option_or_of_the_environment(tmp_path: Path) -> None:
    mounted, named = tmp_path / "mounted", tmp_path / "named"
    for file in (mounted, named):
        file.write_text("token")
    environment = {"KF_PIPELINES_SA_TOKEN_PATH": str(mounted)}
    assert require_address(find_address(endpoint=HOST, environment=environment)).token_file == mounted
    found = find_address(endpoint=HOST, token_file=named, environment=environment)
    assert require_address(found).token_file == named


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://a.example.com", "--endpoint must be an http or https address, got 'ftp://a.example.com'"),
        ("https://", "--endpoint must be an http or https address"),
        ("https://a.example.com:port", "--endpoint must be an http or https address"),
        ("https://a b.example.com", "--endpoint must be an http or https address"),
        ("https://user:hunter2@a.example.com", "--endpoint must be an address alone, without a user"),
        ("https://a.example.com?token=hunter2", "--endpoint must be an address alone, without a user"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(url: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_address(endpoint=url, environment={})
    assert str(caught.value).startswith(complaint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://ml-pipeline.kubeflow.svc:8888",
        "http://ml-pipeline",
    ],
)
def test_a_token_is_shown_without_tls_only_where_nobody_listens(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    assert require_address(find_address(endpoint=url, token_file=token, environment={})).url == url
    with pytest.raises(UsageError, match=r"^a token is not sent to http://10\.0\.0\.7 without TLS: "):
        find_address(endpoint="http://10.0.0.7", token_file=token, environment={})
    with pytest.raises(UsageError, match="without TLS"):
        find_address(endpoint="http://kubeflow.example.com", token_file=token, environment={})


def test_two_ways_to_say_who_asks_are_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    environment = {"KF_PIPELINES_IAP_OAUTH2_CLIENT_ID": "client"}
    with pytest.raises(UsageError, match="are two ways to say who asks"):
        find_address(endpoint=HOST, token_file=token, environment=environment)


def test_files_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--token-file: there is no file"):
        find_address(endpoint=HOST, token_file=tmp_path / "none", environment={})
    with pytest.raises(UsageError, match="--ca-file: there is no file"):
        find_address(endpoint=HOST, ca_file=tmp_path / "none", environment={})
