"""Container images of the trust roles, pinned to the version of this package."""

from __future__ import annotations

VERSION = "0.1.0"

SITE = f"crosscloud-python-site:{VERSION}"
AGGREGATOR = f"crosscloud-python-aggregator:{VERSION}"
KEY_HOLDER = f"crosscloud-python-key-holder:{VERSION}"
COMPARISON = f"crosscloud-python-comparison:{VERSION}"

USER = 10001
"""Numeric user and group that every image runs as, so that Kubernetes can tell it is not root."""
