"""What the passing of time decides (overdue), when to look again (next_due) and whether to send (sendable)."""

from uuid import UUID

import pytest

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, Channel, DoubtPolicy, InDoubt, Lane, Postponed, Refused, ReportKind
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


def retrying() -> n.State:
    """A second attempt is open until second 20, the first was postponed."""
    state = settled(sending(), Postponed("throttled"))
    return then(state, n.start_attempt(state, intent(SECOND, deadline=20), origin(6)))


def resent() -> n.State:
    """A second attempt is open until second 910, the first is in doubt."""
    state = in_doubt()
    return then(state, n.start_attempt(state, intent(SECOND, deadline=910), origin(901)))


def lost() -> n.State:
    """Ended while its attempt was open."""
    return then(sending(), n.set_aside(sending(), 6, origin(1)))


# The state, when it is to be looked at again, and a second at which it may be sent, if any.
STATES = {
    "requested": (given(requested()), at(0), 0),
    "to be sent later": (given(requested(send_at=at(60))), at(60), 60),
    "expiring before it may be sent": (given(requested(send_at=at(60), expires_at=at(30))), at(30), None),
    "suppressed": (then(given(requested()), n.suppress(given(requested()), ("r", "p", {}), origin(1))), None, None),
    "not to be rendered": (
        then(given(requested()), n.give_up_rendering(given(requested()), "c", origin(1))),
        None,
        None,
    ),
    "sending": (sending(deadline=10), at(10), None),
    "postponed": (settled(sending(), Postponed("throttled"), seconds=1), at(6), 6),
    "postponed beyond its expiry": (settled(sending(expires_at=at(3)), Postponed("throttled")), at(3), None),
    "retrying": (retrying(), at(20), None),
    "in doubt, to be resent": (in_doubt(), at(901), 901),
    "in doubt, to be dropped": (in_doubt(doubt=DoubtPolicy.DROP), at(901), None),
    "in doubt, to be held": (in_doubt(doubt=DoubtPolicy.HOLD), at(86_400), None),
    "in doubt beyond its expiry": (in_doubt(expires_at=at(60)), at(901), None),
    "resent after a doubt": (resent(), at(910), None),
    "resent, and the first one arrived": (reported(resent(), told(ReportKind.DELIVERED), attempt=FIRST), at(910), None),
    "resent, put off, and the first one arrived": (
        reported(settled(resent(), Postponed("throttled"), attempt=SECOND, seconds=902), told(ReportKind.DELIVERED)),
        None,
        None,
    ),
    "refused": (settled(sending(), Refused("bad_address")), None, None),
    "dispatched": (settled(sending(), Accepted("ref-1")), None, None),
    "delivered": (reported(sending(), told(ReportKind.DELIVERED)), None, None),
    "bounced": (reported(sending(), told(ReportKind.BOUNCED)), None, None),
    "set aside while an attempt was open": (lost(), at(10), None),
    "expired": (then(given(requested()), n.overdue(given(requested()), origin(86_400))), None, None),
}


@pytest.mark.parametrize("name", STATES)
def test_i11_each_state_says_when_it_is_to_be_looked_at_again(name: str):
    state, due_at, _ = STATES[name]
    assert n.next_due(state) == (None if due_at is None else n.Due(due_at, Channel.EMAIL, Lane.NORMAL))


@pytest.mark.parametrize("name", STATES)
def test_each_state_says_from_when_it_may_be_sent(name: str):
    state, _, sendable_from = STATES[name]
    moments = [second / 2 for second in range(2_000)]
    allowed = [second for second in moments if n.sendable(state, at(second))]
    assert (allowed[0] if allowed else None) == sendable_from


@pytest.mark.parametrize("name", STATES)
def test_before_its_time_nothing_is_overdue(name: str):
    state, due_at, _ = STATES[name]
    early = 0.0 if due_at is None else (due_at - at(0.001)).total_seconds()
    assert n.overdue(state, origin(early)) == ()


@pytest.mark.parametrize("name", STATES)
def test_i13_at_its_time_each_state_moves_on(name: str):
    state, due_at, _ = STATES[name]
    if due_at is not None:
        now = n.Origin(now=due_at, cause="clock", by="test")
        assert n.overdue(state, now) or n.start_attempt(state, intent(SECOND), now)


@pytest.mark.parametrize("name", [name for name, (_, due_at, _) in STATES.items() if due_at is None])
def test_what_is_over_is_never_overdue_nor_sent(name: str):
    state = STATES[name][0]
    assert n.overdue(state, origin(10_000_000)) == ()
    assert not n.sendable(state, at(10))


def test_the_lane_and_channel_come_from_the_request():
    due = n.next_due(given(requested(channel=Channel.SMS, lane=Lane.URGENT)))
    assert due == n.Due(at(0), Channel.SMS, Lane.URGENT)


def test_an_attempt_that_nobody_finished_is_in_doubt():
    (fact,) = n.overdue(sending(deadline=10), origin(10))
    assert fact == n.AttemptInDoubt(**origin(10).stamp(), attempt=FIRST, doubt="no_outcome", until=at(910))


def test_an_attempt_that_nobody_finished_is_in_doubt_even_where_it_has_ended():
    assert types(n.overdue(lost(), origin(10))) == [n.AttemptInDoubt]


def test_an_attempt_that_nobody_finished_is_in_doubt_even_where_another_arrived():
    state = reported(resent(), told(ReportKind.DELIVERED))
    after = then(state, n.overdue(state, origin(910)))
    assert (after.status, n.next_due(after)) == (Status.DELIVERED, None)


def test_a_doubt_that_nobody_settled_ends_what_must_not_be_sent_twice():
    state = in_doubt(doubt=DoubtPolicy.DROP)
    (fact,) = n.overdue(state, origin(901))
    assert fact == n.Failed(**origin(901).stamp(), reason="in_doubt: not sent again")


def test_a_doubt_that_nobody_settled_leaves_to_sending_what_may_be_sent_twice():
    assert n.overdue(in_doubt(), origin(901)) == ()


def test_i06_after_three_doubts_it_is_sent_no_more():
    state = in_doubt()
    for round_ in (1, 2):
        attempt, start = UUID(int=100 + round_), 1_000 * round_
        assert n.sendable(state, at(start))
        state = then(state, n.start_attempt(state, intent(attempt, deadline=start + 10), origin(start)))
        state = then(state, n.settle(state, attempt, InDoubt("reset"), origin(start + 1), retry_at=at(start)))
    assert not n.sendable(state, at(3_000))
    assert types(n.overdue(state, origin(3_000))) == [n.Failed]


def test_an_expiry_does_not_cut_a_doubt_short():
    state = in_doubt(expires_at=at(60))
    assert n.overdue(state, origin(60)) == ()
    assert n.overdue(state, origin(901)) == (n.Expired(**origin(901).stamp()),)


def test_what_was_not_sent_in_time_expires():
    state = given(requested(expires_at=at(60)))
    (fact,) = n.overdue(state, origin(60))
    assert fact == n.Expired(**origin(60).stamp())
    after = then(state, (fact,))
    assert (after.status, after.reason) == (Status.EXPIRED, "expired")


def test_what_a_provider_has_taken_does_not_expire():
    assert n.overdue(settled(sending(expires_at=at(60)), Accepted("ref-1")), origin(61)) == ()


def test_a_late_reply_of_a_dropped_doubt_is_still_recorded():
    state = then(in_doubt(doubt=DoubtPolicy.DROP), n.overdue(in_doubt(doubt=DoubtPolicy.DROP), origin(901)))
    assert settled(state, Accepted("ref-1"), seconds=902).status is Status.DISPATCHED
    assert settled(state, InDoubt("reset"), seconds=902) == state


QUIET = ("quiet_hours", "2026-11-23", {"hours": "22:00-07:00"})


def test_what_a_rule_lets_wait_is_due_again_then_and_not_before():
    state = given(requested())
    (deferred,) = facts = n.defer(state, at(100), QUIET, origin(5))
    assert deferred == n.Deferred(
        **origin(5).stamp(), until=at(100), rule="quiet_hours", policy="2026-11-23", inputs={"hours": "22:00-07:00"}
    )
    waiting = then(state, facts)
    assert waiting.status is Status.DEFERRED
    assert n.next_due(waiting) == n.Due(at(100), Channel.EMAIL, Lane.NORMAL)
    assert [n.sendable(waiting, at(second)) for second in (99, 100)] == [False, True]
    assert n.defer(waiting, at(200), QUIET, origin(50)) == ()
    assert n.next_due(then(waiting, n.defer(waiting, at(200), QUIET, origin(100)))) == n.Due(
        at(200), Channel.EMAIL, Lane.NORMAL
    )


def test_waiting_until_a_time_that_has_come_is_no_news():
    assert n.defer(given(requested()), at(5), QUIET, origin(5)) == ()


def test_a_retry_that_falls_into_quiet_hours_waits_for_their_end():
    refused = settled(sending(), Postponed("throttled"))
    retry_at = n.next_due(refused)
    assert retry_at is not None
    waiting = then(refused, n.defer(refused, at(3600), QUIET, n.Origin(now=retry_at.at, cause="clock", by="test")))
    assert n.next_due(waiting) == n.Due(at(3600), Channel.EMAIL, Lane.NORMAL)
    assert waiting.status is Status.DEFERRED


def test_what_would_wait_beyond_its_expiry_expires():
    state = given(requested(expires_at=at(60)))
    waiting = then(state, n.defer(state, at(100), QUIET, origin(5)))
    assert n.next_due(waiting) == n.Due(at(60), Channel.EMAIL, Lane.NORMAL)
    assert types(n.overdue(waiting, origin(60))) == [n.Expired]
