"""What is due: claimed by competing workers, each row by one of them at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from ledger import arrays
from ledger.values import Channel, Lane

# Claim what is due, urgent lanes first; a claimed row belongs to its owner until the lease ends. Its commit does not
# wait for the disk: a claim that is lost with the server only makes the row claimable again, and facts decide anyway.
_CLAIM = """
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
due AS (
    SELECT c.notification FROM unnest(%(lanes)b::text[], %(most)b::int[]) WITH ORDINALITY AS l (lane, most, rank)
    CROSS JOIN LATERAL (
        SELECT a.notification, a.claimable_at FROM ledger.agenda a
        WHERE a.channel = %(channel)b AND a.lane = l.lane AND a.claimable_at <= now() AND a.claims = 0
        ORDER BY a.claimable_at LIMIT least(l.most, %(limit)b::int) FOR UPDATE SKIP LOCKED
    ) AS c
    ORDER BY l.rank, c.claimable_at LIMIT %(limit)b
)
UPDATE ledger.agenda a SET owner = %(owner)b, claims = a.claims + 1, lease_until = now() + %(lease)b
FROM due, relaxed WHERE a.notification = due.notification
RETURNING a.notification, a.claims, a.version, a.lane
"""
# Claim one row that was claimed before and not settled.
_CLAIM_AGAIN = """
UPDATE ledger.agenda SET owner = %(owner)b, claims = claims + 1, lease_until = now() + %(lease)b
WHERE notification = (
    SELECT notification FROM ledger.agenda
    WHERE channel = %(channel)b AND claims > 0 AND claimable_at <= now()
    ORDER BY claimable_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING notification, claims, version, lane
"""
# When the next row of a channel can be claimed, and whether one waits that was claimed before.
_NEXT = """
SELECT now(), min((
    SELECT claimable_at FROM ledger.agenda
    WHERE channel = %(channel)b AND lane = l.lane ORDER BY claimable_at LIMIT 1
)), EXISTS (SELECT FROM ledger.agenda WHERE channel = %(channel)b AND claims > 0 AND claimable_at <= now())
FROM unnest(%(lanes)b::text[]) AS l (lane)
"""
# Give rows back that this owner did not handle, not to be claimed before a time.
_WAIT = """
UPDATE ledger.agenda SET
    owner = NULL, claims = 0, lease_until = '-infinity', wait_until = now() + %(pause)b, waits_for = %(waits_for)b
WHERE notification = ANY(%(notifications)b) AND owner = %(owner)b
"""
# Give back what this owner holds beside what it has in hand: a reply got lost on the way, or the giving back did.
_GIVE_BACK_LOST = """
UPDATE ledger.agenda SET owner = NULL, claims = 0, lease_until = '-infinity'
WHERE owner = %(owner)b AND notification <> ALL(%(in_hand)b)
"""
# Let rows wait no longer, in the order of their ids from one on; returns the last of them.
_WAKE = """
WITH waiting AS (
    SELECT notification FROM ledger.agenda
    WHERE notification > %(after)b AND channel = %(channel)b AND wait_until > now()
    ORDER BY notification LIMIT %(limit)b FOR UPDATE SKIP LOCKED
), woken AS (
    UPDATE ledger.agenda a SET wait_until = '-infinity' FROM waiting WHERE a.notification = waiting.notification
)
SELECT notification FROM waiting ORDER BY notification DESC LIMIT 1
"""
# Where one row stands.
_STANDING = """
SELECT now(), due_at, greatest(wait_until, 'epoch'), waits_for, greatest(lease_until, 'epoch') FROM ledger.agenda
WHERE notification = %(notification)b
"""
# What is due of all that began before a position, in the order of ids.
_DUE_BEFORE = """
SELECT a.notification FROM ledger.agenda a
JOIN ledger.stored_events e ON e.originator_id = a.notification AND e.originator_version = 1
WHERE a.notification > %(after)b AND a.due_at <= now() AND e.notification_id <= %(head)b
ORDER BY a.notification LIMIT %(limit)b
"""
# How much is due, up to so many, for how long the oldest of them has been, and how much is in hand: by the indexes
# alone, for it is asked every few seconds of an agenda that may hold millions.
_DEPTH = """
SELECT channel, lane, ready.due, ready.oldest, in_hand.claimed
FROM unnest(%(channels)b::text[]) AS channel CROSS JOIN unnest(%(lanes)b::text[]) AS lane
CROSS JOIN LATERAL (
    SELECT count(*) AS due, coalesce(extract(epoch FROM now() - min(due_at)), 0)::float8 AS oldest FROM (
        SELECT a.due_at FROM ledger.agenda a
        WHERE a.channel = channel.channel AND a.lane = lane.lane AND a.claimable_at <= now()
        ORDER BY a.claimable_at LIMIT %(most)b
    ) AS first
) AS ready
CROSS JOIN LATERAL (
    SELECT count(*) AS claimed FROM ledger.agenda a
    WHERE a.channel = channel.channel AND a.lane = lane.lane AND a.claims > 0 AND a.lease_until > now()
) AS in_hand
"""
# Everything, and what is due of it: half a second for a million rows.
_SIZE = """
SELECT channel, lane, count(*), count(*) FILTER (WHERE claimable_at <= now()) FROM ledger.agenda GROUP BY channel, lane
"""
# Doubts that wait for a person: their window is over, and they are due only when nobody will have decided.
_HELD = """
SELECT a.notification, a.channel, (convert_from(e.state, 'UTF8')::json ->> 'until')::timestamptz AS since, a.due_at
FROM ledger.agenda a
JOIN ledger.stored_events e ON e.originator_id = a.notification AND e.originator_version = a.version
WHERE a.due_at > now() AND e.topic = 'notification.attempt_in_doubt'
  AND (convert_from(e.state, 'UTF8')::json ->> 'until')::timestamptz <= now()
ORDER BY since, a.notification LIMIT %(limit)b
"""
_LANES = arrays.Texts([lane.value for lane in Lane])
_CHANNELS = arrays.Texts([channel.value for channel in Channel])


class WaitsFor(StrEnum):
    """What a row that was given back unhandled waits for; `trouble` = something of ours went wrong."""

    PAUSED = "paused"
    PROVIDER_SHUT = "provider_shut"
    RATE = "rate"
    SPEND_CAP = "spend_cap"
    ANSWER = "answer"
    TROUBLE = "trouble"
    UNREADABLE = "unreadable"


class Standing(msgspec.Struct, frozen=True):
    """Where a row stands: a time that is over says nothing, nor does `waits_for` when `wait_until` is. Plain text, for
    a newer release may know more words.
    """

    now: datetime
    due_at: datetime
    wait_until: datetime
    waits_for: str | None
    lease_until: datetime


class Claim(msgspec.Struct, frozen=True):
    """A row that is ours until the lease ends; `claims` > 1 means that handling it ended a process before."""

    notification: UUID
    claims: int
    version: int
    lane: Lane


class Held(msgspec.Struct, frozen=True):
    """A notification that may have been sent and waits for a person to decide, until `ends_at` at the latest."""

    notification: UUID
    channel: str
    since: datetime
    ends_at: datetime


class Depth(msgspec.Struct, frozen=True):
    """What one channel and lane has to do; `claimed` is in somebody's hands, `oldest_due` is in seconds.

    `due` counts those that were due first, up to a limit; `oldest_due` is the oldest of them.
    """

    channel: str
    lane: str
    due: int
    oldest_due: float
    claimed: int


class Size(msgspec.Struct, frozen=True):
    """How many rows one channel and lane has, and how many of them are due."""

    channel: str
    lane: str
    rows: int
    due: int


async def claim(
    connection: AsyncConnection[Any],
    channel: Channel,
    most: Mapping[Lane, int],
    *,
    owner: UUID,
    limit: int,
    lease: timedelta,
) -> list[Claim]:
    """Take up to `limit` due rows of a channel that no process has ended with, of each lane at most so many; the first
    lane goes first.
    """
    given = {
        "lanes": arrays.Texts([lane.value for lane in most]),
        "most": arrays.Integers(list(most.values())),
        "channel": channel.value,
        "limit": limit,
        "owner": owner,
        "lease": lease,
    }
    return [_claim(row) for row in await (await connection.execute(_CLAIM, given, binary=True)).fetchall()]


async def claim_again(
    connection: AsyncConnection[Any], channel: Channel, *, owner: UUID, lease: timedelta
) -> Claim | None:
    """Take one due row that was claimed before and not settled: handling it may have ended that process.

    One at a time: what is not claimed is not charged, however often the one before it ends us.
    """
    given = {"channel": channel.value, "owner": owner, "lease": lease}
    row = await (await connection.execute(_CLAIM_AGAIN, given, binary=True)).fetchone()
    return _claim(row) if row else None


def _claim(row: tuple[UUID, int, int, str]) -> Claim:
    return Claim(*row[:3], Lane(row[3]))


class Next(msgspec.Struct, frozen=True):
    """The database's time, how long until a row can be claimed (None = there is none), and whether one waits that was
    claimed before.
    """

    now: datetime
    wait: timedelta | None
    again: bool


async def look_ahead(connection: AsyncConnection[Any], channel: Channel) -> Next:
    """Say what a channel waits for."""
    given = {"lanes": _LANES, "channel": channel.value}
    ((now, claimable_at, again),) = await (await connection.execute(_NEXT, given, binary=True)).fetchall()
    return Next(now, None if claimable_at is None else max(claimable_at - now, timedelta(0)), again)


async def wait(
    connection: AsyncConnection[Any],
    notifications: Sequence[UUID],
    *,
    owner: UUID,
    pause: timedelta,
    waits_for: WaitsFor,
) -> None:
    """Give rows back unhandled (a clean stop, our own waiting): not a crash, so `claims` goes to 0."""
    given = {
        "notifications": arrays.Uuids(notifications),
        "owner": owner,
        "pause": pause,
        "waits_for": waits_for.value,
    }
    await connection.execute(_WAIT, given, binary=True)


async def standing(connection: AsyncConnection[Any], notification: UUID) -> Standing | None:
    """Say where the row of a notification stands; None when it has none."""
    row = await (await connection.execute(_STANDING, {"notification": notification}, binary=True)).fetchone()
    return Standing(*row) if row else None


async def wake(connection: AsyncConnection[Any], channel: Channel, *, after: UUID, limit: int) -> UUID | None:
    """Let so many rows of a channel, from behind an id, wait no longer; returns where to go on, None at the end.

    Each is woken once, however soon it is made to wait again.
    """
    given = {"channel": channel.value, "after": after, "limit": limit}
    row = await (await connection.execute(_WAKE, given, binary=True)).fetchone()
    return row[0] if row else None


async def give_back_lost(connection: AsyncConnection[Any], *, owner: UUID, in_hand: Sequence[UUID]) -> None:
    """Give back all that is claimed for this owner and not in its hands; after trouble with the database."""
    await connection.execute(_GIVE_BACK_LOST, {"owner": owner, "in_hand": arrays.Uuids(in_hand)}, binary=True)


async def due_before(connection: AsyncConnection[Any], *, after: UUID, head: int, limit: int) -> list[UUID]:
    """Return the next notifications behind an id that are due and began at a position up to `head`."""
    given = {"after": after, "head": head, "limit": limit}
    return [stream for (stream,) in await (await connection.execute(_DUE_BEFORE, given, binary=True)).fetchall()]


async def depth(connection: AsyncConnection[Any], *, most: int) -> list[Depth]:
    """Look at what is due by channel and lane, at so many of each."""
    given = {"channels": _CHANNELS, "lanes": _LANES, "most": most}
    return [Depth(*row) for row in await (await connection.execute(_DEPTH, given, binary=True)).fetchall()]


async def sizes(connection: AsyncConnection[Any]) -> list[Size]:
    """Count the whole agenda by channel and lane, where there is anything."""
    return [Size(*row) for row in await (await connection.execute(_SIZE, binary=True)).fetchall()]


async def held(connection: AsyncConnection[Any], *, limit: int) -> list[Held]:
    """List what waits for a person, the longest waiting first."""
    return [Held(*row) for row in await (await connection.execute(_HELD, {"limit": limit}, binary=True)).fetchall()]
