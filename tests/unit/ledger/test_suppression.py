"""Who must not be contacted: given what is known of an address, when a report comes, then what is recorded."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hypothesis import given, strategies

from ledger.keys import Identity
from ledger.suppression import (
    Delisted,
    EntryName,
    Grounds,
    Listed,
    Reason,
    Suppression,
    SuppressionFact,
    delist,
    evolve,
    fold,
    list_address,
    nothing,
    start,
    stop,
)
from ledger.values import Category, Channel
from tests.unit.ledger.samples import at, origin

ADDRESS = "ab" * 16
IDENTITY = Identity(bytes(range(32)))
BOUNCED, ATTEMPT = UUID(int=7), UUID(int=8)


def unknown(channel: Channel = Channel.EMAIL) -> Suppression:
    return nothing(IDENTITY, channel, ADDRESS)


def listed(state: Suppression, reason: Reason, *, seconds: float = 0) -> tuple[Listed, ...]:
    return list_address(state, Grounds(reason=reason, notification=BOUNCED, attempt=ATTEMPT), origin(seconds))


def suppressed(*reasons: Reason) -> Suppression:
    state = unknown()
    for second, reason in enumerate(reasons):
        for fact in listed(state, reason, seconds=second):
            state = evolve(state, fact)
    return state


def test_an_address_of_which_nothing_is_known_has_a_stream_all_the_same():
    assert unknown().version == 0
    assert unknown().stream == unknown().stream != unknown(Channel.SMS).stream
    assert unknown().stream.hex.startswith("f")


def test_the_first_report_lists_the_address_with_its_evidence():
    (fact,) = listed(unknown(), Reason.HARD_BOUNCE)
    assert (fact.channel, fact.address_hash, fact.reason) == (Channel.EMAIL, ADDRESS, Reason.HARD_BOUNCE)
    assert (fact.notification, fact.attempt, fact.recorded_at) == (BOUNCED, ATTEMPT, at(0))


def test_the_same_reason_again_is_no_news():
    assert listed(suppressed(Reason.COMPLAINT), Reason.COMPLAINT) == ()


def test_another_reason_is_news():
    every = suppressed(*Reason)
    assert (every.version, set(every.entries)) == (len(Reason), {(reason, None) for reason in Reason})


def test_the_earliest_reason_is_the_one_that_is_told():
    forbidding = suppressed(Reason.COMPLAINT, Reason.HARD_BOUNCE).against(Category.SECURITY, at(9))
    assert forbidding is not None
    assert (forbidding.fact.reason, forbidding.version) == (Reason.COMPLAINT, 1)


@given(strategies.lists(strategies.sampled_from(Reason)))
def test_each_reason_stands_once_whatever_comes_how_often(reasons: list[Reason]):
    state = suppressed(*reasons)
    assert set(state.entries) == {(reason, None) for reason in reasons}
    assert state.version == len(set(reasons))
    assert (state.against(Category.SECURITY, at(9)) is None) == (not reasons)


# -- For a category, for a time --------------------------------------------------------------------------------------


def by_hand(state: Suppression, *, seconds: float = 0, **grounds: Any) -> tuple[Listed, ...]:
    return list_address(state, Grounds(**{"reason": Reason.MANUAL, "note": "she asked", **grounds}), origin(seconds))


def after(state: Suppression, *facts: Sequence[SuppressionFact]) -> Suppression:
    return fold(state, [fact for some in facts for fact in some])


def against(state: Suppression, category: Category, seconds: float = 9) -> Reason | None:
    found = state.against(category, at(seconds))
    return found.fact.reason if found is not None else None


def test_what_is_listed_for_a_category_forbids_that_category_alone():
    state = after(unknown(), by_hand(unknown(), reason=Reason.UNSUBSCRIBE, category=Category.MARKETING))
    assert against(state, Category.MARKETING) is Reason.UNSUBSCRIBE
    assert [against(state, category) for category in Category if category is not Category.MARKETING] == [None] * 3


def test_an_entry_with_an_expiry_forbids_until_then_and_not_at_that_moment():
    state = after(unknown(), by_hand(unknown(), expires_at=at(5)))
    assert against(state, Category.SECURITY, 4.9) is Reason.MANUAL
    assert against(state, Category.SECURITY, 5) is None


def test_the_same_for_another_category_or_for_longer_is_news():
    state = after(unknown(), by_hand(unknown(), expires_at=at(5)))
    assert by_hand(state, expires_at=at(5), note="another word") == ()
    assert len(by_hand(state, expires_at=at(6))) == 1
    assert len(by_hand(state)) == 1
    assert len(by_hand(state, expires_at=at(5), category=Category.MARKETING)) == 1


def test_what_holds_for_longer_is_not_cut_short_by_listing_it_again():
    for_good = after(unknown(), by_hand(unknown(), reason=Reason.LEGAL))
    assert by_hand(for_good, reason=Reason.LEGAL, expires_at=at(5)) == ()
    assert by_hand(after(unknown(), by_hand(unknown(), expires_at=at(6))), expires_at=at(5)) == ()


def test_what_has_expired_and_is_listed_again_is_news():
    state = after(unknown(), by_hand(unknown(), expires_at=at(5)))
    assert by_hand(state, seconds=4, expires_at=at(5)) == ()
    (again,) = by_hand(state, seconds=5, expires_at=at(9))
    assert against(after(state, (again,)), Category.SECURITY, 8) is Reason.MANUAL


# -- Released --------------------------------------------------------------------------------------------------------


def released(state: Suppression, *names: EntryName, seconds: float = 9) -> tuple[Delisted, ...]:
    return delist(state, names, origin(seconds), note="a mistake")


def test_each_entry_is_released_by_its_reason_and_category():
    state = after(suppressed(Reason.MANUAL), by_hand(unknown(), category=Category.MARKETING))
    (fact,) = released(state, (Reason.MANUAL, None))
    assert (fact.reason, fact.category, fact.note, fact.recorded_at) == (Reason.MANUAL, None, "a mistake", at(9))
    left = after(state, (fact,))
    assert set(left.entries) == {(Reason.MANUAL, Category.MARKETING)}
    assert against(left, Category.SECURITY) is None


def test_what_is_not_in_force_cannot_be_released():
    state = after(unknown(), by_hand(unknown(), expires_at=at(5)))
    assert released(state, (Reason.LEGAL, None), (Reason.MANUAL, Category.MARKETING)) == ()
    assert released(state, (Reason.MANUAL, None), seconds=5) == ()
    (fact,) = released(state, (Reason.MANUAL, None), seconds=4)
    assert released(after(state, (fact,)), (Reason.MANUAL, None)) == ()


def test_what_was_released_and_comes_again_is_listed_again():
    state = suppressed(Reason.HARD_BOUNCE)
    state = after(state, released(state, (Reason.HARD_BOUNCE, None)))
    assert against(state, Category.SECURITY) is None
    assert against(after(state, listed(state, Reason.HARD_BOUNCE)), Category.SECURITY) is Reason.HARD_BOUNCE


# -- Answered by SMS -------------------------------------------------------------------------------------------------


def test_stop_forbids_everything_at_once_and_stop_again_is_no_news():
    state = after(unknown(Channel.SMS), stop(unknown(Channel.SMS), origin()))
    assert [against(state, category) for category in Category] == [Reason.STOP] * len(Category)
    assert stop(state, origin(3)) == ()


def test_start_ends_what_stop_has_begun_here_or_at_the_provider_and_nothing_else():
    state = suppressed(*Reason)
    state = after(state, start(state, origin(50)))
    assert {reason for reason, _ in state.entries} == set(Reason) - {Reason.STOP, Reason.OPT_OUT}
    assert start(state, origin(60)) == ()
