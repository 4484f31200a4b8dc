"""What else is told to whoever looks for a notification: conflicts of its message, and how far the lists reach."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from ledger import follower
from projections.notification_log import NotificationLog

# What is due of these, and whether a doubt waits for a person: the same that ledger.agenda calls held.
_DUE = """
SELECT a.notification, greatest(a.due_at, a.wait_until),
       a.due_at > now() AND coalesce(e.topic = 'notification.attempt_in_doubt'
           AND (convert_from(e.state, 'UTF8')::json ->> 'until')::timestamptz <= now(), false)
FROM ledger.agenda a
LEFT JOIN ledger.stored_events e ON e.originator_id = a.notification AND e.originator_version = a.version
WHERE a.notification = ANY(%b)
"""
# The message that each was asked for by, as the intake knows it.
_CAUSES = """
SELECT originator_id, convert_from(state, 'UTF8')::json ->> 'cause' FROM ledger.stored_events
WHERE originator_id = ANY(%b) AND originator_version = 1
"""
_CONFLICTS = """
SELECT key, conflicts, taken_at, last_conflict_at, notifications FROM ledger.intake
WHERE key = ANY(%b) AND conflicts > 0
"""
# Since when facts are in the database: since its oldest week, or since it is this installation's.
_SINCE = """
SELECT now(), greatest(
    (SELECT created_at FROM ledger.installation),
    (SELECT to_timestamp(substring(relname FROM '\\d{4}w\\d{2}$'), 'IYYY"w"IW') AT TIME ZONE 'UTC'
     FROM pg_inherits JOIN pg_class ON oid = inhrelid
     WHERE inhparent = 'ledger.stored_events'::regclass AND relname ~ '\\d{4}w\\d{2}$' ORDER BY relname LIMIT 1)
)
"""
_CAUSE = "intake:"


class Due(msgspec.Struct, frozen=True):
    """A notification is looked at again at a time; `held` = a doubt waits for a person until then."""

    at: datetime
    held: bool


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A message came again, so many times, with other content (promise I3): nothing was sent by it.

    `notifications` are those of the content that came first.
    """

    times: int
    taken_at: datetime
    last_at: datetime
    notifications: list[UUID]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How far what is searched reaches: from `since` on, but for what the list has not taken in yet.

    `view_events` are the positions that it is behind, `view_seconds` the age of the first, `parked` streams that it
    leaves out.
    """

    now: datetime
    since: datetime
    view_events: int
    view_seconds: float
    parked: int


async def due(connection: AsyncConnection[Any], notifications: Sequence[UUID]) -> Mapping[UUID, Due]:
    """Return those of some notifications that are still to be looked at."""
    if not notifications:
        return {}
    rows = await (await connection.execute(_DUE, (list(notifications),), binary=True)).fetchall()
    return {notification: Due(at, held) for notification, at, held in rows}


async def intake_keys(connection: AsyncConnection[Any], notifications: Sequence[UUID]) -> set[bytes]:
    """Return the keys of the messages that some notifications were asked for by."""
    if not notifications:
        return set()
    rows = await (await connection.execute(_CAUSES, (list(notifications),), binary=True)).fetchall()
    return {bytes.fromhex(cause.removeprefix(_CAUSE)) for _, cause in rows if cause.startswith(_CAUSE)}


async def conflicts(connection: AsyncConnection[Any], keys: Collection[bytes]) -> list[Conflict]:
    """Return which of these messages came again with other content, the last one first."""
    if not keys:
        return []
    rows = await (await connection.execute(_CONFLICTS, (list(keys),), binary=True)).fetchall()
    found = [
        Conflict(times=times, taken_at=taken_at, last_at=last_at, notifications=notifications)
        for _, times, taken_at, last_at, notifications in rows
    ]
    return sorted(found, key=lambda one: one.last_at, reverse=True)


async def reach(connection: AsyncConnection[Any]) -> Reach:
    """Say how far the list reaches."""
    ((now, since),) = await (await connection.execute(_SINCE)).fetchall()
    lag = await follower.lag(connection, NotificationLog())
    return Reach(now=now, since=since, view_events=lag.events, view_seconds=lag.age.total_seconds(), parked=lag.parked)
