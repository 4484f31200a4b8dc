from datetime import timedelta
from uuid import UUID

import pytest

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, Channel, Fallback, Personal, Postponed, Refused, ReportKind
from tests.unit.ledger.samples import (
    FIRST,
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

IN_TIME = 900
SMS = Fallback(Channel.SMS, timedelta(seconds=IN_TIME))
INSTEAD = UUID("019e0000-0000-7000-8000-000000000009")


def dispatched() -> n.State:
    return settled(sending(fallback=SMS), Accepted("ref-1"))


def fell_back(state: n.State, seconds: float) -> n.FellBack:
    fact = n.fall_back(state, INSTEAD, origin(seconds))
    assert fact is not None
    return fact


@pytest.mark.parametrize(
    "state",
    [
        given(requested(fallback=SMS)),
        dispatched(),
        in_doubt(fallback=SMS),
        settled(sending(fallback=SMS), Postponed("throttled")),
        reported(dispatched(), told(ReportKind.DELAYED)),
    ],
    ids=["not-sent", "dispatched", "in-doubt", "postponed", "delayed"],
)
def test_what_was_not_delivered_in_time_falls_back(state: n.State):
    assert n.fall_back(state, INSTEAD, origin(IN_TIME - 1)) is None
    fact = fell_back(state, IN_TIME)
    assert (fact.channel, fact.to, fact.reason) == (Channel.SMS, INSTEAD, "not_delivered_in_time")


def test_what_waits_for_its_fallback_is_due_then():
    assert n.next_due(dispatched()) == n.Due(at(IN_TIME), Channel.EMAIL, requested().lane)


def test_the_time_counts_from_when_it_was_to_be_sent():
    state = given(requested(fallback=SMS, send_at=at(3_600)))
    assert not n.falls_back(state, at(3_600 + IN_TIME - 1))
    assert n.falls_back(state, at(3_600 + IN_TIME))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (settled(sending(fallback=SMS), Refused("bad_address")), "failed"),
        (reported(dispatched(), told(ReportKind.BOUNCED)), "bounced"),
        (
            then(
                given(requested(fallback=SMS)),
                n.suppress(given(requested(fallback=SMS)), ("suppressed_address", "p", {}), origin(1)),
            ),
            "suppressed",
        ),
    ],
    ids=["refused", "bounced", "suppressed"],
)
def test_what_cannot_be_delivered_falls_back_at_once(state: n.State, reason: str):
    due = n.next_due(state)
    assert due is not None
    assert due.at == state.changed_at
    assert fell_back(state, 6).reason == reason


@pytest.mark.parametrize("kind", [ReportKind.DELIVERED, ReportKind.OPENED, ReportKind.CLICKED, ReportKind.COMPLAINED])
def test_what_arrived_never_falls_back(kind: ReportKind):
    state = reported(dispatched(), told(kind))
    assert n.next_due(state) is None
    assert n.fall_back(state, INSTEAD, origin(IN_TIME * 2)) is None


def test_what_was_delivered_and_then_came_back_falls_back():
    state = reported(dispatched(), told(ReportKind.DELIVERED), told(ReportKind.BOUNCED, "k2"))
    assert fell_back(state, 7).reason == "bounced"


def test_a_rule_that_forbids_to_tell_the_person_forbids_the_fallback_too():
    state = given(requested(fallback=SMS))
    state = then(state, n.suppress(state, ("no_consent", "p", {}), origin(1)))
    assert n.next_due(state) is None


def test_a_number_of_a_country_that_is_not_written_to_falls_back_at_once():
    mail = Fallback(Channel.EMAIL, timedelta(seconds=IN_TIME))
    state = given(requested(channel=Channel.SMS, fallback=mail))
    state = then(state, n.suppress(state, ("country_not_allowed", "p", {"country": "US"}), origin(1)))
    assert fell_back(state, 1).reason == "suppressed"


def test_what_has_expired_does_not_fall_back():
    state = given(requested(fallback=SMS, expires_at=at(IN_TIME)))
    assert not n.falls_back(state, at(IN_TIME))
    assert not n.falls_back(then(state, n.overdue(state, origin(IN_TIME))), at(IN_TIME + 1))


def test_a_fallback_that_is_taken_up_after_the_expiry_is_dropped_and_that_is_recorded():
    """The worker was away: what is asked for now would expire at once."""
    state = settled(sending(fallback=SMS, expires_at=at(IN_TIME + 60)), Accepted("ref-1"))
    assert n.fall_back(state, INSTEAD, origin(IN_TIME + 60)) is None
    (dropped,) = n.overdue(state, origin(IN_TIME + 60))
    assert isinstance(dropped, n.FallbackDropped)
    assert dropped.reason == "expired"
    assert n.next_due(then(state, (dropped,))) is None


@pytest.mark.parametrize(
    "state",
    [dispatched(), settled(sending(fallback=SMS), Refused("bad_address"))],
    ids=["dispatched", "ended"],
)
def test_a_fallback_that_ends_our_processes_is_tried_no_more(state: n.State):
    facts = n.set_aside(state, 5, origin(IN_TIME))
    assert facts == (n.FallbackDropped(**origin(IN_TIME).stamp(), reason="set aside after 5 crashes"),)
    after = then(state, facts)
    assert (n.next_due(after), after.status) == (None, state.status)
    assert n.fall_back(after, INSTEAD, origin(IN_TIME)) is None


def test_what_may_still_be_sent_is_when_its_fallback_was_given_up():
    state = given(requested(fallback=SMS))
    after = then(state, n.set_aside(state, 5, origin(IN_TIME)))
    assert n.sendable(after, at(IN_TIME))


def test_it_falls_back_once_and_is_not_sent_by_the_first_channel_any_more():
    state = given(requested(fallback=SMS))
    state = then(state, (fell_back(state, IN_TIME),))
    assert (state.status, state.reason, state.fell_back_to) == (Status.FAILED, "fell_back", INSTEAD)
    assert not n.sendable(state, at(IN_TIME))
    assert n.next_due(state) is None
    assert n.fall_back(state, INSTEAD, origin(IN_TIME + 1)) is None


def test_what_the_provider_had_taken_keeps_its_status_and_may_still_arrive():
    state = then(dispatched(), (fell_back(dispatched(), IN_TIME),))
    assert state.status is Status.DISPATCHED
    assert reported(state, told(ReportKind.DELIVERED), seconds=IN_TIME + 5).status is Status.DELIVERED


def test_an_outcome_that_comes_after_the_fallback_is_still_recorded():
    state = sending(fallback=SMS, deadline=IN_TIME + 5)
    state = then(state, (fell_back(state, IN_TIME),))
    assert n.next_due(state) is not None
    assert settled(state, Accepted("ref-1"), seconds=IN_TIME + 1, attempt=FIRST).status is Status.DISPATCHED


def test_the_notification_in_its_place_asks_for_the_same_on_the_other_channel():
    state = given(requested(fallback=SMS, references={"order": "A-17"}, send_at=at(1)))
    person = Personal("ada@example.com", "Ada", {"order": "A-17"}, fallback_address="+15005550006")
    instead = n.request_instead(
        state, STREAM, fell_back(state, IN_TIME + 1), person, recipient="user:u-1", address_hash="cd" * 16
    )
    assert instead.personal == Personal("+15005550006", "Ada", {"order": "A-17"})
    assert (instead.channel, instead.fallback, instead.fallback_of) == (Channel.SMS, None, STREAM)
    assert (instead.references, instead.type, instead.expires_at) == ({"order": "A-17"}, "order_shipped", at(86_400))
    assert n.sendable(given(instead), at(IN_TIME + 1))
