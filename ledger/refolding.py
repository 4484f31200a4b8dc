"""A view beside the facts: the log is folded once more, into temporary tables, and both are compared (promise I11)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import follower
from ledger.errors import LedgerError
from ledger.follower import TABLES, View, decoded, facts_are_at_fault, look_in, prepare
from ledger.mapping import FactMapper
from ledger.ranges import Seen, ignored
from ledger.rebuilding import keep_archived, tables_in
from ledger.store import Store

# The temporary tables of a connection.
_OURS = "pg_temp"
_NOBODY_REBUILDS = "SELECT pg_try_advisory_lock_shared(hashtext('notification-ledger.rebuild'))"
_LET_REBUILD = "SELECT pg_advisory_unlock_shared(hashtext('notification-ledger.rebuild'))"
_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_READ = """
SELECT originator_id, originator_version, topic, state, notification_id FROM ledger.stored_events
WHERE notification_id > %b AND notification_id <= %b ORDER BY notification_id LIMIT %b
"""
# Each row as often as one side has it more often than the other.
_MORE = "SELECT count(*) FROM (SELECT * FROM {} EXCEPT ALL SELECT * FROM {}) AS more"
_OUR_SCHEMA = "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"
_AT_ONCE = 2_000
_TRIES = 3
_Row = tuple[UUID, int, str, bytes, int]


class Difference(msgspec.Struct, frozen=True):
    """A table of a view that is not the fold of the facts: rows that it lacks, and rows that it should not have.

    A row that is wrong counts as both.
    """

    table: str
    missing: int
    needless: int


class Unreadable(msgspec.Struct, frozen=True):
    """A stream that cannot be folded, and that the view has not parked."""

    stream: UUID
    what: str = "unreadable"


class _Log(msgspec.Struct):
    """How far the log is folded, and what is left out: streams, each from a position on."""

    left_out: dict[UUID, int]
    at: int = 0
    unreadable: list[UUID] = []


class BusyError(LedgerError):
    """A view cannot be compared now; the message says why."""


async def differing(store: Store, view: View, *, seen: Seen = ignored) -> list[Difference | Unreadable]:
    """Compare every table of a view; what the view has parked is left out as the view leaves it out.

    Raises BusyError while a view is rebuilt.
    """
    async with undisturbed(store) as connection:
        await prepare(connection, view)
        try:
            for _ in range(_TRIES):
                found = await _compared(connection, view, seen)
                if found is not None:
                    return found
        finally:
            await connection.execute("DISCARD TEMP")
    raise BusyError(f"streams of {view.name} are parked and unparked all the time: verify again")


@asynccontextmanager
async def undisturbed(store: Store) -> AsyncIterator[AsyncConnection[Any]]:
    """Lend a connection for as long as no view may change places: who compares would see one half of each.

    Raises BusyError while a view is rebuilt.
    """
    async with store.connection() as connection:
        ((nobody,),) = await (await connection.execute(_NOBODY_REBUILDS)).fetchall()
        if not nobody:
            raise BusyError("a view is being rebuilt: verify again when that is over")
        try:
            yield connection
        finally:
            await connection.execute(_LET_REBUILD)


async def _compared(connection: AsyncConnection[Any], view: View, seen: Seen) -> list[Difference | Unreadable] | None:
    """None when a stream was parked or unparked meanwhile: then all that was folded is of no use."""
    await connection.execute("DISCARD TEMP")
    async with connection.transaction():
        await look_in(connection, _OURS)
        await view.create(connection)
        await keep_archived(connection, view)
    position, parked = await follower.position(connection, view), await _parked(connection, view)
    log = _Log(dict(parked))
    while log.at < position:
        async with connection.transaction():
            await look_in(connection, _OURS)
            await _folded(connection, view, log, upto=position, seen=seen)
    ((ours,),) = await (await connection.execute(_OUR_SCHEMA)).fetchall()
    tables = await tables_in(connection, ours)
    async with connection.transaction():
        await connection.execute(_ONE_MOMENT)
        position = await follower.position(connection, view)
        if await _parked(connection, view) != parked:
            return None
        await look_in(connection, _OURS)
        while log.at < position:
            await _folded(connection, view, log, upto=position, seen=seen)
        compared = [await _difference(connection, table) for table in tables]
    return [*map(Unreadable, log.unreadable), *(one for one in compared if one.missing or one.needless)]


async def _folded(connection: AsyncConnection[Any], view: View, log: _Log, *, upto: int, seen: Seen) -> None:
    """Fold the next facts of the log, up to a position."""
    rows = await (await connection.execute(_READ, (log.at, upto, _AT_ONCE), binary=True)).fetchall()
    await _fold(connection, view, log, rows)
    seen(len(rows))
    log.at = rows[-1][4] if len(rows) == _AT_ONCE else upto


async def _fold(connection: AsyncConnection[Any], view: View, log: _Log, rows: Sequence[_Row]) -> None:
    """Fold a batch, bisected when its facts are at fault: what cannot be folded is left out from there on."""
    taken = [row for row in rows if row[4] < log.left_out.get(row[0], row[4] + 1)]
    if not taken:
        return
    try:
        async with connection.transaction():
            await view.fold(connection, decoded(_MAPPER, taken))
    except Exception as exc:
        if not facts_are_at_fault(exc):
            raise
    else:
        return
    if len(taken) == 1:
        stream, _, _, _, position = taken[0]
        log.left_out[stream] = position
        log.unreadable.append(stream)
        return
    middle = len(taken) // 2
    await _fold(connection, view, log, taken[:middle])
    await _fold(connection, view, log, taken[middle:])


async def _parked(connection: AsyncConnection[Any], view: View) -> dict[UUID, int]:
    return {one.stream: one.position for one in await follower.parked(connection, view)}


async def _difference(connection: AsyncConnection[Any], table: str) -> Difference:
    serving, ours = sql.Identifier(TABLES, table), sql.Identifier(_OURS, table)
    ((missing,),) = await (await connection.execute(sql.SQL(_MORE).format(ours, serving))).fetchall()
    ((needless,),) = await (await connection.execute(sql.SQL(_MORE).format(serving, ours))).fetchall()
    return Difference(table, missing, needless)


_MAPPER = FactMapper()
