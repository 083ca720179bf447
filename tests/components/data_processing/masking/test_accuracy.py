from __future__ import annotations

from collections import Counter

import pytest

from components.data_processing.masking.matching import find_matches
from tests.components.data_processing.masking.sentences import DEVELOPMENT, HELD_OUT, Family
from tests.components.data_processing.masking.synthetic_texts import LabelledText, labelled_texts

KINDS = ("card", "iban", "email", "phone", "ssn", "ip")
LEAST = 0.95


def scores(texts: list[LabelledText]) -> dict[str, tuple[float, float, int]]:
    """Precision, recall and number of values by kind; a value counts as found only if masked as a whole."""
    found, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for labelled in texts:
        matches = find_matches(labelled.text)
        for start, end, kind in labelled.values:
            whole = any(m.start <= start and end <= m.end and m.kind == kind for m in matches)
            (found if whole else missed)[kind] += 1
        for match in matches:
            touched = [k for start, end, k in labelled.values if match.start < end and start < match.end]
            false[match.kind] += match.kind not in touched
    return {
        kind: (
            found[kind] / (found[kind] + false[kind]),
            found[kind] / (found[kind] + missed[kind]),
            found[kind] + missed[kind],
        )
        for kind in KINDS
    }


@pytest.mark.parametrize(
    ("family", "seed"), [(HELD_OUT, 20261128), (DEVELOPMENT, 1)], ids=["held-out", "development"]
)
def test_precision_and_recall_of_each_kind(family: Family, seed: int) -> None:
    texts = labelled_texts(family, seed=seed, number=500)
    assert sum(not labelled.values for labelled in texts) == 250
    measured = scores(texts)
    table = "\n".join(
        f"{kind:6} precision {precision:.3f} recall {recall:.3f} ({values} values)"
        for kind, (precision, recall, values) in measured.items()
    )
    print(f"\n{table}")  # noqa: T201
    assert min(values for _, _, values in measured.values()) >= 20
    assert min(min(precision, recall) for precision, recall, _ in measured.values()) >= LEAST, table


def test_the_families_share_no_sentence() -> None:
    development = {*DEVELOPMENT.sensitive, *DEVELOPMENT.harmless}
    assert not development & {*HELD_OUT.sensitive, *HELD_OUT.harmless}
