"""Which URI opens which store, and what is said about the others."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from components.artifacts.file_store import FileStore
from components.artifacts.object_store import ObjectStore
from components.artifacts.stores import crosscloud_home, local_path, open_store
from components.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    for variable in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("uri", "folder", "uri_of_store"),
    [
        ("state", "home/state", "state"),
        ("sites/aws/", "home/sites/aws", "sites/aws"),
        (".", "home", "."),
        ("{tmp}/elsewhere", "elsewhere", "{tmp}/elsewhere"),
        ("file://{tmp}/else%20where/", "else where", "file://{tmp}/else%20where"),
    ],
)
def test_local_uris(tmp_path: Path, uri: str, folder: str, uri_of_store: str) -> None:
    store = open_store(uri.format(tmp=tmp_path))
    assert isinstance(store, FileStore)
    assert store.uri == uri_of_store.format(tmp=tmp_path)
    assert not (tmp_path / folder).exists()
    store.create("a", b"x")
    assert (tmp_path / folder / "a").read_bytes() == b"x"
    assert local_path(uri.format(tmp=tmp_path)) == tmp_path / folder


def test_home_without_the_variable_is_beside_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("CROSSCLOUD_HOME")
        else:
            monkeypatch.setenv("CROSSCLOUD_HOME", value)
        monkeypatch.chdir(tmp_path)
        assert crosscloud_home() == tmp_path / ".crosscloud"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "is not a store URI"),
        ("../other", r"contains '\.\.'"),
        ("a/../../b", r"contains '\.\.'"),
        ('quo"te', "is not a store URI"),
        ("line\nbreak", "is not a store URI"),
        ("file://relative/path", "names no absolute path"),
        ("http://example.org/x", "no store has the scheme 'http'"),
        ("memory://x", "no store has the scheme 'memory'"),
        ("az://container/x", "no store has the scheme 'az'"),
        ("simplecache::s3://bucket/x", "no store has the scheme 'simplecache'"),
        ("s3:/bucket", "a s3 store is written s3://bucket"),
        ("s3://", "a s3 store is written s3://bucket"),
        ("s3://bucket//x", "a s3 store is written s3://bucket"),
        ("s3://bucket/../x", "a s3 store is written s3://bucket"),
        ("s3://bucket/x?versionId=1", "a s3 store is written s3://bucket"),
        ("abfs://container@elsewhere.example.org/x", "a abfs store is written abfs://bucket"),
    ],
)
def test_uris_without_a_store(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        open_store(uri)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri", ["s3://AKIA:hunter2@bucket/x", "https://me:hunter2@example.org", "s3:/me:hunter2@x"]
)
def test_a_password_in_a_uri_is_not_repeated(uri: str) -> None:
    with pytest.raises(UsageError) as refusal:
        open_store(uri)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "gs://bucket", "abfs://container/prefix"])
def test_local_path_of_a_bucket(uri: str) -> None:
    with pytest.raises(UsageError, match="is not a local folder"):
        local_path(uri)


def test_a_bucket_is_opened_without_being_contacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = open_store("s3://bucket/federations/a/")
    assert isinstance(store, ObjectStore)
    assert store.uri == "s3://bucket/federations/a"


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://bucket", "s3fs", "s3"),
        ("gs://bucket", "gcsfs", "gcs"),
        ("abfs://container@account.dfs.core.windows.net/x", "adlfs", "azure"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, package: str, extra: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=rf"needs the package {package}: pip install 'crosscloud\[{extra}\]'"
    ):
        open_store(uri)


def test_two_accounts_for_one_azure_store_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=other;AccountKey=hunter2")
    with pytest.raises(UsageError, match="AZURE_STORAGE_CONNECTION_STRING names one too") as refusal:
        open_store("abfs://container@account.dfs.core.windows.net/x")
    assert "hunter2" not in str(refusal.value)


def test_an_azure_store_without_an_account_is_refused() -> None:
    with pytest.raises(UsageError, match=r"names no account: write abfs://container@account"):
        open_store("abfs://container/x")
