"""Calling a notification off: given what has happened to it, when somebody cancels, then nothing of it begins."""

from datetime import timedelta
from uuid import UUID

import pytest

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, Channel, DoubtPolicy, Fallback, InDoubt, Postponed, Refused, ReportKind
from tests.unit.ledger.samples import (
    FIRST,
    SECOND,
    at,
    given,
    in_doubt,
    intent,
    origin,
    reported,
    requested,
    sending,
    settled,
    then,
    told,
    types,
)

SMS = Fallback(Channel.SMS, timedelta(minutes=15))
INSTEAD = UUID("019e0000-0000-7000-8000-000000000009")


def called_off(state: n.State, seconds: float = 10) -> n.State:
    facts = n.cancel(state, "she has called", origin(seconds))
    assert types(facts) == [n.Cancelled]
    return then(state, facts)


def deferred() -> n.State:
    state = given(requested())
    return then(state, n.defer(state, at(3_600), ("quiet_hours", "p", {}), origin()))


WAITING = {
    "requested": given(requested()),
    "scheduled": given(requested(send_at=at(3_600))),
    "deferred by a rule": deferred(),
    "tried again later": settled(sending(), Postponed("throttled")),
    "in doubt, sent again": in_doubt(doubt=DoubtPolicy.RESEND),
    "in doubt, dropped": in_doubt(doubt=DoubtPolicy.DROP),
    "held": in_doubt(doubt=DoubtPolicy.HOLD),
}


@pytest.mark.parametrize("state", WAITING.values(), ids=WAITING)
def test_i07_what_waits_is_never_due_again_once_it_is_cancelled(state: n.State):
    after = called_off(state)
    assert (after.status, after.reason) == (Status.CANCELLED, "cancelled")
    assert n.next_due(after) is None
    for seconds in (11, 1_000, 4_000, 90_000):
        assert not n.sendable(after, at(seconds))
        assert n.start_attempt(after, intent(SECOND, deadline=seconds + 10), origin(seconds)) == ()
        assert n.release(after, "late", origin(seconds)) == ()
        assert n.overdue(after, origin(seconds)) == ()


def test_i07_what_is_on_its_way_may_arrive_and_is_not_tried_again():
    on_its_way = called_off(sending(deadline=30))
    assert on_its_way.status is Status.CANCELLED
    assert settled(on_its_way, Accepted("ref-1"), seconds=11).status is Status.DISPATCHED
    for outcome in (Postponed("throttled"), InDoubt("timeout"), Refused("bad")):
        after = settled(on_its_way, outcome, seconds=11)
        assert (after.status, n.next_due(after)) == (Status.CANCELLED, None)


def test_what_was_on_its_way_when_its_process_died_is_in_doubt_and_stays_cancelled():
    on_its_way = called_off(sending(deadline=30))
    assert n.next_due(on_its_way) == n.Due(at(30), Channel.EMAIL, requested().lane)
    facts = n.overdue(on_its_way, origin(30))
    assert types(facts) == [n.AttemptInDoubt]
    after = then(on_its_way, facts)
    assert (after.status, n.next_due(after)) == (Status.CANCELLED, None)


def test_i08_a_report_counts_after_a_cancel_as_before_it():
    arrived = told(ReportKind.DELIVERED)
    assert reported(called_off(in_doubt()), arrived, seconds=20).status is Status.DELIVERED


def test_a_cancel_is_news_once():
    assert n.cancel(called_off(given(requested())), "again", origin(20)) == ()


OVER = {
    "dispatched": settled(sending(), Accepted("ref-1")),
    "bounced": reported(settled(sending(), Accepted("ref-1")), told(ReportKind.BOUNCED)),
    "refused for good": settled(sending(), Refused("bad")),
    "expired": then(given(requested()), n.overdue(given(requested()), origin(86_400))),
}


@pytest.mark.parametrize("state", OVER.values(), ids=OVER)
def test_where_nothing_is_to_come_nothing_is_called_off(state: n.State):
    assert n.cancel(state, "late", origin(90_000)) == ()


FALLING = {
    "not sent": given(requested(fallback=SMS)),
    "dispatched": settled(sending(fallback=SMS), Accepted("ref-1")),
    "bounced": reported(settled(sending(fallback=SMS), Accepted("ref-1")), told(ReportKind.BOUNCED)),
    "failed": settled(sending(fallback=SMS), Refused("bad")),
}


@pytest.mark.parametrize("state", FALLING.values(), ids=FALLING)
def test_i07_nobody_is_told_on_another_channel_after_a_cancel(state: n.State):
    after = called_off(state)
    for seconds in (11, 1_000):
        assert n.fall_back(after, INSTEAD, origin(seconds)) is None
    assert n.next_due(after) is None


def test_what_a_provider_has_keeps_its_status_when_only_its_fallback_is_called_off():
    after = called_off(settled(sending(fallback=SMS), Accepted("ref-1")))
    assert (after.status, after.reason) == (Status.DISPATCHED, "cancelled")


def test_who_is_told_on_another_channel_already_is_told_there():
    state = settled(sending(fallback=SMS), Accepted("ref-1"))
    fell_back = n.fall_back(state, INSTEAD, origin(900))
    assert fell_back is not None
    assert n.cancel(then(state, (fell_back,)), "late", origin(901)) == ()


def test_further_devices_get_nothing_after_a_cancel():
    first = n.start_attempt(
        given(requested(channel=Channel.PUSH, address_hash=None)),
        n.Intent(
            attempt=FIRST,
            provider="fcm",
            address_hash="d1" * 16,
            digest=b"d" * 32,
            template_version="v1",
            locale="en",
            deadline_at=at(10),
            others=("d2" * 16,),
        ),
        origin(),
    )
    state = then(given(requested(channel=Channel.PUSH, address_hash=None)), first)
    taken = settled(state, Accepted("ref-1"))
    assert n.sendable(taken, at(2))
    after = called_off(taken)
    assert not n.sendable(after, at(11))
    assert after.status is Status.DISPATCHED
