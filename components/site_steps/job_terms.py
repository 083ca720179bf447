"""How a site's steps come to run as Jobs of its own cluster: a compile-time constant of its tasks."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from components.errors import UsageError

MOUNTED_CLUSTERS = Path("/var/run/secrets/crosscloud-clusters")
"""Where a dispatcher finds what opens the sites' clusters, a folder a site."""
KUBECONFIG = "kubeconfig"


@dataclass(frozen=True, kw_only=True)
class JobTerms:
    """Who creates the Jobs of a site, and where.

    Attributes:
        door: `dispatcher` for this process, `agent` for the site's own.
        namespace: of the Jobs.
        accelerator: resource that `augment` and `train` are given, empty for none.
        accelerators: how many of it.
    """

    door: Literal["dispatcher", "agent"]
    namespace: str
    accelerator: str = ""
    accelerators: int = 0

    def to_text(self) -> str:
        """The constant that tasks carry."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> JobTerms:
        """Inverse of `to_text`.

        Raises:
            UsageError: it was made by another version, or by hand.
        """
        try:
            terms = cls(**json.loads(text))
        except (ValueError, TypeError):
            raise UsageError(f"job terms must be what the compiler writes, got {text[:80]!r}") from None
        if terms.door not in {"dispatcher", "agent"} or not terms.namespace:
            raise UsageError(f"job terms must name a door and a namespace, got {text[:80]!r}")
        return terms


def kubeconfig_of(site: str) -> Path:
    """The file that opens a site's cluster: mounted, or below $CROSSCLOUD_CLUSTERS on a person's machine.

    Raises:
        UsageError: it is not there.
    """
    configured = os.environ.get("CROSSCLOUD_CLUSTERS")
    folder = Path(configured) if configured else MOUNTED_CLUSTERS
    path = folder / site / KUBECONFIG
    if not path.is_file():
        raise UsageError(
            f"no kubeconfig for {site} at {path}: placement.kubeconfig_secret names the secret that is "
            "mounted there; on your own machine set CROSSCLOUD_CLUSTERS to a folder with SITE/kubeconfig"
        )
    return path
