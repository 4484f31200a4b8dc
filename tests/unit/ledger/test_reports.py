"""What providers tell: each kind, duplicates, early ones, many opens; and that their order never counts."""

import random
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ledger import notification as n
from ledger.status import Status
from ledger.values import Accepted, InDoubt, Outcome, Postponed, Refused, Report, ReportKind
from tests.unit.ledger.samples import (
    FIRST,
    SECOND,
    at,
    in_doubt,
    intent,
    origin,
    reported,
    sending,
    settled,
    then,
    told,
    types,
)

KINDS = (
    (ReportKind.DELAYED, n.Delayed, Status.DISPATCHED),
    (ReportKind.DELIVERED, n.Delivered, Status.DELIVERED),
    (ReportKind.BOUNCED, n.Bounced, Status.BOUNCED),
    (ReportKind.REJECTED, n.Rejected, Status.BOUNCED),
    (ReportKind.COMPLAINED, n.Complained, Status.COMPLAINED),
    (ReportKind.OPENED, n.Opened, Status.OPENED),
    (ReportKind.CLICKED, n.Clicked, Status.CLICKED),
    (ReportKind.UNSUBSCRIBED, n.Unsubscribed, Status.DISPATCHED),
)


def dispatched() -> n.State:
    return settled(sending(), Accepted("ref-1"))


@pytest.mark.parametrize(("kind", "fact_type", "status"), KINDS)
def test_each_kind_of_report_becomes_its_fact(kind: ReportKind, fact_type: type[n.Reported], status: Status):
    state = dispatched()
    facts = n.report(state, FIRST, told(kind), origin(6))
    assert facts == (
        fact_type(**origin(6).stamp(), attempt=FIRST, key="k1", occurred_at=at(5), evidence={"type": kind.value}),
    )
    assert then(state, facts).status is status


@pytest.mark.parametrize(("kind", "fact_type", "status"), KINDS)
def test_i09_a_report_before_the_reply_says_that_it_was_dispatched(
    kind: ReportKind, fact_type: type[n.Reported], status: Status
):
    state = sending()
    facts = n.report(state, FIRST, told(kind), origin(6))
    assert types(facts) == [n.Dispatched, fact_type]
    after = then(state, facts)
    assert (after.status, after.attempts[0].reference) == (status, "ref-1")


@pytest.mark.parametrize("kind", ReportKind)
def test_the_same_report_again_is_no_news(kind: ReportKind):
    state = reported(sending(), told(kind))
    assert n.report(state, FIRST, told(kind), origin(7)) == ()


def test_a_report_that_it_was_sent_settles_a_doubt():
    state = reported(in_doubt(), told(ReportKind.DISPATCHED))
    assert (state.status, n.next_due(state)) == (Status.DISPATCHED, None)


def test_a_report_that_it_was_sent_is_no_news_after_the_reply():
    assert n.report(dispatched(), FIRST, told(ReportKind.DISPATCHED), origin(6)) == ()


def test_the_name_that_the_provider_gives_in_its_reply_holds_over_that_of_an_earlier_report():
    """The receipt of a push knows nothing of the provider's own name for it."""
    opened = reported(sending(), told(ReportKind.OPENED, reference="a receipt"), seconds=6)
    assert opened.attempts[0].reference == "a receipt"
    after = settled(opened, Accepted("ref-1"), seconds=8)
    (attempt,) = after.attempts
    assert (attempt.reference, attempt.dispatched_at, after.status) == ("ref-1", at(6), Status.OPENED)
    assert reported(after, told(ReportKind.DELIVERED, "k2", reference="a receipt")).attempts[0].reference == "ref-1"


@pytest.mark.parametrize("kind", ReportKind)
def test_a_report_for_an_unknown_attempt_is_not_recorded(kind: ReportKind):
    assert n.report(dispatched(), SECOND, told(kind), origin(6)) == ()


def test_a_report_outweighs_a_recorded_failure():
    state = settled(sending(), Refused("bad_address"))
    assert reported(state, told(ReportKind.DELIVERED)).status is Status.DELIVERED


def test_a_report_ends_the_waiting_for_a_retry():
    state = reported(settled(sending(), Postponed("throttled")), told(ReportKind.DELIVERED))
    assert (state.reached, n.next_due(state)) == (True, None)


def test_a_report_without_a_time_counts_from_when_it_came():
    (attempt,) = reported(sending(), told(ReportKind.DELIVERED, seconds=None), seconds=8).attempts
    assert attempt.delivered_at == at(8)


def test_what_was_delivered_may_bounce_later():
    state = reported(sending(), told(ReportKind.DELIVERED, "a"), told(ReportKind.BOUNCED, "b"))
    assert state.status is Status.BOUNCED


def test_the_first_open_is_the_earliest_and_not_the_first_to_come():
    opens = [told(ReportKind.OPENED, str(second), seconds=second) for second in (9, 7, 8)]
    (attempt,) = reported(sending(), *opens).attempts
    assert (attempt.first_opened_at, attempt.opens) == (at(7), 3)


@pytest.mark.parametrize(("kind", "name"), [(ReportKind.OPENED, "opens"), (ReportKind.CLICKED, "clicks")])
def test_of_many_opens_and_clicks_the_first_twenty_are_kept(kind: ReportKind, name: str):
    state = reported(sending(), *(told(kind, str(number), seconds=10 + number) for number in range(25)))
    (attempt,) = state.attempts
    assert (getattr(attempt, name), len(attempt.reports)) == (20, 20)


@pytest.mark.parametrize(
    ("kind", "name"), [(ReportKind.OPENED, "first_opened_at"), (ReportKind.CLICKED, "first_clicked_at")]
)
def test_one_earlier_than_all_twenty_is_kept_as_well(kind: ReportKind, name: str):
    state = reported(sending(), *(told(kind, str(number), seconds=10 + number) for number in range(20)))
    assert n.report(state, FIRST, told(kind, "same", seconds=10), origin(60)) == ()
    (attempt,) = reported(state, told(kind, "earlier", seconds=9)).attempts
    assert getattr(attempt, name) == at(9)


def test_twenty_opens_do_not_keep_out_a_click():
    state = reported(sending(), *(told(ReportKind.OPENED, str(number)) for number in range(20)))
    assert reported(state, told(ReportKind.CLICKED, "click")).status is Status.CLICKED


# Two attempts, the first in doubt: reports may speak of either, in any order, any number of times.
Step = tuple[UUID, Report]
_REPORTS = st.builds(
    lambda kind, number: told(kind, f"{kind.value}-{number}", seconds=10 + number),
    st.sampled_from(ReportKind),
    st.integers(0, 30),
)
_STEPS = st.lists(
    st.tuples(st.sampled_from([FIRST, SECOND]), _REPORTS), max_size=40, unique_by=lambda step: (step[0], step[1].key)
)


def two_attempts() -> n.State:
    state = in_doubt()
    return then(state, n.start_attempt(state, intent(SECOND, deadline=910), origin(901)))


def known(state: n.State) -> tuple[object, ...]:
    return (
        state.status,
        [(a.evidence, a.first_opened_at, a.first_clicked_at, a.delivered_at) for a in state.attempts],
    )


def after(state: n.State, steps: list[Step]) -> n.State:
    for second, (attempt, report) in enumerate(steps, start=902):
        state = then(state, n.report(state, attempt, report, origin(second)))
    return state


@for_all(_STEPS, st.lists(st.integers(0, 39), max_size=20), st.randoms(use_true_random=False))
def test_i08_any_order_and_duplication_of_reports_gives_the_same_status_first_open_and_evidence(
    steps: list[Step], repeated: list[int], chance: random.Random
):
    shuffled = steps + [steps[index] for index in repeated if index < len(steps)]
    chance.shuffle(shuffled)
    assert known(after(two_attempts(), steps)) == known(after(two_attempts(), shuffled))


# A provider that refuses a request and then reports on it contradicts itself; it is left out.
@for_all(
    _STEPS,
    st.sampled_from(
        [
            (FIRST, Accepted("ref-1")),
            (SECOND, Accepted("ref-1")),
            (FIRST, Postponed("throttled")),
            (SECOND, Postponed("throttled")),
            (SECOND, InDoubt("reset")),
        ]
    ),
    st.integers(0, 40),
)
def test_i08_reports_may_come_before_or_after_the_reply(steps: list[Step], reply: tuple[UUID, Outcome], place: int):
    def replied_after(steps_before: int) -> n.State:
        state = after(two_attempts(), steps[:steps_before])
        state = settled(state, reply[1], seconds=950, attempt=reply[0])
        return after(state, steps[steps_before:])

    assert known(replied_after(0)) == known(replied_after(place))


@for_all(st.lists(_REPORTS, max_size=40, unique_by=lambda report: report.key), st.integers(0, 40))
def test_i08_reports_on_one_attempt_may_come_before_or_after_another_was_refused(reports: list[Report], place: int):
    def refused_after(reports_before: int) -> n.State:
        state = reported(two_attempts(), *reports[:reports_before], seconds=910)
        state = settled(state, Refused("bad_address"), seconds=950, attempt=SECOND)
        return reported(state, *reports[reports_before:], seconds=960)

    assert known(refused_after(0)) == known(refused_after(place))
