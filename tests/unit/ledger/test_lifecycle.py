"""Lives: whatever happens, every decided fact folds, the agenda's time always moves on, and every life ends."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ledger import notification as n
from ledger.status import Status
from ledger.values import (
    Accepted,
    Category,
    DoubtPolicy,
    InDoubt,
    Outcome,
    Postponed,
    Refused,
    Report,
    ReportKind,
)
from tests.unit.ledger.samples import DIGEST, T0, at, given, requested, told

LONGEST = 3_600
_OUTCOMES: st.SearchStrategy[Outcome | None] = st.one_of(
    st.just(None),
    st.just(Accepted("ref-1")),
    st.just(Refused("bad_address")),
    st.just(Postponed("throttled")),
    st.just(InDoubt("reset")),
)
_REQUESTS = st.builds(
    lambda doubt, category, send_at, expires_at: given(
        requested(doubt=doubt, category=category, send_at=send_at, expires_at=at(expires_at))
    ),
    st.sampled_from(DoubtPolicy),
    st.sampled_from(Category),
    st.one_of(st.none(), st.integers(-60, LONGEST).map(at)),
    st.integers(-60, LONGEST),
)


class Life:
    """One notification, driven as its handler drives it: looked at when it is due, and then acted on."""

    def __init__(self, state: n.State) -> None:
        self.state = state
        self.facts: list[n.NotificationFact] = [state.requested]
        self.now: datetime = T0
        self.attempts = 0

    def origin(self) -> n.Origin:
        return n.Origin(now=self.now, cause="clock", by="test")

    def apply(self, facts: n.Facts) -> bool:
        for fact in facts:
            self.state = n.evolve(self.state, fact)
        self.facts.extend(facts)
        return bool(facts)

    def start(self) -> bool:
        self.attempts += 1
        intent = n.Intent(
            attempt=UUID(int=self.attempts),
            provider="ses",
            address_hash="ab" * 16,
            digest=DIGEST,
            template_version="v1",
            locale="en",
            deadline_at=self.now + timedelta(seconds=10),
        )
        return self.apply(n.start_attempt(self.state, intent, self.origin()))

    def settle(self, attempt: UUID, outcome: Outcome, *, jitter: float = 0.0) -> bool:
        wait = n.backoff(self.state.requested.category, len(self.state.attempts), jitter=jitter)
        return self.apply(n.settle(self.state, attempt, outcome, self.origin(), retry_at=self.now + wait))

    def turn(self, outcome: Outcome | None) -> None:
        """Wait until it is due and act; what is due and does not move would be claimed for ever."""
        due = n.next_due(self.state)
        assert due is not None
        self.now = max(self.now, due.at)
        if self.apply(n.overdue(self.state, self.origin())):
            return
        assert n.sendable(self.state, self.now)
        assert self.start()
        if outcome is not None:
            self.settle(UUID(int=self.attempts), outcome)


@for_all(_REQUESTS, st.lists(_OUTCOMES, max_size=60), _OUTCOMES)
def test_i13_every_life_moves_on_at_its_due_time_and_ends(
    state: n.State, outcomes: list[Outcome | None], for_ever: Outcome | None
):
    life = Life(state)
    turns = 0
    while n.next_due(life.state):
        life.turn(outcomes[turns] if turns < len(outcomes) else for_ever)
        turns += 1
        assert turns < 1_000
    assert life.state.ended or life.state.reached
    assert life.state.status not in {
        Status.REQUESTED,
        Status.RENDERED,
        Status.SENDING,
        Status.IN_DOUBT,
        Status.DEFERRED,
    }


_KINDS = st.sampled_from(ReportKind)
# What is decided without anything being given.
_DECISIONS: dict[str, Callable[[n.State, n.Origin], n.Facts]] = {
    "overdue": n.overdue,
    "release": lambda state, at: n.release(state, "a test", at),
    "cancel": lambda state, at: n.cancel(state, "a test", at),
    "set_aside": lambda state, at: n.set_aside(state, 6, at),
    "suppress": lambda state, at: n.suppress(state, ("r", "p", {}), at),
    "give_up_rendering": lambda state, at: n.give_up_rendering(state, "c", at),
}
_ACTIONS = st.one_of(
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("settle"), st.tuples(st.integers(1, 4), _OUTCOMES.filter(bool))),
    st.tuples(st.just("report"), st.tuples(st.integers(1, 4), _KINDS, st.integers(0, 30))),
    st.tuples(st.sampled_from(sorted(_DECISIONS)), st.none()),
    st.tuples(st.just("pass"), st.integers(1, 1_000)),
)


def _act(life: Life, action: tuple[str, object]) -> None:
    match action:
        case ("start", _):
            life.start()
        case ("settle", (int(number), Accepted() | Refused() | Postponed() | InDoubt() as outcome)):
            life.settle(UUID(int=number), outcome)
        case ("report", (int(number), ReportKind() as kind, int(second))):
            report: Report = told(kind, f"{kind.value}-{second}", seconds=second)
            life.apply(n.report(life.state, UUID(int=number), report, life.origin()))
        case (str(name), None):
            life.apply(_DECISIONS[name](life.state, life.origin()))
        case ("pass", int(seconds)):
            life.now += timedelta(seconds=seconds)


@for_all(_REQUESTS, st.lists(_ACTIONS, max_size=40), _OUTCOMES)
def test_i13_from_any_state_that_can_be_reached_life_ends(
    state: n.State, actions: list[tuple[str, object]], for_ever: Outcome | None
):
    life = Life(state)
    for action in actions:
        _act(life, action)
    turns = 0
    while n.next_due(life.state):
        life.turn(for_ever)
        turns += 1
        assert turns < 1_000


@for_all(_REQUESTS, st.lists(_ACTIONS, max_size=40))
def test_i06_an_attempt_follows_another_only_after_a_recorded_refusal_or_doubt(
    state: n.State, actions: list[tuple[str, object]]
):
    life = Life(state)
    for action in actions:
        before = life.state
        _act(life, action)
        if len(life.state.attempts) > len(before.attempts) and before.attempts:
            assert before.attempts[-1].evidence.value in {"refused", "in_doubt"}
            assert not before.ended
            assert not before.reached


@for_all(_REQUESTS, st.lists(_ACTIONS, max_size=40))
def test_the_version_counts_the_facts_and_their_fold_is_the_state(state: n.State, actions: list[tuple[str, object]]):
    life = Life(state)
    for action in actions:
        _act(life, action)
    assert life.state.version == len(life.facts)
    assert n.fold(life.facts) == life.state


def test_a_life_begins_with_its_request():
    assert n.fold(()) is None
    with pytest.raises(ValueError, match="requested"):
        n.evolve(None, n.Expired(recorded_at=T0, cause="clock", by="test"))
