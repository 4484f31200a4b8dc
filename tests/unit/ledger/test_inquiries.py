"""An SMS of which nothing is heard: when its provider is asked, what an answer changes, and when we stop asking."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, Answer, Channel, Fallback, InDoubt, Lane, ReportKind
from tests.unit.ledger.samples import (
    FIRST,
    SECOND,
    at,
    intent,
    origin,
    reported,
    sending,
    settled,
    then,
    told,
    types,
)

HOUR = 3_600
SENT = Answer("sent", told(ReportKind.DISPATCHED, "sent", seconds=None))
DELIVERED = Answer("delivered", told(ReportKind.DELIVERED, "delivered", seconds=None))
UNDELIVERED = Answer("undelivered", told(ReportKind.BOUNCED, "undelivered", seconds=None))


def silent(**changes: Any) -> n.State:
    """An SMS that was taken at second 0, and nothing since."""
    return settled(sending(**{"channel": Channel.SMS, "expires_at": at(60), **changes}), Accepted("ref-1"), seconds=0)


def asked(state: n.State, answer: Answer = SENT, *, hours: float, attempt: UUID = FIRST) -> n.State:
    return then(state, n.inquired(state, attempt, answer, origin(hours * HOUR)))


def due_in_hours(state: n.State) -> float | None:
    due = n.next_due(state)
    return None if due is None else (due.at - at(0)) / timedelta(hours=1)


def test_an_sms_that_nobody_reports_on_is_asked_for_after_an_hour_when_nothing_else_waits():
    state = silent()
    assert n.next_due(state) == n.Due(at(HOUR), Channel.SMS, Lane.LOW)
    assert n.to_inquire(state, at(HOUR - 1)) is None
    attempt = n.to_inquire(state, at(HOUR))
    assert attempt is not None
    assert attempt.id == FIRST


@pytest.mark.parametrize("channel", [Channel.EMAIL, Channel.PUSH])
def test_other_channels_are_not_asked_about(channel: Channel):
    assert n.next_due(silent(channel=channel)) is None


@pytest.mark.parametrize(
    "kind", [ReportKind.DELIVERED, ReportKind.BOUNCED, ReportKind.REJECTED, ReportKind.OPENED, ReportKind.COMPLAINED]
)
def test_what_was_reported_on_is_not_asked_for(kind: ReportKind):
    state = reported(silent(), told(kind))
    assert n.next_due(state) is None
    assert n.to_inquire(state, at(48 * HOUR)) is None


def test_a_report_that_it_is_still_on_its_way_leaves_the_question():
    assert due_in_hours(reported(silent(), told(ReportKind.DELAYED))) == 1


def test_an_sms_that_is_still_on_its_way_is_asked_for_again_ever_more_rarely_and_for_a_day():
    state, asked_at = silent(), []
    while (hours := due_in_hours(state)) is not None:
        asked_at.append(hours)
        state = asked(state, hours=hours)
    assert asked_at == [1, 2, 4, 8, 16]
    assert (state.status, n.to_inquire(state, at(100 * HOUR))) == (Status.DISPATCHED, None)


def test_a_question_that_comes_late_is_still_asked():
    state = asked(silent(), hours=30)
    assert (types(n.inquired(silent(), FIRST, SENT, origin(30 * HOUR))), due_in_hours(state)) == ([n.Inquired], None)


def test_an_answer_is_recorded_as_the_report_that_never_came():
    facts = n.inquired(silent(), FIRST, DELIVERED, origin(HOUR))
    assert types(facts) == [n.Delivered, n.Inquired]
    state = then(silent(), facts)
    assert (state.status, n.next_due(state)) == (Status.DELIVERED, None)


def test_i08_a_report_that_comes_after_the_answer_is_no_second_fact():
    state = asked(silent(), UNDELIVERED, hours=1)
    assert UNDELIVERED.report is not None
    assert n.report(state, FIRST, UNDELIVERED.report, origin(2 * HOUR)) == ()
    assert state.status is Status.BOUNCED


def test_i08_a_report_that_comes_while_we_ask_makes_the_answer_no_news():
    assert DELIVERED.report is not None
    state = reported(silent(), DELIVERED.report)
    assert n.inquired(state, FIRST, DELIVERED, origin(HOUR)) == ()


def test_two_that_ask_at_a_time_record_one_question():
    state = asked(silent(), hours=1)
    assert n.inquired(state, FIRST, SENT, origin(HOUR)) == ()


def test_a_message_that_its_provider_does_not_know_is_not_asked_for_again():
    state = asked(silent(), Answer("unknown"), hours=1)
    assert (state.status, n.next_due(state)) == (Status.DISPATCHED, None)


def test_a_question_that_fails_is_no_fact_until_a_day_has_passed():
    assert n.unanswered(silent(), FIRST, "timeout", origin(24 * HOUR - 1)) == ()
    (fact,) = n.unanswered(silent(), FIRST, "timeout", origin(24 * HOUR))
    assert fact == n.Inquired(**origin(24 * HOUR).stamp(), attempt=FIRST, answer="unanswered: timeout")
    assert n.next_due(then(silent(), (fact,))) is None


def test_a_question_that_ends_our_processes_is_asked_no_more():
    facts = n.set_aside(silent(), 5, origin(HOUR))
    assert [(type(fact), getattr(fact, "again_at", 0)) for fact in facts] == [(n.Inquired, None)]
    assert n.next_due(then(silent(), facts)) is None


def resent() -> n.State:
    """The first attempt is in doubt, the second was taken at second 1000."""
    state = settled(sending(channel=Channel.SMS), InDoubt("timeout"))
    state = then(state, n.start_attempt(state, intent(SECOND, deadline=1_000), origin(990)))
    return settled(state, Accepted("ref-2"), seconds=1_000, attempt=SECOND)


def test_a_doubt_knows_no_reference_and_so_nobody_is_asked_about_it():
    state = resent()
    assert n.next_due(state) == n.Due(at(1_000 + HOUR), Channel.SMS, Lane.LOW)
    attempt = n.to_inquire(state, at(1_000 + HOUR))
    assert attempt is not None
    assert attempt.id == SECOND


def test_of_two_copies_one_that_arrived_is_enough():
    assert n.next_due(reported(resent(), told(ReportKind.DELIVERED), attempt=FIRST)) is None
    assert n.next_due(reported(resent(), told(ReportKind.DISPATCHED), attempt=FIRST, seconds=1_100)) is not None


def test_a_fallback_that_is_due_before_the_question_keeps_its_lane():
    state = silent(fallback=Fallback(Channel.EMAIL, timedelta(minutes=15)), expires_at=at(86_400), lane=Lane.HIGH)
    assert n.next_due(state) == n.Due(at(900), Channel.SMS, Lane.HIGH)
