"""One request after the other: start_attempt, settle with each outcome in each state, backoff, the doubt's window."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from ledger import notification as n
from ledger.status import Evidence, Status
from ledger.values import Accepted, Category, Cost, DoubtPolicy, InDoubt, Money, Outcome, Postponed, Refused, ReportKind
from tests.unit.ledger.samples import (
    DIGEST,
    FIRST,
    SECOND,
    THIRD,
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

OUTCOMES = (Accepted("ref-1"), Refused("bad_address"), Postponed("throttled"), InDoubt("read_timeout"))


def test_an_attempt_records_the_words_and_then_the_intent():
    facts = n.start_attempt(given(requested()), intent(), origin(1))
    assert facts == (
        n.Rendered(**origin(1).stamp(), digest=DIGEST, template="order_shipped", template_version="v1", locale="en"),
        n.AttemptStarted(
            **origin(1).stamp(),
            attempt=FIRST,
            provider="ses",
            address_hash="ab" * 16,
            digest=DIGEST,
            deadline_at=at(10),
            because="first",
        ),
    )


def test_an_attempt_under_way_is_being_sent():
    state = sending()
    assert (state.status, state.rendered, len(state.attempts)) == (Status.SENDING, DIGEST, 1)


def test_the_same_words_are_not_recorded_again():
    state = settled(sending(), Postponed("throttled"))
    (started,) = n.start_attempt(state, intent(SECOND, deadline=20), origin(6))
    assert isinstance(started, n.AttemptStarted)
    assert started.because == "retry"


def test_an_attempt_by_another_provider_after_a_refusal_says_so():
    state = settled(sending(), Postponed("throttled"))
    by_another = msgspec.structs.replace(intent(SECOND, deadline=20), provider="smtp")
    (started,) = n.start_attempt(state, by_another, origin(6))
    assert isinstance(started, n.AttemptStarted)
    assert started.because == "failover"


def test_other_words_are_recorded_again():
    state = settled(sending(), Postponed("throttled"))
    facts = n.start_attempt(state, intent(SECOND, digest=b"other", deadline=20), origin(6))
    assert types(facts) == [n.Rendered, n.AttemptStarted]


def test_i06_no_attempt_begins_while_another_is_open():
    assert n.start_attempt(sending(), intent(SECOND), origin(1)) == ()


def test_i06_no_attempt_begins_once_a_provider_has_taken_one():
    assert n.start_attempt(settled(sending(), Accepted("ref-1")), intent(SECOND), origin(2)) == ()


def test_i06_no_attempt_begins_after_a_refusal_for_good():
    assert n.start_attempt(settled(sending(), Refused("bad_address")), intent(SECOND), origin(2)) == ()


def test_i06_no_attempt_begins_while_a_doubt_may_still_be_settled():
    assert n.start_attempt(in_doubt(), intent(SECOND), origin(900)) == ()


def test_i06_an_attempt_after_a_doubt_says_so():
    facts = n.start_attempt(in_doubt(), intent(SECOND, deadline=1_000), origin(901))
    assert [fact.because for fact in facts if isinstance(fact, n.AttemptStarted)] == ["resend_after_doubt"]


def test_i06_what_is_dropped_after_a_doubt_is_never_sent_again():
    assert n.start_attempt(in_doubt(doubt=DoubtPolicy.DROP), intent(SECOND), origin(901)) == ()


def test_no_attempt_begins_before_its_time_nor_after_its_end():
    state = given(requested(send_at=at(60), expires_at=at(120)))
    began = [bool(n.start_attempt(state, intent(), origin(second))) for second in (0, 59.9, 60, 119.9, 120)]
    assert began == [False, False, True, True, False]


def test_no_retry_begins_before_its_time():
    state = settled(sending(), Postponed("throttled"), seconds=1)
    assert n.start_attempt(state, intent(SECOND), origin(5.9)) == ()


def test_an_accepted_attempt_is_dispatched():
    state = sending()
    (fact,) = n.settle(state, FIRST, Accepted("ref-1"), origin(1), retry_at=at(5))
    assert fact == n.Dispatched(**origin(1).stamp(), attempt=FIRST, provider="ses", reference="ref-1")
    after = then(state, (fact,))
    assert (after.status, after.reached) == (Status.DISPATCHED, True)


def test_a_refused_attempt_ends_the_notification():
    state = sending()
    facts = n.settle(state, FIRST, Refused("bad_address"), origin(1), retry_at=at(5))
    assert facts == (
        n.AttemptFailed(**origin(1).stamp(), attempt=FIRST, kind="refused", code="bad_address"),
        n.Failed(**origin(1).stamp(), reason="refused: bad_address"),
    )
    assert then(state, facts).status is Status.FAILED


def test_a_postponed_attempt_is_deferred_until_its_retry():
    state = sending()
    (fact,) = n.settle(state, FIRST, Postponed("throttled"), origin(1), retry_at=at(5))
    assert fact == n.AttemptFailed(
        **origin(1).stamp(), attempt=FIRST, kind="postponed", code="throttled", retry_at=at(5)
    )
    assert then(state, (fact,)).status is Status.DEFERRED


def test_an_attempt_that_nobody_can_speak_for_is_in_doubt_for_its_window():
    state = sending()
    (fact,) = n.settle(state, FIRST, InDoubt("read_timeout"), origin(1), retry_at=at(5))
    assert fact == n.AttemptInDoubt(**origin(1).stamp(), attempt=FIRST, doubt="read_timeout", until=at(901))
    assert then(state, (fact,)).status is Status.IN_DOUBT


def test_a_doubt_is_settled_by_a_late_reply():
    statuses = [settled(in_doubt(), outcome, seconds=20).status for outcome in OUTCOMES[:3]]
    assert statuses == [Status.DISPATCHED, Status.FAILED, Status.DEFERRED]


def test_a_second_doubt_is_no_news():
    assert n.settle(in_doubt(), FIRST, InDoubt("reset"), origin(2), retry_at=at(5)) == ()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_accepted_attempt_learns_nothing_from_any_outcome(outcome: Outcome):
    state = settled(sending(), Accepted("ref-1"))
    assert n.settle(state, FIRST, outcome, origin(2), retry_at=at(5)) == ()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_attempt_that_a_report_has_spoken_for_learns_nothing_from_any_outcome(outcome: Outcome):
    state = reported(sending(), told(ReportKind.DELIVERED))
    assert n.settle(state, FIRST, outcome, origin(7), retry_at=at(5)) == ()


@pytest.mark.parametrize("before", [Refused("bad_address"), Postponed("throttled")])
@pytest.mark.parametrize("outcome", OUTCOMES[1:])
def test_an_attempt_that_certainly_did_not_leave_learns_only_that_it_did(before: Outcome, outcome: Outcome):
    state = settled(sending(), before)
    assert n.settle(state, FIRST, outcome, origin(2), retry_at=at(5)) == ()
    assert types(n.settle(state, FIRST, Accepted("ref-1"), origin(2), retry_at=at(5))) == [n.Dispatched]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_unknown_attempt_settles_nothing(outcome: Outcome):
    assert n.settle(sending(), SECOND, outcome, origin(1), retry_at=at(5)) == ()


def _resent() -> n.State:
    state = in_doubt()
    return then(state, n.start_attempt(state, intent(SECOND, deadline=910), origin(901)))


def test_a_refusal_after_an_earlier_attempt_was_taken_does_not_hide_what_has_arrived():
    state = settled(_resent(), Accepted("ref-1"), seconds=902)
    facts = n.settle(state, SECOND, Refused("bad_address"), origin(903), retry_at=at(905))
    assert types(facts) == [n.AttemptFailed, n.Failed]
    assert then(state, facts).status is Status.DISPATCHED


def test_a_refusal_of_what_has_ended_is_recorded_without_ending_it_again():
    state = settled(_resent(), Refused("bad_address"), seconds=902)
    facts = n.settle(state, SECOND, Refused("bad_address"), origin(903), retry_at=at(905))
    assert types(facts) == [n.AttemptFailed]


def test_a_late_outcome_is_recorded_at_its_own_attempt():
    state = settled(_resent(), Accepted("ref-1"), seconds=902)
    assert [attempt.evidence for attempt in state.attempts] == [Evidence.DISPATCHED, Evidence.SENDING]
    assert state.attempt(THIRD) is None


@pytest.mark.parametrize(
    ("category", "window"),
    [
        (Category.SECURITY, timedelta(seconds=30)),
        (Category.TRANSACTIONAL, timedelta(minutes=15)),
        (Category.OPERATIONAL, timedelta(minutes=15)),
        (Category.MARKETING, timedelta(minutes=15)),
    ],
)
def test_a_code_for_a_sign_in_is_resent_sooner_than_a_receipt(category: Category, window: timedelta):
    assert n.doubt_window(category) == window
    (attempt,) = in_doubt(category=category).attempts
    assert attempt.doubt_until == at(1) + window


@pytest.mark.parametrize(
    ("category", "attempts", "longest"),
    [
        (Category.SECURITY, 1, 1),
        (Category.SECURITY, 2, 2),
        (Category.SECURITY, 6, 30),
        (Category.TRANSACTIONAL, 1, 5),
        (Category.TRANSACTIONAL, 4, 40),
        (Category.TRANSACTIONAL, 9, 900),
        (Category.MARKETING, 10_000, 900),
    ],
)
def test_the_wait_doubles_up_to_a_cap_and_is_spread_over_its_upper_half(
    category: Category, attempts: int, longest: int
):
    waits = [n.backoff(category, attempts, jitter=jitter) for jitter in (0.0, 0.5, 1.0)]
    assert waits == [timedelta(seconds=longest * share) for share in (0.5, 0.75, 1.0)]


def cents(amount: str, currency: str = "USD") -> Cost:
    return Cost(amount=Decimal(amount), currency=currency, units=1)


def attempted(state: n.State, attempt: UUID, cost: Cost | None, outcome: Outcome, *, seconds: float) -> n.State:
    state = then(state, n.start_attempt(state, intent(attempt, cost=cost), origin(seconds)))
    return settled(state, outcome, seconds=seconds + 1, attempt=attempt)


def test_a_notification_costs_what_its_attempts_cost_that_nobody_has_certainly_refused():
    state = attempted(given(requested()), FIRST, cents("0.10"), Postponed("throttled"), seconds=0)
    assert state.cost == ()
    state = attempted(state, SECOND, cents("0.10"), InDoubt("read_timeout"), seconds=60)
    assert state.cost == (Money(amount=Decimal("0.10"), currency="USD"),)
    state = attempted(state, THIRD, cents("0.0083"), Accepted("ref-1"), seconds=3600)
    assert state.cost == (Money(amount=Decimal("0.1083"), currency="USD"),)


def test_what_was_priced_in_two_currencies_is_not_added_up_and_what_has_no_price_costs_nothing():
    state = attempted(given(requested()), FIRST, cents("0.10", "USD"), InDoubt("read_timeout"), seconds=0)
    state = attempted(state, SECOND, cents("0.07", "EUR"), InDoubt("read_timeout"), seconds=3600)
    state = attempted(state, THIRD, None, Accepted("ref-1"), seconds=7200)
    assert [(money.currency, money.amount) for money in state.cost] == [
        ("EUR", Decimal("0.07")),
        ("USD", Decimal("0.10")),
    ]
