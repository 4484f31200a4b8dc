"""A view is made anew beside the one that serves, and then takes its place; one at a time (promise I12).

It is filled in tables of the same names, in a schema of their own: first, where the view can, with the rows of whole
streams, then as a follower fills it. One short transaction exchanges the tables. What a process leaves behind that was
ended half way is cleared before the next one begins, or by `maintain`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection, sql

from ledger import follower
from ledger.errors import LedgerError, UnavailableError, UnknownTopicError
from ledger.follower import TABLES, Follower, View, decoded, facts_are_at_fault, look_in, prepare, reason_of
from ledger.ids import begins_at
from ledger.mapping import FactMapper, Recorded
from ledger.signals import Signals
from ledger.store import connect

# The tables that are filled, and those that have served, until they are dropped.
ANEW, GONE = "views_anew", "views_gone"
_ANEW = "_anew"
# Held by whoever rebuilds; who clears takes it for the length of a transaction.
_BE_ALONE = "SELECT pg_try_advisory_lock(hashtext('notification-ledger.rebuild'))"
_NOBODY_REBUILDS = "SELECT pg_try_advisory_xact_lock(hashtext('notification-ledger.rebuild'))"
# A reader that reads nothing keeps every week in the database while there is a rebuild: what is filled at the beginning
# must not be archived before the end.
_KEEP_WEEKS = "INSERT INTO ledger.follower (name, version) VALUES ('rebuild', 0)"
# Whoever drops a week holds this until it is dropped, and has looked at the readers before.
_NO_WEEK_GOES = "SELECT pg_advisory_xact_lock(hashtext('ledger.append'))"
_LEFT_BEHIND = """
SELECT n.nspname, c.relname, c.relkind = 'v' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('views_anew', 'views_gone') AND c.relkind IN ('r', 'v') ORDER BY c.relkind DESC, 1, 2
"""
_PLACES_LEFT_BEHIND = r"DELETE FROM ledger.{} WHERE name LIKE '%\_anew' OR name = 'rebuild'"
_ARCHIVED = "SELECT week FROM ledger.archived_week ORDER BY week"
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events"
_HOW_MANY = "SELECT count(*) FROM ledger.stored_events WHERE notification_id <= %b"
# Whole streams, a page at a time, and each time anew: facts do not change, and no snapshot is held.
_FACTS = """
SELECT originator_id, originator_version, topic, state, notification_id FROM ledger.stored_events
WHERE originator_id >= %(stream)b AND (originator_id, originator_version) > (%(stream)b, %(version)b)
  AND originator_id < 'f0000000-0000-0000-0000-000000000000' AND notification_id <= %(head)b
ORDER BY originator_id, originator_version LIMIT %(limit)b
"""
_PARK = """
INSERT INTO ledger.parked (name, version, stream, position, reason)
VALUES (%(name)b, %(version)b, %(stream)b, %(at)b, %(reason)b)
"""
_COPIED = "UPDATE ledger.follower SET position = %(head)b WHERE name = %(name)b AND version = %(version)b"
_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = %b::text::regnamespace AND relkind = %b::text::"char" ORDER BY relname
"""
# What an index is made by: keys first, and what enforces one goes by its constraint.
_INDEXES = """
SELECT t.relname, c.relname, k.conname, coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
WHERE t.relnamespace = %b::text::regnamespace AND t.relkind = 'r' ORDER BY t.relname, i.indisprimary DESC, c.relname
"""
# The SQL views that show tables of a schema, with what they say.
_SHOWN_BY = """
SELECT DISTINCT v.relname, pg_get_viewdef(v.oid)
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
JOIN pg_class t ON t.oid = d.refobjid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
  AND v.relkind = 'v' AND v.relnamespace = 'views'::regnamespace
  AND t.relnamespace = 'views'::regnamespace AND t.relname = ANY(%b) ORDER BY 1
"""
# The follower of the view that serves waits here; what it remembers of its place and of parked streams is then wrong.
_FENCE = "SELECT position FROM ledger.follower WHERE name = %(name)b AND version = %(version)b FOR UPDATE"
_TAKE_PLACE = """
UPDATE ledger.follower f SET position = a.position, owner = NULL, lease_until = '-infinity' FROM ledger.follower a
WHERE f.name = %(name)b AND f.version = %(version)b AND a.name = %(anew)b AND a.version = f.version
"""
_LEAVE_PLACE = "DELETE FROM ledger.follower WHERE name = %(anew)b AND version = %(version)b"
_UNPARK_ALL = "DELETE FROM ledger.parked WHERE name = %(name)b AND version = %(version)b"
_PARK_ALL = "UPDATE ledger.parked SET name = %(name)b WHERE name = %(anew)b AND version = %(version)b"
_LOCK_WAIT = "SELECT set_config('lock_timeout', %b, true)"
# A process that freezes while it holds the tables must not keep readers waiting.
_NO_FREEZE = "SELECT set_config('idle_in_transaction_session_timeout', '5s', true)"

BATCH = 5_000
_PAGE = 4_000
# Whoever asks meanwhile waits behind us, so at first we wait for tables for less than anybody notices. What gives way
# only to who has waited for a second (autovacuum does) is then waited for longer.
_PATIENCE = (*["200ms"] * 10, "2s")
_FENCE_PATIENCE = "5s"
_PAUSE = 0.5
_SESSION = (
    f"-c search_path={ANEW} -c statement_timeout=60min -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s "
    "-c synchronous_commit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c maintenance_work_mem=256MB"
)


class RebuildingError(LedgerError):
    """A view cannot be made anew now; the message says why."""


@runtime_checkable
class Copied(View, Protocol):
    """A view whose rows belong to one notification each, so that they can be made of all its facts at once."""

    async def copy(self, connection: AsyncConnection[Any], streams: Sequence[Sequence[Recorded]]) -> None:
        """Add the rows of notifications, each given with all its facts, to tables that have none of them.

        Called in a transaction. The tables have no indexes yet. An error that these facts cause is as of `fold`.
        """


@runtime_checkable
class Lasting(View, Protocol):
    """A view whose rows outlive their facts: those of archived weeks cannot be folded anew, so they are kept."""

    async def keep(self, connection: AsyncConnection[Any], since: datetime, until: datetime) -> None:
        """Copy the rows of notifications made in this time from `views` into the same tables, found by their names."""


class Progress(msgspec.Struct, frozen=True):
    """How far a rebuild is: `done` of about `of` facts."""

    done: int
    of: int


class Rebuilt(msgspec.Struct, frozen=True):
    """What was made anew: of how many facts, and how many streams are parked since."""

    view: str
    facts: int
    parked: int


Told = Callable[[Progress], None]
Waits = Callable[[], None]
_Row = tuple[UUID, int, str, bytes, int]


class Anew:
    """A view while it is made anew: the same fold under another name (ledger.follower.View)."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.name = f"{view.name}{_ANEW}"
        self.version = view.version

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the tables unless they are there."""
        await self._view.create(connection)

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the tables up to date."""
        await self._view.fold(connection, facts)


async def rebuild(url: str, view: View, *, told: Told, waits: Waits, batch: int = BATCH) -> Rebuilt:
    """Make a view anew and let it take the place of the one that serves; `waits` hears when something keeps it busy.

    Raises RebuildingError while another one is under way, UnknownTopicError when the log holds facts of a newer
    release, UnavailableError when the connection is lost: then all is to be done again, and nothing has changed.
    """
    try:
        async with await connect(url, options=_SESSION) as connection:
            return await _rebuild(connection, url, view, told=told, waits=waits, batch=batch)
    except psycopg.OperationalError as exc:
        raise UnavailableError("the connection to the database was lost: nothing has changed, begin again") from exc


async def _rebuild(
    connection: AsyncConnection[Any], url: str, view: View, *, told: Told, waits: Waits, batch: int
) -> Rebuilt:
    await _begin(connection, view)
    anew = Anew(view)
    filling = Follower(url, anew, Signals(url), batch=batch)
    ((head,),) = await (await connection.execute(_HEAD)).fetchall()
    ((of,),) = await (await connection.execute(_HOW_MANY, (head,), binary=True)).fetchall()
    done = 0

    def taken(facts: int) -> None:
        nonlocal done
        done += facts
        told(Progress(done, max(of, done)))

    if isinstance(view, Copied):
        await _copy(connection, url, view, anew=anew, head=head, taken=taken)
    await filling.catch_up(connection, taken=taken)
    for table in await tables_in(connection, ANEW):
        await connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(ANEW, table)))
    for patience in _patience(waits):
        await filling.catch_up(connection, taken=taken)
        if await _exchange(connection, view, anew, filling=filling, patience=patience):
            break
        await asyncio.sleep(_PAUSE)
    left_out = await follower.parked(connection, view)
    await clear(connection)
    return Rebuilt(view.name, done, len(left_out))


async def _begin(connection: AsyncConnection[Any], view: View) -> None:
    ((alone,),) = await (await connection.execute(_BE_ALONE)).fetchall()
    if not alone:
        raise RebuildingError("another rebuild, or `verify`, is under way: one at a time")
    await clear(connection)
    await connection.execute(_KEEP_WEEKS)
    await connection.execute(_NO_WEEK_GOES)
    await prepare(connection, view)
    await prepare(connection, Anew(view), schema=ANEW)
    if not await tables_in(connection, ANEW):
        raise RebuildingError(f"{view.name} has no tables of its own")
    async with connection.transaction():
        await look_in(connection, ANEW)
        await keep_archived(connection, view)


async def keep_archived(connection: AsyncConnection[Any], view: View) -> None:
    """Copy the rows that no fact in the database answers for any more into the tables that names mean here."""
    if isinstance(view, Lasting):
        for (week,) in await (await connection.execute(_ARCHIVED)).fetchall():
            await view.keep(connection, begins_at(week), begins_at(week) + timedelta(days=7))


async def clear(connection: AsyncConnection[Any]) -> bool:
    """Drop what a rebuild has left behind that came to no end; False while one is under way. Needs autocommit."""
    async with connection.transaction():
        ((nobody,),) = await (await connection.execute(_NOBODY_REBUILDS)).fetchall()
        if not nobody:
            return False
        for schema, name, only_shows in await (await connection.execute(_LEFT_BEHIND)).fetchall():
            what = sql.SQL("VIEW" if only_shows else "TABLE")
            await connection.execute(sql.SQL("DROP {} IF EXISTS {}").format(what, sql.Identifier(schema, name)))
        for places in ("parked", "follower"):
            await connection.execute(sql.SQL(_PLACES_LEFT_BEHIND).format(sql.Identifier(places)))
    return True


async def tables_in(connection: AsyncConnection[Any], schema: str, kind: str = "r") -> list[str]:
    """Name the tables of a schema, or what else is of a kind (pg_class.relkind)."""
    return [name for (name,) in await (await connection.execute(_TABLES, (schema, kind))).fetchall()]


# ---------------------------------------------------------------------------------------------------------------
# Whole streams at once
# ---------------------------------------------------------------------------------------------------------------


async def _copy(
    connection: AsyncConnection[Any],
    url: str,
    view: Copied,
    *,
    anew: Anew,
    head: int,
    taken: Callable[[int], None],
) -> None:
    """Fill the tables with the rows of all notifications as they were at a position of the log."""
    indexes = await (await connection.execute(_INDEXES, (ANEW,))).fetchall()
    for table, index, constraint, _ in indexes:
        drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(index))
        await connection.execute(drop if constraint else sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
    async for streams in _streams(url, head):
        await _copy_or_park(connection, view, anew, streams)
        taken(sum(len(rows) for rows in streams))
    for table, index, constraint, definition in indexes:
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            sql.Identifier(table), sql.Identifier(index), sql.SQL(definition)
        )
        await connection.execute(add if constraint else sql.SQL(definition))
    await connection.execute(_COPIED, {"name": anew.name, "version": anew.version, "head": head})


async def _streams(url: str, head: int) -> AsyncIterator[list[list[_Row]]]:
    """Yield notifications with all their facts up to a position; the database reads on while these are folded."""
    begun: list[_Row] = []
    async with await connect(url) as connection:
        reading = asyncio.create_task(_page(connection, (UUID(int=0), 0), head))
        try:
            while rows := await reading:
                reading = asyncio.create_task(_page(connection, rows[-1][:2], head))
                # The question leaves now, not when all is folded.
                await asyncio.sleep(0)
                streams = [list(its) for _, its in groupby(chain(begun, rows), key=itemgetter(0))]
                # The last one may go on.
                begun = streams.pop()
                yield streams
        finally:
            reading.cancel()
    if begun:
        yield [begun]


async def _page(connection: AsyncConnection[Any], after: tuple[UUID, int], head: int) -> list[_Row]:
    given = {"stream": after[0], "version": after[1], "head": head, "limit": _PAGE}
    return await (await connection.execute(_FACTS, given, binary=True)).fetchall()


async def _copy_or_park(
    connection: AsyncConnection[Any], view: Copied, anew: Anew, streams: Sequence[Sequence[_Row]]
) -> None:
    """Add notifications, bisected when their facts are at fault."""
    if not streams:
        return
    try:
        async with connection.transaction():
            await view.copy(connection, [decoded(_MAPPER, rows) for rows in streams])
    except Exception as exc:
        if not facts_are_at_fault(exc):
            raise
    else:
        return
    if len(streams) == 1:
        await _fold_or_park(connection, view, anew, streams[0])
        return
    middle = len(streams) // 2
    await _copy_or_park(connection, view, anew, streams[:middle])
    await _copy_or_park(connection, view, anew, streams[middle:])


async def _fold_or_park(connection: AsyncConnection[Any], view: View, anew: Anew, rows: Sequence[_Row]) -> None:
    """Fold one notification fact by fact, up to the one that is at fault."""
    for row in rows:
        stream, _, topic, _, at = row
        try:
            async with connection.transaction():
                await view.fold(connection, decoded(_MAPPER, [row]))
        except Exception as exc:
            if not facts_are_at_fault(exc) or isinstance(exc, UnknownTopicError):
                raise
            given = {"name": anew.name, "version": anew.version, "stream": stream, "at": at}
            await connection.execute(_PARK, {**given, "reason": reason_of(topic, exc)})
            return


# ---------------------------------------------------------------------------------------------------------------
# The exchange
# ---------------------------------------------------------------------------------------------------------------


def _patience(waits: Waits) -> Iterator[str]:
    """Yield how long to wait for tables, for ever; from the first long wait on somebody hears of it."""
    yield from _PATIENCE
    while True:
        waits()
        yield _PATIENCE[-1]


async def _exchange(
    connection: AsyncConnection[Any], view: View, anew: Anew, *, filling: Follower, patience: str
) -> bool:
    """Put the new tables in the place of those that serve, at the very position that these are at, or behind it.

    False when somebody uses them for longer than the patience lasts: then nothing has changed.
    """
    given = {"name": view.name, "anew": anew.name, "version": view.version}
    try:
        async with connection.transaction():
            await connection.execute(_NO_FREEZE)
            await connection.execute(_LOCK_WAIT, (_FENCE_PATIENCE,))
            ((position,),) = await (await connection.execute(_FENCE, given, binary=True)).fetchall()
            await filling.catch_up(connection, upto=position)
            await connection.execute(_LOCK_WAIT, (patience,))
            await _change_places(connection)
            for statement in (_TAKE_PLACE, _LEAVE_PLACE, _UNPARK_ALL, _PARK_ALL):
                await connection.execute(statement, given)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    return True


async def _change_places(connection: AsyncConnection[Any]) -> None:
    """Exchange the tables, and have SQL views show the new ones: what they say is kept, by the tables' names."""
    await look_in(connection, TABLES)
    tables = await tables_in(connection, ANEW)
    shown = await (await connection.execute(_SHOWN_BY, (tables,))).fetchall()
    for name in await tables_in(connection, ANEW, "v"):
        await connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(ANEW, name)), prepare=False)
    # In the order of whoever reads: first what shows a table, then the table.
    served = [sql.Identifier(TABLES, name) for name in (*(name for name, _ in shown), *tables)]
    lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(served))
    await connection.execute(lock, prepare=False)
    move = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
    for table in tables:
        for here, there in ((TABLES, GONE), (ANEW, TABLES)):
            statement = move.format(sql.Identifier(here, table), sql.Identifier(there))
            await connection.execute(statement, prepare=False)
    for name, text in shown:
        show = sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(sql.Identifier(TABLES, name)) + sql.SQL(text)
        await connection.execute(show, prepare=False)


_MAPPER = FactMapper()
