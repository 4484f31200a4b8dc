from uuid import UUID

import pytest

from ledger import notification as n
from ledger.telling import sent_twice
from ledger.values import Accepted, InDoubt, Outcome, Postponed, Refused, ReportKind
from tests.unit.ledger.samples import FIRST, SECOND, in_doubt, intent, origin, reported, sending, settled, then, told

WINDOW = 901
WHY = (
    "Nothing told whether ses had taken the attempt of 2031-05-04 12:00:00 UTC (read_timeout), "
    "so it was sent again at 12:15:01 by ses."
)


def again(state: n.State, outcome: Outcome | None, *, attempt: UUID = SECOND) -> n.State:
    state = then(state, n.start_attempt(state, intent(attempt, deadline=WINDOW + 10), origin(WINDOW)))
    return state if outcome is None else settled(state, outcome, seconds=WINDOW + 1, attempt=attempt)


def test_what_was_sent_again_after_a_doubt_may_have_been_sent_twice():
    assert sent_twice(again(in_doubt(), Accepted("ref-2"))) == f"May have been sent twice. {WHY}"
    assert sent_twice(again(in_doubt(), InDoubt("reset"))) == f"May have been sent twice. {WHY}"


def test_what_both_attempts_are_known_of_was_sent_twice():
    state = reported(again(in_doubt(), Accepted("ref-2")), told(ReportKind.DELIVERED), seconds=WINDOW + 5)
    assert sent_twice(state) == f"Was sent twice. {WHY}"


@pytest.mark.parametrize(
    "state",
    [
        settled(sending(), Accepted("ref-1")),
        in_doubt(),
        reported(in_doubt(), told(ReportKind.DELIVERED)),
        again(in_doubt(), None),
        again(in_doubt(), Refused("bad_address")),
        again(settled(sending(), Postponed("throttled")), Accepted("ref-2")),
    ],
    ids=["sent", "in-doubt", "settled-by-a-report", "being-sent-again", "refused-then", "postponed-before"],
)
def test_what_left_once_at_most_was_not_sent_twice(state: n.State):
    assert state.attempt(FIRST) is not None
    assert sent_twice(state) is None
