from __future__ import annotations

from tests.components.agreement.conftest import exchange, home

__all__ = ["exchange", "home"]
