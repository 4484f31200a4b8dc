"""Notifications of every kind of life, written to the log as facts."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
from hypothesis import strategies as st

from ledger import notification as n
from ledger.errors import Refusal
from ledger.ids import notification_id
from ledger.keys import DataKey
from ledger.mapping import FactMapper, of_notification
from ledger.store import Encoded, Store
from ledger.values import (
    Accepted,
    Answer,
    Category,
    Channel,
    Cost,
    DoubtPolicy,
    Fallback,
    InDoubt,
    Lane,
    Outcome,
    Personal,
    Postponed,
    Refused,
    Report,
    ReportKind,
    Wanted,
)

KEY = DataKey(bytes(range(32)))
MAPPER = FactMapper()
DECISIONS = ("attempt", "suppress", "unrenderable", "overdue", "give_up", "fall_back", "ask")
OUTCOMES = ("accepted", "refused", "postponed", "in_doubt")

type_names = st.sampled_from(["OrderShippedEvent", "PasswordResetEvent"])
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "type": type_names,
        "channel": st.sampled_from(Channel),
        "category": st.sampled_from(Category),
        "user_id": st.none() | words,
        "message_id": st.none() | words,
        "correlation_id": st.none() | words,
        "references": st.dictionaries(words, words, max_size=2),
    },
)
steps = st.lists(st.sampled_from([*DECISIONS, *OUTCOMES, *(kind.value for kind in ReportKind)]), max_size=10)


class Life:
    """One notification, moved on by the deciding functions."""

    def __init__(self, now: datetime, **wishes: Any) -> None:
        self.stream = notification_id(now)
        self.now = now
        self.facts: list[n.NotificationFact] = list(_request(self.origin(), wishes))

    @property
    def state(self) -> n.State:
        state = n.fold(self.facts)
        assert state is not None
        return state

    def origin(self) -> n.Origin:
        return n.Origin(now=self.now, cause="clock", by="test")

    def live(self, *steps: str) -> "Life":
        for step in steps:
            self.now += timedelta(hours=1) if step == "ask" else timedelta(minutes=1)
            self.facts += self._step(step)
        return self

    def attempt_at(self, address_hash: str, address: str | None) -> None:
        """Start an attempt at an address, which was found elsewhere where it is given."""
        intent = msgspec.structs.replace(_intent(self.now), address_hash=address_hash, address=address)
        self.facts += n.start_attempt(self.state, intent, self.origin())

    def _step(self, step: str) -> n.Facts:
        state, origin = self.state, self.origin()
        decisions: dict[str, Callable[[], n.Facts]] = {
            "attempt": lambda: n.start_attempt(state, _intent(self.now), origin),
            "suppress": lambda: n.suppress(state, ("suppressed_address", "1", {}), origin),
            "unrenderable": lambda: n.give_up_rendering(state, "undefined", origin),
            "overdue": lambda: n.overdue(state, origin),
            "give_up": lambda: n.set_aside(state, 6, origin),
            "ask": lambda: _asked(state, origin),
            "fall_back": lambda: tuple(fact for fact in [n.fall_back(state, uuid4(), origin)] if fact),
        }
        if step in decisions:
            return decisions[step]()
        return self._outcome(step, state.attempts[-1].id) if state.attempts else ()

    def _outcome(self, step: str, attempt: UUID) -> n.Facts:
        reference = f"ref-{attempt}"
        outcomes: dict[str, Outcome] = {
            "accepted": Accepted(reference),
            "refused": Refused("bad"),
            "postponed": Postponed("busy"),
            "in_doubt": InDoubt("timeout"),
        }
        if step in outcomes:
            return n.settle(self.state, attempt, outcomes[step], self.origin(), retry_at=self.now)
        occurred_at = self.now - timedelta(minutes=3) if step == ReportKind.OPENED else None
        told = Report(
            provider="ses", reference=reference, kind=ReportKind(step), key=uuid4().hex, occurred_at=occurred_at
        )
        return n.report(self.state, attempt, told, self.origin())

    def encoded(self, start: int = 0, end: int | None = None) -> Encoded:
        numbered = list(enumerate(self.facts, 1))[start:end]
        return Encoded(facts=[(self.stream, v, *MAPPER.encode(self.stream, v, fact, key=KEY)) for v, fact in numbered])


def _request(origin: n.Origin, wishes: dict[str, Any]) -> n.Facts:
    user = wishes.get("user_id", "u-1")
    wanted = Wanted(
        type=wishes.get("type", "OrderShippedEvent"),
        channel=wishes.get("channel", Channel.EMAIL),
        category=wishes.get("category", Category.TRANSACTIONAL),
        lane=Lane.NORMAL,
        recipient=user,
        personal=Personal(address="ann@example.com", name="Ann", data={"order": "1"}),
        locale="en",
        template=wishes.get("template", "order_shipped"),
        template_version=wishes.get("template_version", "t" * 16),
        catalogue="c" * 16,
        doubt=wishes.get("doubt", DoubtPolicy.DROP),
        expires_after=timedelta(hours=1),
        fallback=Fallback(Channel.SMS, timedelta(minutes=2)),
        references=wishes.get("references", {"order": "o-1"}),
    )
    source = n.Source(
        source="orders", message_id=wishes.get("message_id", "m-1"), correlation_id=wishes.get("correlation_id", "c-1")
    )
    address_hash = wishes.get("address_hash", "a" * 32)
    return n.request(wanted, source, origin, recipient=f"user:{user}", address_hash=address_hash)


def _asked(state: n.State, origin: n.Origin) -> n.Facts:
    attempt = n.to_inquire(state, origin.now)
    return n.inquired(state, attempt.id, Answer("unknown"), origin) if attempt else ()


def _intent(now: datetime) -> n.Intent:
    return n.Intent(
        attempt=uuid4(),
        provider="ses",
        address_hash="a" * 32,
        digest=bytes(32),
        template_version="t" * 16,
        locale="en",
        deadline_at=now + timedelta(seconds=10),
        cost=Cost(amount=Decimal("0.0083"), currency="USD", units=1),
    )


async def write(store: Store, *decisions: Encoded) -> None:
    """Append decisions that nobody refuses."""
    refused: dict[int, Refusal] = await store.append(decisions)
    assert refused == {}


async def write_interleaved(store: Store, lives: Sequence[Life]) -> None:
    """Append the first facts of all, then the second ones, and so on."""
    for index in range(max(len(life.facts) for life in lives)):
        await write(store, *(life.encoded(index, index + 1) for life in lives if index < len(life.facts)))


async def folded_from_log(store: Store, streams: Sequence[UUID]) -> dict[UUID, tuple[n.State, int]]:
    """Fold streams as they lie in the log, each with the position of its last fact."""
    facts: dict[UUID, list[n.NotificationFact]] = {stream: [] for stream in streams}
    last: dict[UUID, int] = {}
    for row in await store.load(streams):
        facts[row.stream].append(of_notification(MAPPER.decode(row.topic, row.state)))
        last[row.stream] = row.position
    states = {stream: n.fold(some) for stream, some in facts.items()}
    return {stream: (state, last[stream]) for stream, state in states.items() if state is not None}
