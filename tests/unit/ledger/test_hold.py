"""A doubt that is left to a person: given a hold, when time passes or somebody decides, then what may happen."""

from datetime import timedelta

from ledger import notification as n
from ledger.status import Status
from ledger.values import DoubtPolicy, InDoubt, ReportKind
from tests.unit.ledger.samples import SECOND, at, in_doubt, intent, origin, reported, settled, then, told, types

WINDOW = 901
EXPIRY = timedelta(days=30).total_seconds()


def waiting() -> n.State:
    """In doubt since second 1, with a window of 15 minutes; it expires in a month."""
    return in_doubt(doubt=DoubtPolicy.HOLD, expires_at=at(EXPIRY))


def released(seconds: float = 1_000) -> n.State:
    return then(waiting(), n.release(waiting(), "she has called", origin(seconds)))


def test_a_report_may_still_settle_it_before_anybody_decides():
    assert not n.held(waiting(), at(WINDOW - 1))
    assert n.release(waiting(), "too early", origin(WINDOW - 1)) == ()


def test_after_its_window_it_waits_for_a_person():
    assert n.held(waiting(), at(WINDOW))
    assert not n.sendable(waiting(), at(WINDOW))
    assert n.overdue(waiting(), origin(WINDOW)) == ()


def test_i13_it_waits_a_week_at_most_and_then_fails():
    due = n.next_due(waiting())
    assert due is not None
    assert due.at == at(WINDOW) + n.HELD_AT_MOST
    facts = n.overdue(waiting(), n.Origin(now=due.at, cause="agenda", by="deliver"))
    assert types(facts) == [n.Failed]
    assert then(waiting(), facts).status is Status.FAILED


def test_it_waits_no_longer_than_until_it_expires():
    due = n.next_due(in_doubt(doubt=DoubtPolicy.HOLD, expires_at=at(2_000)))
    assert due is not None
    assert due.at == at(2_000)


def test_what_is_released_is_sent_again_at_once():
    assert n.sendable(released(), at(1_000))
    due = n.next_due(released())
    assert due is not None
    assert due.at == at(1_000)
    facts = n.start_attempt(released(), intent(SECOND, deadline=1_010), origin(1_000))
    assert [fact.because for fact in facts if isinstance(fact, n.AttemptStarted)] == ["resend_after_doubt"]


def test_the_release_says_why_and_a_second_one_is_no_news():
    (fact,) = n.release(waiting(), "she has called", origin(1_000))
    assert isinstance(fact, n.Released)
    assert fact.reason == "she has called"
    assert n.release(released(), "again", origin(1_001)) == ()


def test_i06_each_doubt_needs_a_release_of_its_own():
    state = then(released(), n.start_attempt(released(), intent(SECOND, deadline=1_010), origin(1_000)))
    again = settled(state, InDoubt("timeout"), attempt=SECOND, seconds=1_005)
    assert not n.sendable(again, at(1_005 + WINDOW))
    assert n.held(again, at(1_005 + WINDOW))


def test_a_report_settles_what_is_held():
    settled_by_report = reported(waiting(), told(ReportKind.DELIVERED), seconds=2_000)
    assert not n.held(settled_by_report, at(2_000))
    assert n.release(settled_by_report, "too late", origin(2_001)) == ()
    assert n.next_due(settled_by_report) is None


def test_what_has_expired_is_not_released():
    state = in_doubt(doubt=DoubtPolicy.HOLD, expires_at=at(950))
    assert n.release(state, "too late", origin(950)) == ()


def test_only_what_is_to_be_held_is_held():
    assert not n.held(in_doubt(doubt=DoubtPolicy.RESEND), at(WINDOW))
    assert n.release(in_doubt(doubt=DoubtPolicy.RESEND), "no need", origin(WINDOW)) == ()
