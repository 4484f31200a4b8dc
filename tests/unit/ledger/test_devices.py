"""A push to several devices: each has its turn and goes by its own outcome, as if it were alone."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ledger import notification as n
from ledger.status import STRENGTH, Evidence, Status
from ledger.values import Accepted, Channel, DoubtPolicy, InDoubt, Lane, Outcome, Postponed, Refused, ReportKind
from tests.unit.ledger.samples import (
    DIGEST,
    FIRST,
    SECOND,
    THIRD,
    at,
    given,
    origin,
    reported,
    requested,
    settled,
    then,
    told,
    types,
)

PHONE, TABLET, WATCH = "a" * 32, "b" * 32, "c" * 32
WINDOW = 900
GONE = Refused("UNREGISTERED", suppresses=True)


def intent(device: str, attempt: UUID, *, others: tuple[str, ...] = (), seconds: float = 0) -> n.Intent:
    return n.Intent(
        attempt=attempt,
        provider="fcm",
        address_hash=device,
        digest=DIGEST,
        template_version="v1",
        locale="en",
        deadline_at=at(seconds + 10),
        address=f"fid-{device[0]}",
        others=others,
    )


def pushing(*, others: tuple[str, ...] = (TABLET, WATCH), **changes: Any) -> n.State:
    """The attempt at the phone, the first of the devices, has begun at second 0."""
    state = given(requested(channel=Channel.PUSH, address_hash=None, **changes))
    return then(state, n.start_attempt(state, intent(PHONE, FIRST, others=others), origin()))


def next_to(state: n.State, device: str, attempt: UUID, *, seconds: float = 2) -> n.State:
    """An attempt at a device has begun at this second."""
    facts = n.start_attempt(state, intent(device, attempt, seconds=seconds), origin(seconds))
    assert facts
    return then(state, facts)


def due(state: n.State) -> object:
    at_all = n.next_due(state)
    return None if at_all is None else at_all.at


def test_the_first_attempt_names_the_devices_that_come_after_it():
    state = given(requested(channel=Channel.PUSH, address_hash=None))
    _, started = n.start_attempt(state, intent(PHONE, FIRST, others=(TABLET, WATCH)), origin())
    assert isinstance(started, n.AttemptStarted)
    assert (started.address_hash, started.others, started.because) == (PHONE, (TABLET, WATCH), "first")
    (second,) = n.start_attempt(settled(pushing(), Accepted("1")), intent(TABLET, SECOND, others=(PHONE,)), origin(2))
    assert isinstance(second, n.AttemptStarted)
    assert (second.others, second.because) == ((), "next_device")


def test_while_one_attempt_is_open_no_device_has_its_turn():
    assert not n.sendable(pushing(), at(1))
    assert due(pushing()) == at(10)


@pytest.mark.parametrize("outcome", [Accepted("1"), GONE, InDoubt("timeout"), Postponed("QUOTA_EXCEEDED")])
def test_whatever_became_of_one_device_the_next_is_due_at_once(outcome: Outcome):
    state = settled(pushing(), outcome)
    assert due(state) == at(0)
    assert n.sendable(state, at(1))
    assert n.turn(state) == TABLET
    assert n.next_due(state) == n.Due(at(0), Channel.PUSH, Lane.NORMAL)


def test_nobody_but_the_device_whose_turn_it_is_gets_an_attempt():
    state = settled(pushing(), Accepted("1"))
    assert n.start_attempt(state, intent(WATCH, SECOND), origin(2)) == ()
    assert n.start_attempt(state, intent(PHONE, SECOND), origin(2)) == ()
    assert types(n.start_attempt(state, intent(TABLET, SECOND), origin(2))) == [n.AttemptStarted]


def test_it_is_over_when_the_last_device_has_it():
    state = settled(pushing(), Accepted("1"))
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    state = settled(next_to(state, WATCH, THIRD, seconds=4), Accepted("3"), attempt=THIRD, seconds=5)
    assert (due(state), state.ended, state.status) == (None, None, Status.DISPATCHED)


def test_a_refusal_by_one_device_does_not_end_what_another_may_get():
    state = settled(pushing(others=(TABLET,)), GONE)
    assert (state.ended, state.status) == (None, Status.DEFERRED)
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    assert (due(state), state.ended, state.status) == (None, None, Status.DISPATCHED)


def test_it_has_failed_when_every_device_has_refused_it():
    state = next_to(settled(pushing(others=(TABLET,)), GONE), TABLET, SECOND)
    facts = n.settle(state, SECOND, Refused("SENDER_ID_MISMATCH"), origin(3), retry_at=at(8))
    assert types(facts) == [n.AttemptFailed, n.Failed]
    state = then(state, facts)
    assert (state.reason, due(state)) == ("refused: SENDER_ID_MISMATCH", None)


def test_a_refusal_after_another_device_has_it_is_no_end():
    state = next_to(settled(pushing(others=(TABLET,)), Accepted("1")), TABLET, SECOND)
    assert types(n.settle(state, SECOND, GONE, origin(3), retry_at=at(8))) == [n.AttemptFailed]
    state = settled(state, GONE, attempt=SECOND, seconds=3)
    assert (state.status, state.ended, due(state)) == (Status.DISPATCHED, None, None)


def test_a_device_that_was_put_off_comes_again_after_those_that_were_not_tried():
    state = settled(pushing(others=(TABLET,)), Postponed("QUOTA_EXCEEDED"))
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    assert (n.turn(state), due(state)) == (PHONE, at(6))
    assert not n.sendable(state, at(5))
    (again,) = n.start_attempt(state, intent(PHONE, THIRD, seconds=6), origin(6))
    assert isinstance(again, n.AttemptStarted)
    assert again.because == "retry"


def test_a_doubt_about_one_device_is_settled_by_its_policy_when_its_window_is_over():
    state = settled(pushing(others=(TABLET,)), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    assert (n.turn(state), due(state)) == (PHONE, at(1 + WINDOW))
    (again,) = n.start_attempt(state, intent(PHONE, THIRD, seconds=WINDOW + 1), origin(WINDOW + 1))
    assert isinstance(again, n.AttemptStarted)
    assert again.because == "resend_after_doubt"


@pytest.mark.parametrize("policy", [DoubtPolicy.DROP, DoubtPolicy.HOLD])
def test_a_doubt_that_is_not_sent_again_is_left_when_another_device_has_it(policy: DoubtPolicy):
    state = settled(pushing(others=(TABLET,), doubt=policy), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    assert (due(state), state.status) == (None, Status.DISPATCHED)
    assert not n.held(state, at(2 * WINDOW))


def test_a_doubt_that_is_dropped_ends_it_where_no_other_device_has_it():
    state = settled(pushing(others=(TABLET,), doubt=DoubtPolicy.DROP), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), GONE, attempt=SECOND, seconds=3)
    assert (due(state), state.ended) == (at(1 + WINDOW), None)
    assert n.overdue(state, origin(WINDOW)) == ()
    (failed,) = n.overdue(state, origin(1 + WINDOW))
    assert isinstance(failed, n.Failed)
    assert failed.reason == "in_doubt: not sent again"


def test_a_doubt_that_is_held_waits_for_a_person_where_no_other_device_has_it():
    state = settled(pushing(others=(TABLET,), doubt=DoubtPolicy.HOLD), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), GONE, attempt=SECOND, seconds=3)
    assert n.held(state, at(1 + WINDOW))
    state = then(state, n.release(state, "they have called", origin(2_000)))
    assert (n.turn(state), due(state)) == (PHONE, at(2_000))


def test_each_device_is_sent_to_again_after_its_own_doubts_alone():
    state = settled(pushing(others=(TABLET,)), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), InDoubt("timeout"), attempt=SECOND, seconds=3)
    assert (n.turn(state), due(state)) == (PHONE, at(1 + WINDOW))
    state = settled(next_to(state, PHONE, THIRD, seconds=1_000), Accepted("3"), attempt=THIRD, seconds=1_001)
    assert (n.turn(state), due(state)) == (TABLET, at(3 + WINDOW))


def test_a_report_settles_the_doubt_of_its_device_and_of_no_other():
    state = settled(pushing(others=(TABLET,)), InDoubt("timeout"))
    state = settled(next_to(state, TABLET, SECOND), InDoubt("timeout"), attempt=SECOND, seconds=3)
    state = reported(state, told(ReportKind.OPENED), attempt=FIRST)
    assert (state.status, n.turn(state)) == (Status.OPENED, TABLET)


def test_a_device_that_was_dropped_meanwhile_is_left_out_and_the_next_has_its_turn():
    state = settled(pushing(), Accepted("1"))
    facts = n.skip_device(state, TABLET, "no_usable_address", origin(2))
    assert types(facts) == [n.DeviceSkipped]
    state = then(state, facts)
    assert (n.turn(state), due(state)) == (WATCH, at(0))
    assert n.skip_device(state, TABLET, "no_usable_address", origin(3)) == ()


def test_it_has_failed_when_the_last_device_that_could_have_it_is_left_out():
    state = settled(pushing(others=(TABLET,)), GONE)
    facts = n.skip_device(state, TABLET, "no_usable_address", origin(2))
    assert types(facts) == [n.DeviceSkipped, n.Failed]
    assert then(state, facts).reason == "refused: UNREGISTERED"


def test_one_that_was_put_off_and_then_dropped_gets_no_further_attempt():
    state = settled(pushing(others=(TABLET,)), Postponed("QUOTA_EXCEEDED"))
    state = settled(next_to(state, TABLET, SECOND), Accepted("2"), attempt=SECOND, seconds=3)
    state = then(state, n.skip_device(state, PHONE, "no_usable_address", origin(6)))
    assert (due(state), state.ended, state.status) == (None, None, Status.DISPATCHED)


def test_what_reached_one_device_has_not_expired_or_failed_for_the_sake_of_another():
    state = settled(pushing(expires_at=at(60)), Accepted("1"))
    for facts in (
        n.overdue(state, origin(60)),
        n.suppress(state, ("no_consent", "p", {}), origin(2)),
        n.give_up_rendering(state, "missing_data", origin(2)),
        n.set_aside(state, 6, origin(2)),
    ):
        assert types(facts) == [n.DeviceSkipped, n.DeviceSkipped]
        after = then(state, facts)
        assert (due(after), after.ended, after.status) == (None, None, Status.DISPATCHED)


def test_what_has_reached_no_device_expires():
    state = settled(pushing(expires_at=at(60)), Postponed("QUOTA_EXCEEDED"))
    assert types(n.overdue(state, origin(60))) == [n.Expired]


def test_the_status_is_the_strongest_of_all_devices():
    state = settled(pushing(), Accepted("1"))
    state = settled(next_to(state, TABLET, SECOND), GONE, attempt=SECOND, seconds=3)
    state = settled(next_to(state, WATCH, THIRD, seconds=4), InDoubt("timeout"), attempt=THIRD, seconds=5)
    assert state.status is Status.DISPATCHED
    assert reported(state, told(ReportKind.OPENED), attempt=THIRD).status is Status.OPENED


def test_one_device_alone_is_as_any_one_address():
    state = settled(pushing(others=()), GONE)
    assert (state.ended, n.turn(state)) == (Status.FAILED, None)


OUTCOMES: st.SearchStrategy[Outcome | None] = st.sampled_from(
    [None, Accepted("ref"), GONE, Refused("INVALID_ARGUMENT"), Postponed("UNAVAILABLE"), InDoubt("timeout")]
)


class Pushed:
    """One notification to several devices, handled as deliver does: what is due and does not move is a fault."""

    def __init__(self, policy: DoubtPolicy, expires_at: int, devices: Collection[str]) -> None:
        self.devices = list(devices)
        self.now = at(0)
        self.attempts = 0
        self.state = given(requested(channel=Channel.PUSH, address_hash=None, doubt=policy, expires_at=at(expires_at)))

    def origin(self) -> n.Origin:
        return n.Origin(now=self.now, cause="clock", by="test")

    def apply(self, facts: n.Facts) -> bool:
        self.state = then(self.state, facts)
        return bool(facts)

    def step(self, outcome: Outcome | None, *, dropped: bool) -> None:
        at_all = n.next_due(self.state)
        assert at_all is not None
        self.now = max(self.now, at_all.at)
        if self.apply(n.overdue(self.state, self.origin())):
            return
        assert n.sendable(self.state, self.now)
        device = n.turn(self.state)
        if dropped and device is not None:
            assert self.apply(n.skip_device(self.state, device, "no_usable_address", self.origin()))
            return
        self.attempts += 1
        attempt = UUID(int=self.attempts)
        first, *others = self.devices
        made = msgspec.structs.replace(
            intent(device or first, attempt, others=tuple(others)), deadline_at=self.now + timedelta(seconds=10)
        )
        assert self.apply(n.start_attempt(self.state, made, self.origin()))
        if outcome is not None:
            retry_at = self.now + timedelta(seconds=30)
            self.apply(n.settle(self.state, attempt, outcome, self.origin(), retry_at=retry_at))


@for_all(
    st.sampled_from(DoubtPolicy),
    st.integers(1, 3_600),
    st.integers(1, 4),
    st.lists(st.tuples(OUTCOMES, st.booleans()), max_size=40),
)
def test_i13_every_push_moves_on_at_its_due_time_and_each_device_comes_to_its_end(
    policy: DoubtPolicy, expires_at: int, count: int, steps: list[tuple[Outcome | None, bool]]
):
    devices = [letter * 32 for letter in "abcd"[:count]]
    life = Pushed(policy, expires_at, devices)
    turns = 0
    while n.next_due(life.state):
        outcome, dropped = steps[turns] if turns < len(steps) else (Accepted("ref"), False)
        life.step(outcome, dropped=dropped)
        turns += 1
        assert turns < 500
    state = life.state
    assert state.ended or state.reached
    for device in devices:
        line = [attempt for attempt in state.attempts if attempt.address_hash == device]
        taken = [attempt for attempt in line if STRENGTH[attempt.evidence] >= STRENGTH[Evidence.DISPATCHED]]
        assert len(taken) <= 1
        assert not taken or taken[-1] is line[-1]
        assert sum(attempt.evidence is Evidence.IN_DOUBT for attempt in line) <= n.DOUBTS_AT_MOST
        assert state.ended or line or device in state.skipped
