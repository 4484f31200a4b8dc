"""A recovery: what the database remembers of having been restored to an earlier moment."""

from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection

# Whoever else of the service is connected here.
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name = current_setting('application_name')
"""
_NOW = "SELECT clock_timestamp()"
_BEGIN = "SELECT %(since)b::timestamptz, head, begun_at FROM ledger.begin_recovery(%(since)b)"
_KNOWN = """
SELECT %(since)b::timestamptz, coalesce(r.head, (SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events)),
       coalesce(r.begun_at, now())
FROM (SELECT) AS one LEFT JOIN ledger.recovery r ON r.since = %(since)b
"""
_END = "UPDATE ledger.recovery SET ended_at = now() WHERE since = %(since)b AND ended_at IS NULL"
_UNDER_WAY = "SELECT since FROM ledger.recovery WHERE ended_at IS NULL ORDER BY since LIMIT 1"
# A reader that has come further than the log goes on with what comes next; its view shows what is no more.
_READERS = """
UPDATE ledger.follower SET position = head
FROM (SELECT coalesce(max(notification_id), 0) AS head FROM ledger.stored_events) AS log
WHERE position > head RETURNING name
"""
# What was in the hands of processes that have never seen this database; it was no crash of theirs.
_LEASES = "UPDATE ledger.agenda SET owner = NULL, lease_until = '-infinity', claims = 0 WHERE owner IS NOT NULL"


class Recovery(msgspec.Struct, frozen=True):
    """What was sent since `since` is not known; the facts up to position `head` were restored."""

    since: datetime
    head: int
    begun_at: datetime


async def others(connection: AsyncConnection[Any]) -> int:
    """Count the connections that processes of the service have open on this database, but for this one."""
    ((count,),) = await (await connection.execute(_OTHERS)).fetchall()
    return int(count)


async def now(connection: AsyncConnection[Any]) -> datetime:
    """Return the database's time."""
    ((moment,),) = await (await connection.execute(_NOW, binary=True)).fetchall()
    return moment  # type: ignore[no-any-return]  # a column of time


async def begin(connection: AsyncConnection[Any], since: datetime) -> Recovery:
    """Remember that the database was restored, and leave out the positions that may have been given since."""
    ((*found,),) = await (await connection.execute(_BEGIN, {"since": since}, binary=True)).fetchall()
    return Recovery(*found)


async def look(connection: AsyncConnection[Any], since: datetime) -> Recovery:
    """Return the recovery that `begin` would, and change nothing."""
    ((*found,),) = await (await connection.execute(_KNOWN, {"since": since}, binary=True)).fetchall()
    return Recovery(*found)


async def end(connection: AsyncConnection[Any], recovery: Recovery) -> None:
    """Remember that it is over: from now on may be delivered."""
    await connection.execute(_END, {"since": recovery.since}, binary=True)


async def under_way(connection: AsyncConnection[Any]) -> datetime | None:
    """Return the moment of a recovery that has begun and not ended, None where there is none."""
    row = await (await connection.execute(_UNDER_WAY, binary=True)).fetchone()
    return row[0] if row else None


async def end_leases(connection: AsyncConnection[Any]) -> None:
    """Let nothing wait for processes that are no more."""
    await connection.execute(_LEASES)


async def set_readers_back(connection: AsyncConnection[Any]) -> list[str]:
    """Set the readers back that are ahead of the log; returns their names."""
    return [name for (name,) in await (await connection.execute(_READERS)).fetchall()]
