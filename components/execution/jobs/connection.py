"""The official client, opened by a kubeconfig or by the cluster that this process runs in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from components.errors import UsageError

if TYPE_CHECKING:
    from kubernetes import client

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_IDENTITIES = {
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
}
_FILES = {"tokenFile", "client-certificate", "client-key", "certificate-authority"}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def connect(kubeconfig: str) -> client.ApiClient:
    """A client of the cluster that `kubeconfig` opens, or of this process's own; nothing is sent yet.

    Raises:
        UsageError: the client is not installed, or the kubeconfig opens nothing, or not safely.
    """
    try:
        from kubernetes import client
    except ImportError:
        raise UsageError("running steps as Jobs needs a client: pip install 'crosscloud[jobs]'") from None
    configuration = client.Configuration()
    if kubeconfig:
        _configure(configuration, Path(kubeconfig))
    else:
        _configure_in_cluster(configuration, SERVICE_ACCOUNT)
    configuration.debug = False
    # Requests are repeated by those who know what may be repeated, and no answer leads elsewhere.
    configuration.retries = False
    configuration.connection_pool_maxsize = 2
    opened = client.ApiClient(configuration)
    opened.user_agent = "crosscloud-dispatcher"
    return opened


def _configure(configuration: client.Configuration, path: Path) -> None:
    from kubernetes import config

    cluster, user = _read_kubeconfig(path)
    _check_server(str(cluster.get("server", "")), path)
    _check_identity(user, path)
    _check_files({**cluster, **user}, path)
    if cluster.get("insecure-skip-tls-verify"):
        raise UsageError(
            f"{path}: insecure-skip-tls-verify would give the token to anybody; name certificate-authority"
        )
    try:
        config.load_kube_config(
            config_file=str(path), client_configuration=configuration, persist_config=False
        )
    except Exception as error:
        # Whatever the loader stumbles over may be quoted in its message, a token too.
        raise UsageError(f"{path}: not a kubeconfig that can be used ({type(error).__name__})") from None
    configuration.proxy = cluster.get("proxy-url")
    if user.get("tokenFile"):
        _follow_token(configuration, path.parent / str(user["tokenFile"]))


def _configure_in_cluster(configuration: client.Configuration, account: Path) -> None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not (host and port and (account / "token").is_file()):
        raise UsageError(
            "no kubeconfig was named and this process runs in no cluster: give the pod a service account "
            "with automountServiceAccountToken, or name a kubeconfig"
        )
    configuration.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    configuration.ssl_ca_cert = str(account / "ca.crt")
    configuration.proxy = None
    _follow_token(configuration, account / "token")


def _follow_token(configuration: client.Configuration, path: Path) -> None:
    """Has the token read for every request: it is replaced while a step runs.

    The client's own loader reads `tokenFile` once, with the end of its line.
    """

    def refresh(of: Any) -> None:
        token = path.read_text().strip()
        of.api_key["authorization"] = f"Bearer {token}"

    # Without some key the client does not come to ask for a fresh one.
    configuration.api_key["authorization"] = "Bearer"
    configuration.refresh_api_key_hook = refresh


def _read_kubeconfig(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cluster and user of the current context."""
    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError):
        raise UsageError(
            f"{path}: a kubeconfig needs a current-context whose cluster and user it has"
        ) from None
    if not isinstance(cluster, dict) or not isinstance(user, dict):
        raise UsageError(f"{path}: cluster and user of the current context must be mappings")
    return cluster, user


def _named(sections: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found: Callable[[dict[str, Any]], bool] = lambda section: section["name"] == name  # noqa: E731
    return next(filter(found, sections), {})


def _check_identity(user: dict[str, Any], path: Path) -> None:
    """Refuses what would run a program that the site has chosen beside the coordinator's key."""
    strange = sorted(map(str, user.keys() - _IDENTITIES))
    if strange:
        raise UsageError(
            f"{path}: the user must have a token, a tokenFile or a client certificate, got "
            f"{strange[0][:40]!r}: a token of the site's account crosscloud-dispatcher does"
        )


def _check_files(sections: dict[str, Any], path: Path) -> None:
    """Refuses files beyond the kubeconfig's own folder: their content would go to the site's API server."""
    for name in _FILES & sections.keys():
        file = Path(str(sections[name]))
        if file.is_absolute() or ".." in file.parts:
            raise UsageError(f"{path}: {name} must lie beside the kubeconfig, got {str(file)[:80]!r}")


def _check_server(server: str, path: Path) -> None:
    """Refuses a server to which a token would travel readably."""
    try:
        parts = urlsplit(server)
        host, user = parts.hostname, parts.username
    except ValueError:
        host, user, parts = None, None, urlsplit("")
    if not host or parts.scheme not in {"http", "https"}:
        raise UsageError(f"{path}: server must be an https:// address")
    if user is not None:
        raise UsageError(f"{path}: server must not hold a password; use a token or a certificate")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise UsageError(f"{path}: server must be https://, or the token could be read on its way")
