"""Every object of a chain is needed as it is: none may be changed, missing or in another place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from tests.components.rounds.verification.chain import SITES, Chain, changed


def test_a_flipped_bit_in_any_object_is_found_where_it_is(chain: Chain) -> None:
    rng = np.random.default_rng(5)
    for path in chain.objects():
        content = bytearray(path.read_bytes())
        place = int(rng.integers(len(content)))
        content[place] ^= 1 << int(rng.integers(7))
        with chain.altered(path):
            path.write_bytes(content)
            assert any(line.startswith(_subject(path)) for line in chain.problems), (path, place)


def test_an_object_that_is_gone_is_found_where_it_was(chain: Chain) -> None:
    newest, in_force = chain.path("4/round.json"), chain.path("keys/charters/00002/charter.json")
    for path in chain.objects():
        with chain.altered(path):
            path.unlink()
            if path == newest:
                # A chain cut off at its end is a chain: whoever took part knows how long it was.
                assert (chain.verified().rounds, chain.problems) == (2, ())
            else:
                subject = "round 4: record: " if path == in_force else _subject(path)
                assert any(line.startswith(subject) for line in chain.problems), path


def test_objects_of_another_round_are_found_in_both(chain: Chain) -> None:
    first, third = chain.path("1/"), chain.path("3/")
    shared = [path.relative_to(first) for path in chain.objects() if path.is_relative_to(first)]
    swapped = [name for name in shared if (third / name).is_file()]
    assert len(swapped) == 16
    for name in swapped:
        with chain.altered(first / name, third / name):
            one, other = (first / name).read_bytes(), (third / name).read_bytes()
            (first / name).write_bytes(other)
            (third / name).write_bytes(one)
            problems = chain.problems
            assert {line.partition(":")[0] for line in problems} >= {"round 1", "round 3"}, name


def _subject(path: Path) -> str:
    parts = path.parts
    if "certificates" in parts:
        return "round "
    if "charters" in parts:
        number = int(parts[parts.index("charters") + 1])
        return f"charter: edition {number}" if path.name == "charter.json" else "charter: edition "
    return f"round {int(parts[parts.index('rounds') + 1])}: "


def test_an_oversized_document_is_not_loaded(chain: Chain) -> None:
    for name in ("1/proof/roster.json", "1/round.json", "2/void.json", "3/proof/commitments/beta.json"):
        with chain.altered(chain.path(name)):
            chain.path(name).write_bytes(b" " * (2**20 + 1))
            assert any("are read" in line for line in chain.problems), name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.text(max_size=5) | st.just("../../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SITES), inner, max_size=3),
    max_leaves=5,
)


SIGNED = [
    ("3/round.json", COORDINATOR),
    ("2/void.json", COORDINATOR),
    ("3/proof/ticket.json", COORDINATOR),
    ("3/proof/roster.json", COORDINATOR),
    ("3/proof/receipt.json", KEY_HOLDER),
    ("3/proof/commitments/beta.json", "beta"),
    ("3/proof/sealed/beta.json", "beta"),
    ("3/proof/released/beta.json", "beta"),
    ("keys/certificates/sealed/00001.json", KEY_HOLDER),
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(SIGNED), st.data())
def test_no_field_of_any_document_may_be_anything_else(
    chain: Chain, document: tuple[str, str], data: st.DataObject
) -> None:
    name, owner = document
    body = chain.body(name)
    field = data.draw(st.sampled_from(sorted(body)))
    value = data.draw(JSON.filter(lambda value: value != body[field]))
    # Nobody but the coordinator's own log needs these.
    free = {"3/round.json": {"committed_at"}, "2/void.json": {"reason", "ticket"}}.get(name, {"locked"})
    with chain.altered(chain.path(name)):
        chain.sign(name, changed(**{field: value}), owner)
        assert chain.problems or field in free
