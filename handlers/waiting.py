"""Why something has not been sent yet: our own waiting is no fact, so it is read from the working rows."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from ledger import agenda
from ledger.agenda import Standing, WaitsFor
from ledger.ledger import Ledger
from ledger.notification import State, next_due
from ledger.operations import Operations
from ledger.values import Channel, Lane


class WaitingFor(StrEnum):
    """What something waits for: for its time, or, though that has come, for something else."""

    SCHEDULED = "scheduled"
    DEFERRED = "deferred"
    PAUSED = "paused"
    BEING_HANDLED = "being_handled"
    PROVIDER_SHUT = "provider_shut"
    RATE = "rate"
    SPEND_CAP = "spend_cap"
    ANSWER = "answer"
    TROUBLE = "trouble"
    UNREADABLE = "unreadable"
    TURN = "turn"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why something has not been sent, and until when at the longest; without `until` nobody can say.

    `scheduled`: it was asked for a later time; `deferred`: a rule lets it wait; `paused`; `being_handled`: a process
    has it in hand; `provider_shut`: its breaker is open, or it asked for quiet; `rate`: used up for this moment;
    `spend_cap`: of the day; `answer`: the provider is asked again; `trouble`: of ours, see the logs; `unreadable`: by
    this release, or its person's key is missing; `turn`: others go first.
    """

    reason: WaitingFor
    until: datetime | None


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far the providers that serve something may be called: `shut` none, `spent` none at this very moment."""

    shut: bool
    shut_for: timedelta
    spent: bool


Reaching = Callable[[Channel, Lane], Awaitable[Reach]]


async def waiting(
    ledger: Ledger, stream: UUID, state: State, *, operations: Operations, reach: Reaching
) -> Waiting | None:
    """Say why it waits; None where nothing is to be sent: a retry, a doubt and an answer have times of their own."""
    if next_due(state) is None:
        return None
    requested = state.requested
    async with ledger.store.connection() as connection:
        row = await agenda.standing(connection, stream)
    if row is None:
        return None
    if row.due_at > row.now:
        return _by_time(state, row.now)
    may_be_sent = state.ended is None and not state.reached
    if may_be_sent and operations.holding(requested.type, requested.channel) is not None:
        return Waiting(reason=WaitingFor.PAUSED, until=None)
    return _by_row(row) or _by_reach(await reach(requested.channel, requested.lane), row.now)


def _by_time(state: State, now: datetime) -> Waiting | None:
    """Tell of what was never tried, because it is too early."""
    if state.attempts or state.ended:
        return None
    if state.deferred_until is not None:
        return Waiting(reason=WaitingFor.DEFERRED, until=state.deferred_until)
    send_at = state.requested.send_at
    return Waiting(reason=WaitingFor.SCHEDULED, until=send_at) if send_at is not None and send_at > now else None


def _by_row(row: Standing) -> Waiting | None:
    if row.lease_until > row.now:
        return Waiting(reason=WaitingFor.BEING_HANDLED, until=row.lease_until)
    if row.wait_until > row.now and row.waits_for in set(WaitsFor):
        return Waiting(reason=WaitingFor(row.waits_for), until=row.wait_until)
    return None


def _by_reach(reach: Reach, now: datetime) -> Waiting:
    """Tell of what nobody has looked at yet: none is claimed for a provider that may not be called."""
    if reach.shut:
        return Waiting(reason=WaitingFor.PROVIDER_SHUT, until=now + reach.shut_for if reach.shut_for else None)
    return Waiting(reason=WaitingFor.RATE if reach.spent else WaitingFor.TURN, until=None)
