"""After a restore: what may have been sent is in doubt, and the doubt is settled as any other."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ledger import notification as n
from ledger.notification import RESTORED, Lost
from ledger.status import Status
from ledger.telling import sent_twice
from ledger.values import DoubtPolicy, ReportKind
from tests.unit.ledger.samples import SECOND, origin, requested, told

HERE = Lost(address_hash="ab" * 16)


def drawn() -> Iterator[UUID]:
    return (UUID(int=number) for number in range(100, 200))


def folded(*facts: n.NotificationFact) -> n.State:
    state = n.fold(facts)
    assert state is not None
    return state


def restored(*, lost: Lost = HERE, **changes: Any) -> n.State:
    first = requested(**changes)
    return folded(first, *n.presume_sent(folded(first), lost, drawn(), origin(60)))


def test_what_waited_to_be_sent_is_in_doubt_as_if_it_had_been():
    state = restored()
    assert state.status is Status.IN_DOUBT
    (attempt,) = state.attempts
    assert (attempt.provider, attempt.code, attempt.address_hash) == (RESTORED, RESTORED, "ab" * 16)


def test_what_could_not_have_been_sent_yet_is_left_alone():
    state = folded(requested(send_at=origin(3_600).now))
    assert n.presume_sent(state, HERE, drawn(), origin(60)) == ()


def test_what_has_expired_or_ended_is_left_alone():
    assert n.presume_sent(folded(requested()), HERE, drawn(), origin(90_000)) == ()
    ended = folded(requested(), n.Failed(**origin(1).stamp(), reason="a test"))
    assert n.presume_sent(ended, HERE, drawn(), origin(60)) == ()


def test_a_second_time_finds_nothing_to_put_in_doubt():
    state = restored()
    assert n.presume_sent(state, HERE, drawn(), origin(61)) == ()


@pytest.mark.parametrize("doubt", [DoubtPolicy.RESEND, DoubtPolicy.DROP, DoubtPolicy.HOLD])
def test_the_catalogue_decides_whether_it_is_sent_again_when_no_report_has_come(doubt: DoubtPolicy):
    state = restored(doubt=doubt)
    after = origin(60 + n.doubt_window(state.requested.category).total_seconds())
    assert not n.sendable(state, origin(61).now)
    assert n.sendable(state, after.now) == (doubt is DoubtPolicy.RESEND)
    assert n.held(state, after.now) == (doubt is DoubtPolicy.HOLD)


def test_every_device_of_a_person_is_in_doubt_for_itself():
    state = restored(lost=Lost(address_hash="01", others=("02", "03")))
    assert {attempt.address_hash for attempt in state.attempts} == {"01", "02", "03"}
    assert not n.sendable(state, origin(61).now)


def test_a_report_of_an_attempt_that_was_lost_settles_the_doubt():
    state = restored()
    stands_for = n.reported_attempt(state, SECOND)
    assert stands_for == state.attempts[0].id
    for fact in n.report(state, stands_for, told(ReportKind.DELIVERED), origin(70)):
        state = n.evolve(state, fact)
    assert state.status is Status.DELIVERED


def test_a_report_of_an_unknown_attempt_settles_no_other_doubt():
    assert n.reported_attempt(folded(requested()), SECOND) is None
    several = restored(lost=Lost(address_hash="01", others=("02",)))
    assert n.reported_attempt(several, SECOND) is None


def test_the_history_says_that_it_was_sent_again_because_of_a_restore():
    state = restored()
    at = origin(60 + n.doubt_window(state.requested.category).total_seconds())
    intent = n.Intent(
        attempt=SECOND,
        provider="ses",
        address_hash="ab" * 16,
        digest=b"d",
        template_version="v1",
        locale="en",
        deadline_at=at.now + timedelta(seconds=10),
    )
    for fact in n.start_attempt(state, intent, at):
        state = n.evolve(state, fact)
    (dispatched,) = n.report(state, SECOND, told(ReportKind.DISPATCHED), at)
    said = sent_twice(n.evolve(state, dispatched))
    assert said is not None
    assert "The database was restored" in said
