"""Weeks that are over: what still keeps them in the database, reading them whole, and dropping them.

The database itself refuses to drop what must not go; what is asked here says why before, for people.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection

from ledger.archive import Manifest
from ledger.errors import KeptError, UnavailableError
from ledger.ids import STANDING, begins_at, ids_of
from ledger.store import Row, Store

_WEEKS = """
SELECT now(), substring(inhrelid::regclass::text FROM '_([^_]+)$') AS week FROM pg_inherits
WHERE inhparent = 'ledger.stored_events'::regclass ORDER BY week
"""
# How a week stands: its facts by the chain and by the table, what is due, who has not read it, which content is kept.
_STANDS = r"""
SELECT coalesce(sum(c.facts), 0)::bigint, coalesce(max(c.last), 0),
       coalesce((array_agg(c.hash ORDER BY c.last DESC))[1], ''),
       (SELECT coalesce(max(e.notification_id), 0) FROM ledger.stored_events e
        WHERE e.originator_id BETWEEN %(first)b AND %(last)b),
       (SELECT count(*) FROM ledger.agenda a WHERE a.notification BETWEEN %(first)b AND %(last)b),
       (SELECT coalesce(min(f.position), 0) FROM ledger.follower f),
       ARRAY(SELECT split_part(i.inhrelid::regclass::text, '_', 2) FROM pg_inherits i
             JOIN pg_inherits classes ON classes.inhrelid = i.inhparent
             WHERE classes.inhparent = 'ledger.content'::regclass
               AND i.inhrelid::regclass::text LIKE '%%\_' || %(week)b ORDER BY 1)
FROM ledger.chain c WHERE c.week = %(week)b
"""
_FACTS = """
SELECT originator_id, originator_version, topic, state, notification_id, now() FROM ledger.stored_events
WHERE (originator_id, originator_version) > (%b, %b) AND originator_id BETWEEN %b AND %b AND notification_id <= %b
ORDER BY originator_id, originator_version LIMIT %b
"""
_DROP_WEEK = "SELECT ledger.drop_week(%s, %s, %s, %s)"
_DROP_CONTENT = "SELECT ledger.drop_content(%s, %s)"
_DROPPED_AT = "SELECT dropped_at FROM ledger.dropped_content WHERE class = %b AND week = %b"
_WEEK = timedelta(days=7)

# Lends a connection to who drops.
Lend = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """How a week stands in the database. `due` counts rows of the agenda, and so open attempts, doubts and holds."""

    name: str
    facts: int
    sealed: int
    chain: bytes
    newest: int
    due: int
    read: int
    contents: list[str]

    def kept_by(self, *, now: datetime, after: timedelta) -> list[str]:
        """Say what keeps it in the database; nothing when it may be archived."""
        reasons = {
            f"it is not over for {after.days} days": now - ended_at(self.name) < after,
            f"{self.due} of its notifications are still due": bool(self.due),
            f"content is still kept ({', '.join(self.contents)})": bool(self.contents),
            "its newest facts are not sealed": self.sealed != self.newest,
            "a reader of the log has not come so far": self.read < self.newest,
        }
        return [reason for reason, holds in reasons.items() if holds]


async def weeks(store: Store) -> tuple[datetime, list[str]]:
    """Return the database's time, and the weeks whose facts are in it, the oldest first."""
    async with store.connection() as connection:
        rows = await (await connection.execute(_WEEKS)).fetchall()
    return rows[0][0], [week for _, week in rows if week != STANDING]


async def stands(store: Store, week: str) -> Week:
    """Say how a week stands."""
    first, last = ids_of(week)
    async with store.connection() as connection:
        given: Mapping[str, Any] = {"week": week, "first": first, "last": last}
        ((facts, sealed, chain, newest, due, read, contents),) = await (
            await connection.execute(_STANDS, given, binary=True)
        ).fetchall()
    return Week(
        name=week, facts=facts, sealed=sealed, chain=chain, newest=newest, due=due, read=read, contents=contents
    )


async def facts_of(store: Store, week: Week, *, at_once: int) -> AsyncIterator[list[Row]]:
    """Read the sealed facts of a week, ordered by stream and version, so many at a time and each time anew.

    No snapshot is held: facts do not change, and `drop_week` refuses when one has come.
    """
    first, last = ids_of(week.name)
    after: tuple[UUID, int] = (UUID(int=0), 0)
    while True:
        async with store.connection() as connection:
            given = (*after, first, last, week.newest, at_once)
            rows = [Row(*row) for row in await (await connection.execute(_FACTS, given, binary=True)).fetchall()]
        if not rows:
            return
        yield rows
        after = (rows[-1].stream, rows[-1].version)


async def drop_week(store: Store, manifest: Manifest, *, lend: Lend | None = None) -> None:
    """Drop the facts of a week of which all lies in the archive, by the login of `lend` where there is one.

    Raises KeptError when the database refuses.
    """
    digest = bytes.fromhex(manifest.chain)
    await _drop(lend or store.connection, _DROP_WEEK, manifest.week, manifest.name, manifest.facts, digest)


async def drop_content(store: Store, retention: str, week: str) -> None:
    """Drop what was said, of a class and week. Raises KeptError when the database refuses."""
    await _drop(store.connection, _DROP_CONTENT, retention, week)


async def _drop(lend: Lend, statement: str, *given: object) -> None:
    async with lend() as connection:
        try:
            await connection.execute(statement, given)
        except psycopg.errors.RaiseException as exc:
            raise KeptError(exc.diag.message_primary or "the database refuses") from exc
        except psycopg.errors.InsufficientPrivilege as exc:
            raise KeptError("this login may not drop weeks: only that of ARCHIVE_DATABASE_URL may") from exc
        except psycopg.OperationalError as exc:
            raise UnavailableError("the database does not answer") from exc


async def dropped_at(store: Store, retention: str, week: str) -> datetime | None:
    """Return when the content of a class and week was dropped, None when it was not."""
    async with store.connection() as connection:
        row = await (await connection.execute(_DROPPED_AT, (retention, week), binary=True)).fetchone()
    return row[0] if row else None


def ended_at(week: str) -> datetime:
    """Return the moment in which a week was over."""
    return begins_at(week) + _WEEK
