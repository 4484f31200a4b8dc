"""The stop button: given what is paused, when somebody pauses or resumes, then what is recorded and what is stopped."""

from uuid import UUID

import pytest
from hypothesis import given, strategies

from ledger import operations
from ledger.keys import Identity
from ledger.operations import Operations, OperationsFact, Selector, evolve, fold, pause, resume
from ledger.values import Channel
from tests.unit.ledger.samples import at, origin

NOTHING = operations.empty(Identity(bytes(range(32))))
ONE, TWO = UUID(int=1), UUID(int=2)
EVERYTHING = Selector()


def then(state: Operations, *decided: tuple[OperationsFact, ...]) -> Operations:
    for facts in decided:
        for fact in facts:
            state = evolve(state, fact)
    return state


def paused(*selectors: Selector) -> Operations:
    state = NOTHING
    for number, selector in enumerate(selectors, start=1):
        state = then(state, pause(state, UUID(int=number), selector, "a test", origin(number)))
    return state


def test_at_first_nothing_is_paused_and_the_stream_is_a_standing_one():
    assert NOTHING.version == 0
    assert NOTHING.stream.hex.startswith("f")
    assert NOTHING.stopping("order_shipped", Channel.SMS) is None
    assert not NOTHING.whole_channel(Channel.SMS)


def test_a_pause_says_what_it_stops_who_wanted_it_and_why():
    selector = Selector(type="flash_sale", channel=Channel.SMS, provider="twilio")
    (fact,) = pause(NOTHING, ONE, selector, "wrong price", origin(5))
    assert (fact.pause, fact.reason, fact.by, fact.recorded_at) == (ONE, "wrong price", "test", at(5))
    assert operations.selector_of(fact) == selector


@pytest.mark.parametrize(
    ("selector", "stops"),
    [
        (EVERYTHING, True),
        (Selector(channel=Channel.SMS), True),
        (Selector(type="order_shipped"), True),
        (Selector(type="order_shipped", channel=Channel.SMS), True),
        (Selector(channel=Channel.EMAIL), False),
        (Selector(type="welcome"), False),
        (Selector(type="order_shipped", channel=Channel.EMAIL), False),
        (Selector(provider="twilio"), False),
    ],
)
def test_a_pause_stops_what_has_all_that_it_names(selector: Selector, stops: bool):  # noqa: FBT001 - a table's column
    assert (paused(selector).stopping("order_shipped", Channel.SMS) is not None) is stops


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        (Selector(provider="ses"), {"ses"}),
        (Selector(provider="ses", channel=Channel.EMAIL), {"ses"}),
        (Selector(provider="ses", type="welcome"), {"ses"}),
        (Selector(provider="ses", channel=Channel.SMS), set()),
        (Selector(provider="ses", type="order_shipped"), set()),
        (EVERYTHING, set()),
    ],
)
def test_a_pause_of_a_provider_leaves_the_others(selector: Selector, names: set[str]):
    assert paused(selector).stopped_providers("welcome", Channel.EMAIL) == names
    assert paused(selector).whole_providers(Channel.EMAIL) == (names if selector.type is None else set())


@pytest.mark.parametrize(
    ("selector", "whole"),
    [
        (EVERYTHING, True),
        (Selector(channel=Channel.EMAIL), True),
        (Selector(channel=Channel.SMS), False),
        (Selector(type="welcome"), False),
        (Selector(provider="ses"), False),
    ],
)
def test_only_a_pause_without_type_and_provider_stops_a_whole_channel(selector: Selector, whole: bool):  # noqa: FBT001 - a table's column
    assert paused(selector).whole_channel(Channel.EMAIL) is whole


def test_the_pause_to_be_told_of_is_the_earliest_and_one_of_all_providers_before_one_of_a_single_one():
    state = paused(Selector(provider="ses"), Selector(type="welcome"), EVERYTHING)
    told = state.holding("welcome", Channel.EMAIL)
    assert told is not None
    assert told.type == "welcome"
    (only_ses,) = paused(Selector(provider="ses")).pauses
    assert paused(Selector(provider="ses")).holding("welcome", Channel.EMAIL) == only_ses
    assert state.holding("low_stock", Channel.PUSH) is not None
    assert paused(Selector(type="welcome")).holding("low_stock", Channel.EMAIL) is None


def test_the_same_pause_again_is_no_news_and_another_one_is():
    state = paused(Selector(channel=Channel.SMS))
    assert pause(state, TWO, Selector(channel=Channel.SMS), "again", origin()) == ()
    assert pause(state, TWO, EVERYTHING, "all of it", origin()) != ()


def test_a_resume_ends_its_pause_alone_and_once():
    state = paused(EVERYTHING, Selector(channel=Channel.SMS))
    ended = then(state, resume(state, ONE, "mended", origin(9)))
    assert [known.pause for known in ended.pauses] == [TWO]
    assert ended.ended == {ONE}
    assert resume(ended, ONE, "mended", origin(10)) == ()


def test_what_was_resumed_may_be_paused_again():
    state = paused(EVERYTHING)
    state = then(state, resume(state, ONE, "mended", origin(2)))
    assert then(state, pause(state, TWO, EVERYTHING, "not mended", origin(3))).whole_channel(Channel.PUSH)


def test_what_a_pause_held_back_is_free_since_its_last_end_and_the_rest_was_never_held():
    state = paused(Selector(channel=Channel.SMS), Selector(type="order_shipped"))
    assert state.free_since("order_shipped", Channel.SMS) is None
    state = then(state, resume(state, ONE, "mended", origin(5)), resume(state, TWO, "mended", origin(9)))
    assert state.free_since("order_shipped", Channel.SMS) == at(9)
    assert state.free_since("welcome", Channel.SMS) == at(5)
    assert state.free_since("welcome", Channel.EMAIL) is None


def test_a_fact_that_only_a_newer_release_can_read_stops_everything():
    assert evolve(NOTHING, operations.not_understood(at(0))).whole_channel(Channel.EMAIL)


FACTS: list[OperationsFact] = [
    *pause(NOTHING, ONE, EVERYTHING, "a", origin(1)),
    *pause(NOTHING, TWO, Selector(channel=Channel.SMS), "b", origin(2)),
    *resume(paused(EVERYTHING), ONE, "c", origin(3)),
]


@given(strategies.lists(strategies.integers(0, 3), max_size=8))
def test_what_is_read_in_whatever_overlapping_pieces_is_folded_once_and_in_order(beginnings: list[int]):
    """Two looks at the log that run at the same time read the same facts; whichever comes back first."""
    numbered = list(enumerate(FACTS, start=1))
    state = NOTHING
    for begins in beginnings:
        state = fold(state, numbered[begins:])
    assert fold(state, numbered) == fold(NOTHING, numbered)
