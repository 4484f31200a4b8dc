"""Who must not be contacted: given what is known of an address, when a report comes, then what is recorded."""

from uuid import UUID

from hypothesis import given, strategies

from ledger.keys import Identity
from ledger.suppression import Listed, Reason, Suppression, evolve, list_address, stream_of
from ledger.values import Category, Channel
from tests.unit.ledger.samples import at, origin

ADDRESS = "ab" * 16
IDENTITY = Identity(bytes(range(32)))
BOUNCED, ATTEMPT = UUID(int=7), UUID(int=8)


def unknown(channel: Channel = Channel.EMAIL) -> Suppression:
    return Suppression(stream=stream_of(IDENTITY, channel, ADDRESS), channel=channel, address_hash=ADDRESS)


def listed(state: Suppression, reason: Reason, *, seconds: float = 0) -> tuple[Listed, ...]:
    return list_address(state, reason, origin(seconds), notification=BOUNCED, attempt=ATTEMPT)


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
