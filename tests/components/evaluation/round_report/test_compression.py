"""A head on more features: what a projection has spared is reckoned with it."""

from __future__ import annotations

import pytest

from components.agreement.released_sum import shapes_of
from components.evaluation.round_report.compression import widened
from components.training import heads


@pytest.mark.parametrize(("hidden_units", "skip"), [(0, False), (5, False), (5, True)], ids=str)
def test_a_widened_head_is_the_one_on_so_many_features(hidden_units: int, skip: bool) -> None:
    narrow, wide = (shapes_of(heads.initial(each, hidden_units, 4, 1, skip)) for each in (6, 11))
    assert widened(narrow, 11) == wide
    assert widened(narrow, 6) == narrow
