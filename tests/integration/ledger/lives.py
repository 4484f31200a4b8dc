"""Whole lives of notifications through a Ledger, as handlers lead them."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from ledger import notification as n
from ledger.decision import Decision
from ledger.ledger import Ledger, Loaded
from ledger.notification import Origin
from ledger.values import Outcome, Report, ReportKind
from tests.integration.ledger.parts import begun

Decide = Callable[[n.State, Origin], n.Facts]


async def begin(ledger: Ledger, **changes: Any) -> UUID:
    decision = begun(**changes)
    await ledger.append(decision)
    return decision.facts[0].stream


async def decide(
    ledger: Ledger, stream: UUID, what: Decide, *, settles: UUID | None = None, known: Loaded | None = None
) -> Loaded:
    """Store what a deciding function says, whatever it is."""

    def decided(loaded: Loaded, at: datetime) -> Decision:
        facts = what(loaded.state, Origin(now=at, cause="test", by="test"))
        return Decision(facts=loaded.next(facts), settles=settles)

    after = await ledger.change(stream, decided, known=known)
    assert after is not None
    return after


async def start(ledger: Ledger, stream: UUID, *, deadline: timedelta = timedelta(seconds=30)) -> UUID:
    attempt = uuid4()

    def started(state: n.State, origin: Origin) -> n.Facts:
        intent = n.Intent(
            attempt=attempt,
            provider="ses",
            address_hash="ab" * 16,
            digest=b"d" * 32,
            template_version="v1",
            locale="en",
            deadline_at=origin.now + deadline,
        )
        return n.start_attempt(state, intent, origin)

    await decide(ledger, stream, started)
    return attempt


async def settle(
    ledger: Ledger, stream: UUID, attempt: UUID, outcome: Outcome, *, wait: timedelta = timedelta(seconds=5)
) -> Loaded:
    return await decide(ledger, stream, lambda state, at: n.settle(state, attempt, outcome, at, retry_at=at.now + wait))


async def report(ledger: Ledger, stream: UUID, attempt: UUID, kind: ReportKind, *, key: str = "") -> Loaded:
    def reported(state: n.State, origin: Origin) -> n.Facts:
        told = Report(
            provider="ses", reference=f"ref-{attempt}", kind=kind, key=key or kind.value, occurred_at=origin.now
        )
        return n.report(state, attempt, told, origin)

    return await decide(ledger, stream, reported)


async def live(ledger: Ledger, steps: Sequence[Outcome | ReportKind]) -> Loaded:
    """Begin, make one attempt and let these things happen to it; returns how it stands then."""
    stream = await begin(ledger)
    attempt = await start(ledger, stream)
    for step in steps:
        if isinstance(step, ReportKind):
            await report(ledger, stream, attempt, step)
        else:
            await settle(ledger, stream, attempt, step)
    loaded = await ledger.load(stream)
    assert loaded is not None
    return loaded
