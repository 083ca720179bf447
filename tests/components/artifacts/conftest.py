"""The contract suite's assertions are rewritten by pytest like those of the tests that inherit it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.contracts.conditional_create")
