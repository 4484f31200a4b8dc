import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import Comparison, Link

# As a week is: positions of others in between, links of many sizes.
FACTS = {position: hashlib.sha256(position.to_bytes(8)).digest() for position in range(3, 90, 3)}
SIZES = (1, 7, 2, 19)


def sealed() -> list[Link]:
    links: list[Link] = []
    positions = iter(FACTS)
    for size in SIZES:
        part = [next(positions) for _ in range(size)]
        previous = links[-1].hash if links else b""
        links.append(Link(part[-1], size, hashlib.sha256(previous + b"".join(FACTS[one] for one in part)).digest()))
    return links


@given(order=st.permutations(list(FACTS)), cut=st.integers(0, len(FACTS)))
def test_what_was_sealed_is_equal_in_whatever_order_it_comes(order: list[int], cut: int):
    comparison = Comparison(sealed())
    for part in (order[:cut], order[cut:]):
        assert not comparison.is_equal or not part
        comparison.add({position: FACTS[position] for position in part})
    assert comparison.is_equal


@pytest.mark.parametrize(
    "other",
    [
        {position: digest for position, digest in FACTS.items() if position != 30},
        FACTS | {30: FACTS[33]},
        FACTS | {30: FACTS[33], 33: FACTS[30]},
        FACTS | {31: FACTS[30]},
        FACTS | {1: FACTS[30]},
        FACTS | {max(FACTS) + 1: FACTS[30]},
        {},
    ],
    ids=["missing", "altered", "exchanged", "one more", "one more before", "one more behind", "none"],
)
def test_one_fact_that_is_missing_altered_or_too_many_is_not_equal(other: dict[int, bytes]):
    shuffled = list(other.items())
    random.shuffle(shuffled)
    comparison = Comparison(sealed())
    for position, digest in shuffled:
        comparison.add({position: digest})
    assert not comparison.is_equal


def test_a_week_without_facts_is_equal_to_no_chain():
    assert Comparison([]).is_equal
    extra = Comparison([])
    extra.add({1: b""})
    assert not extra.is_equal
