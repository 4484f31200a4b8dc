"""What may be sent again, and what is asked for then."""

from datetime import timedelta

import pytest

from ledger import notification as n
from ledger.values import Accepted, Category, Channel, DoubtPolicy, Fallback, Lane, Personal, Refused, ReportKind
from tests.unit.ledger.samples import (
    STREAM,
    at,
    given,
    in_doubt,
    origin,
    reported,
    requested,
    sending,
    settled,
    then,
    told,
)

DAY = 86_400
SMS = Fallback(Channel.SMS, timedelta(hours=1))


def taken() -> n.State:
    return settled(sending(), Accepted("ref-1"))


def again(state: n.State, seconds: float, **changes: Lane) -> n.Requested:
    personal = Personal("ada@example.com", "Ada", {"order": "A-17"}, "+15005550001")
    return n.request_again(state.requested, STREAM, personal, origin(seconds), **changes)


@pytest.mark.parametrize(
    "state",
    [
        taken(),
        reported(taken(), told(ReportKind.OPENED)),
        reported(taken(), told(ReportKind.BOUNCED)),
        settled(sending(), Refused("bad_address")),
        then(given(requested()), n.cancel(given(requested()), "not wanted", origin())),
        then(given(requested()), n.suppress(given(requested()), ("opted_out", "p", {}), origin())),
        then(given(requested()), n.overdue(given(requested()), origin(DAY))),
    ],
    ids=["dispatched", "opened", "bounced", "refused", "cancelled", "suppressed", "expired"],
)
def test_what_has_come_to_its_end_may_be_sent_again_however_it_ended(state: n.State):
    assert n.why_not_again(state, at(DAY)) is None


@pytest.mark.parametrize(
    "state",
    [
        given(requested()),
        sending(),
        in_doubt(),
        settled(sending(fallback=SMS), Accepted("ref-1")),
        in_doubt(doubt=DoubtPolicy.HOLD),
    ],
    ids=["not-sent", "being-sent", "in-doubt", "may-fall-back", "doubt-not-over"],
)
def test_what_is_still_on_its_way_is_not_sent_again(state: n.State):
    assert n.why_not_again(state, at(2)) is n.WhyNot.STILL_TO_COME


def test_what_is_held_is_released_and_not_sent_again():
    assert n.why_not_again(in_doubt(doubt=DoubtPolicy.HOLD), at(DAY - 1)) is n.WhyNot.HELD


def test_a_security_message_is_sent_again_for_as_long_as_what_it_says_is_good_and_no_longer():
    state = settled(sending(category=Category.SECURITY, expires_at=at(600)), Accepted("ref-1"))
    assert n.why_not_again(state, at(599)) is None
    assert again(state, 599).expires_at == at(600)
    assert n.why_not_again(state, at(600)) is n.WhyNot.OUTLIVED


def test_what_never_had_words_is_not_sent_again():
    asked = given(requested(template_version=""))
    state = then(asked, n.suppress(asked, ("no_template", "p", {}), origin()))
    assert n.why_not_again(state, at(1)) is n.WhyNot.NO_WORDS


def test_it_says_the_same_in_the_same_words_to_the_same_person_by_the_same_channel_and_by_no_other():
    asked = requested(fallback=SMS, message_id="m-1", references={"order": "A-17"})
    resend = again(given(asked), 7)
    same = ("type", "channel", "template", "template_version", "locale", "recipient", "message_id", "references")
    assert [getattr(resend, name) for name in same] == [getattr(asked, name) for name in same]
    assert resend.personal == Personal("ada@example.com", "Ada", {"order": "A-17"})
    assert (resend.resend_of, resend.cause, resend.fallback) == (STREAM, f"resend:{STREAM}", None)


def test_it_is_of_use_for_as_long_as_the_first_was_counted_from_now():
    scheduled = given(requested(send_at=at(100), expires_at=at(400)))
    resend = again(scheduled, 5_000)
    assert (resend.send_at, resend.expires_at) == (None, at(5_300))


def test_a_lane_that_is_given_takes_the_place_of_its_own():
    assert again(given(requested(lane=Lane.URGENT)), 1, lane=Lane.HIGH).lane is Lane.HIGH
    assert again(given(requested(lane=Lane.URGENT)), 1).lane is Lane.URGENT


def test_that_it_was_sent_again_changes_nothing_of_how_it_stands():
    fact = n.SentAgain(**origin(9).stamp(), to=STREAM, reason="she has called")
    for state in (taken(), settled(sending(), Refused("bad_address"))):
        after = then(state, (fact,))
        assert (after.status, n.next_due(after), after.resends) == (state.status, n.next_due(state), (fact,))
