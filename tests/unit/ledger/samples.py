"""Given / when / then for the lifecycle: facts of one notification, made with as few words as a test needs."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger import notification as n
from ledger.values import (
    Category,
    Channel,
    Cost,
    DoubtPolicy,
    InDoubt,
    Lane,
    Outcome,
    Personal,
    Report,
    ReportKind,
    Wanted,
)

T0 = datetime(2031, 5, 4, 12, tzinfo=UTC)
STREAM = UUID("019e0000-0000-7000-8000-000000000001")
FIRST, SECOND, THIRD = (UUID(int=number) for number in (1, 2, 3))
DIGEST = bytes(range(32))


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def origin(seconds: float = 0) -> n.Origin:
    return n.Origin(now=at(seconds), cause="clock", by="test")


def requested(seconds: float = 0, **changes: Any) -> n.Requested:
    fields: dict[str, Any] = {
        "type": "order_shipped",
        "channel": Channel.EMAIL,
        "category": Category.TRANSACTIONAL,
        "lane": Lane.NORMAL,
        "recipient": "user:u-1",
        "user_id": "u-1",
        "address_hash": "ab" * 16,
        "locale": "en",
        "template": "order_shipped",
        "template_version": "v1",
        "catalogue": "c1",
        "doubt": DoubtPolicy.RESEND,
        "expires_at": at(86_400),
        "retention": "standard",
        "source": "orders",
        "personal": Personal("ada@example.com", "Ada", {"order": "A-17"}),
    }
    return n.Requested(**origin(seconds).stamp(), **fields | changes)


def wanted(**changes: Any) -> Wanted:
    fields: dict[str, Any] = {
        "type": "order_shipped",
        "channel": Channel.EMAIL,
        "category": Category.TRANSACTIONAL,
        "lane": Lane.HIGH,
        "recipient": "u-1",
        "personal": Personal("ada@example.com"),
        "locale": "en",
        "template": "order_shipped",
        "template_version": "v1",
        "catalogue": "c1",
        "doubt": DoubtPolicy.RESEND,
        "expires_after": timedelta(days=1),
    }
    return Wanted(**fields | changes)


def intent(
    attempt: UUID = FIRST, *, digest: bytes = DIGEST, deadline: float = 10, cost: Cost | None = None
) -> n.Intent:
    return n.Intent(
        attempt=attempt,
        provider="ses",
        address_hash="ab" * 16,
        digest=digest,
        template_version="v1",
        locale="en",
        deadline_at=at(deadline),
        cost=cost,
    )


def given(*facts: n.NotificationFact) -> n.State:
    """What the facts of one notification amount to."""
    state = n.fold(facts)
    assert state is not None
    return state


def then(state: n.State, *decided: n.Facts) -> n.State:
    """The state after what was decided."""
    for facts in decided:
        for fact in facts:
            state = n.evolve(state, fact)
    return state


def sending(*, deadline: float = 10, **changes: Any) -> n.State:
    """A first attempt has begun at second 0."""
    state = given(requested(**changes))
    return then(state, n.start_attempt(state, intent(deadline=deadline), origin()))


def settled(state: n.State, outcome: Outcome, *, seconds: float = 1, attempt: UUID = FIRST) -> n.State:
    facts = n.settle(state, attempt, outcome, origin(seconds), retry_at=at(seconds + 5))
    return then(state, facts)


def in_doubt(**changes: Any) -> n.State:
    """The first attempt is in doubt since second 1."""
    return settled(sending(**changes), InDoubt("read_timeout"))


def told(kind: ReportKind, key: str = "k1", *, seconds: float | None = 5, reference: str = "ref-1") -> Report:
    return Report(
        provider="ses",
        reference=reference,
        kind=kind,
        key=key,
        occurred_at=None if seconds is None else at(seconds),
        evidence={"type": kind.value},
    )


def reported(state: n.State, *reports: Report, seconds: float = 6, attempt: UUID = FIRST) -> n.State:
    for report in reports:
        state = then(state, n.report(state, attempt, report, origin(seconds)))
    return state


def types(facts: n.Facts) -> list[type]:
    return [type(fact) for fact in facts]
