"""A follower reads the log in order and folds it into a view (promise I11), or tells it to the outside (I14).

Its statements and what runs them stand in one file, because the fence between them (lease, position) is one thought.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from uuid import UUID, uuid4

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from ledger.errors import UnavailableError, UnknownTopicError, UntoldError
from ledger.mapping import FactMapper, Recorded
from ledger.signals import FACTS, Signals
from ledger.store import connect

# Where the tables of the views are that serve. What makes and fills tables names them without their schema.
TABLES = "views"
_TABLES_IN = "SELECT set_config('search_path', %b, true)"
# Two replicas that make the same view wait for each other here.
_LOCK_VIEWS = "SELECT pg_advisory_xact_lock(hashtext('views'))"
_BEGIN_AT_0 = "INSERT INTO ledger.follower (name, version) VALUES (%(name)b, %(version)b) ON CONFLICT DO NOTHING"
# Whoever makes sure of an index waits for those who write to its table. They hold this: so it comes first here, too.
_BE_FIRST = "SELECT FROM ledger.follower WHERE name = %(name)b AND version = %(version)b FOR UPDATE"
# Take the lease when nobody else holds it.
_TAKE = """
UPDATE ledger.follower SET owner = %(owner)b, lease_until = now() + %(lease)b
WHERE name = %(name)b AND version = %(version)b AND (lease_until < now() OR owner = %(owner)b)
RETURNING position
"""
# Move on and keep the lease, if it is still ours and nobody has moved meanwhile: compare and set, the fence.
_MOVE = """
UPDATE ledger.follower SET position = %(to)b, lease_until = now() + %(lease)b
WHERE name = %(name)b AND version = %(version)b AND owner = %(owner)b AND position = %(position)b
"""
_RELEASE = """
UPDATE ledger.follower SET owner = NULL, lease_until = '-infinity'
WHERE name = %(name)b AND version = %(version)b AND owner = %(owner)b
"""
# The next facts; positions follow commit order, so nothing appears behind what was read.
# A batch is bounded in bytes too: the first fact comes whatever its size.
_READ = """
SELECT originator_id, originator_version, topic, state, notification_id FROM (
    SELECT page.*, sum(octet_length(state)) OVER (ORDER BY notification_id) - octet_length(state) AS before FROM (
        SELECT * FROM ledger.stored_events WHERE notification_id > %b ORDER BY notification_id LIMIT %b
    ) AS page
) AS sized WHERE before < 16777216 ORDER BY notification_id
"""
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events"
_PARK = """
INSERT INTO ledger.parked (name, version, stream, position, reason)
VALUES (%(name)b, %(version)b, %(stream)b, %(at)b, %(reason)b)
"""
_PARKED = """
SELECT stream, position, reason, parked_at FROM ledger.parked
WHERE name = %(name)b AND version = %(version)b ORDER BY parked_at, stream
"""
# Take a stream off the list, and the lease from whoever runs the view: its memory of the list is now wrong.
_FENCE = """
UPDATE ledger.follower SET owner = NULL, lease_until = '-infinity'
WHERE name = %(name)b AND version = %(version)b RETURNING position
"""
_TAKE_BACK = """
DELETE FROM ledger.parked WHERE name = %(name)b AND version = %(version)b AND stream = %(stream)b RETURNING position
"""
# What a parked stream has missed.
_MISSED = """
SELECT originator_id, originator_version, topic, state, notification_id FROM ledger.stored_events
WHERE originator_id = %(stream)b AND notification_id BETWEEN %(from)b AND %(to)b ORDER BY originator_version
"""
_POSITION = "SELECT position FROM ledger.follower WHERE name = %(name)b AND version = %(version)b"
# How far behind a view is, with the first fact that it has not folded.
_LAG = """
SELECT now(), f.position,
       (SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events),
       (SELECT state FROM ledger.stored_events
        WHERE notification_id > f.position ORDER BY notification_id LIMIT 1),
       (SELECT count(*) FROM ledger.parked p WHERE p.name = f.name AND p.version = f.version)
FROM ledger.follower f WHERE f.name = %(name)b AND f.version = %(version)b
"""

BATCH = 1_000
LEASE = timedelta(seconds=10)
# Under load several facts of a notification come within this time and then cost one row together.
PACE = timedelta(milliseconds=100)
_POLL = 1.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LOOK_AGAIN = 0.01
# Time for a replica of a newer release to take over.
_STAND_BACK = 30.0
# Plans are kept for long: one that reads a whole table was made while the table was small, and gets slow as it grows.
# A frozen process must not keep the view's rows locked for longer than its lease. What a crash of the database takes
# back, it takes from rows and position alike, so a commit need not wait for the disk.
_SESSION = (
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=5s -c synchronous_commit=off "
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
)

_log = structlog.get_logger("ledger.follower")
_Row = tuple[UUID, int, str, bytes, int]


class Reader(Protocol):
    """Whoever reads the log in order, known by its name. Another version of it begins at the start of the log."""

    @property
    def name(self) -> str:
        """A word: it stands in metrics and logs."""

    @property
    def version(self) -> int:
        """A number from 1 on."""


class View(Reader, Protocol):
    """A fold of the log into tables of its own; rows and position commit together. Another shape is another version.

    Both methods name the tables without a schema: the connection's `search_path` says whether they are those that
    serve, or others that are filled beside them (ledger/rebuilding.py).
    """

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the tables unless they are there; called in a transaction, one caller at a time."""

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the tables up to date with facts in the order of the log; called in a transaction, none is repeated.

        An error that these facts cause is any but psycopg's operational and programming ones.
        """


@runtime_checkable
class Outlet(Reader, Protocol):
    """Tells what the log says to the outside, where no transaction reaches: at least once, and in order."""

    async def tell(self, facts: Sequence[Recorded], *, within: timedelta) -> int:
        """Tell facts in the order of the log; returns how many of them, from the first one on, have surely arrived.

        Any of them may be told again. It ends within this time. An error that these facts cause is any but
        UnavailableError, UnknownTopicError and OSError.
        """


class Place(msgspec.Struct, frozen=True):
    """A reader's name alone, for those who ask how far it has come."""

    name: str
    version: int


class Parked(msgspec.Struct, frozen=True):
    """A stream that a reader could not take in: it is left out from this position on. `reason` holds no values."""

    stream: UUID
    position: int
    reason: str
    parked_at: datetime


class Lag(msgspec.Struct, frozen=True):
    """How far a reader is behind the log, in positions and by the age of the first fact not taken in."""

    events: int
    age: timedelta
    parked: int


async def prepare(connection: AsyncConnection[Any], reader: View | Outlet, *, schema: str = TABLES) -> None:
    """Make a view's tables, and a reader's place in the log, unless they are there. Needs an autocommit connection."""
    async with connection.transaction():
        await connection.execute(_LOCK_VIEWS)
        await connection.execute(_BEGIN_AT_0, _named(reader))
        if not isinstance(reader, Outlet):
            await connection.execute(_BE_FIRST, _named(reader))
            await look_in(connection, schema)
            await reader.create(connection)


async def look_in(connection: AsyncConnection[Any], schema: str) -> None:
    """Take names of tables as those of a schema, until the transaction ends."""
    await connection.execute(_TABLES_IN, (schema,))


async def position(connection: AsyncConnection[Any], reader: Reader) -> int:
    """Return the last position that a reader has taken in, 0 when it has not begun."""
    row = await (await connection.execute(_POSITION, _named(reader), binary=True)).fetchone()
    return int(row[0]) if row else 0


async def parked(connection: AsyncConnection[Any], reader: Reader) -> list[Parked]:
    """List the streams that a reader leaves out, the longest parked first."""
    return [Parked(*row) for row in await (await connection.execute(_PARKED, _named(reader), binary=True)).fetchall()]


async def lag(connection: AsyncConnection[Any], reader: Reader) -> Lag:
    """Measure from the database, so that it is known also when no process runs the reader."""
    row = await (await connection.execute(_LAG, _named(reader), binary=True)).fetchone()
    if row is None:
        return Lag(0, timedelta(), 0)
    now, folded, head, waiting, left_out = row
    age = now - _decode_recorded_at(waiting).recorded_at if waiting is not None else timedelta()
    return Lag(max(0, head - folded), max(timedelta(), age), left_out)


async def unpark(connection: AsyncConnection[Any], view: View, stream: UUID) -> bool:
    """Fold what a parked stream has missed and take it off the list; False when it was not parked.

    Raises what the fold raises, and then nothing has changed. Needs an autocommit connection.
    """
    given = {**_named(view), "stream": stream}
    async with connection.transaction():
        moved = await (await connection.execute(_FENCE, given, binary=True)).fetchone()
        missing = await (await connection.execute(_TAKE_BACK, given, binary=True)).fetchone()
        if moved is None or missing is None:
            return False
        await look_in(connection, TABLES)
        between = {"stream": stream, "from": missing[0], "to": moved[0]}
        rows = await (await connection.execute(_MISSED, between, binary=True)).fetchall()
        await view.fold(connection, decoded(FactMapper(), rows))
    return True


class Follower:
    """Runs one view or outlet in this process whenever no other process does.

    `pace` is the least time between two batches that were not full.
    """

    def __init__(
        self,
        url: str,
        reader: View | Outlet,
        signals: Signals,
        *,
        mapper: FactMapper | None = None,
        batch: int = BATCH,
        lease: timedelta = LEASE,
        pace: timedelta = PACE,
    ) -> None:
        self._url = url
        self._reader = reader
        self._signals = signals
        self._mapper = mapper or FactMapper()
        self._batch = batch
        self._lease = lease
        self._pace = pace.total_seconds()
        self._given = {**_named(reader), "owner": uuid4(), "lease": lease}
        self._position = 0
        self._left_out: set[UUID] = set()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._run(), name=f"follower-{self._reader.name}")

    async def stop(self) -> None:
        """Finish the batch in hand, give up the lease, end."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    def use_url(self, url: str) -> None:
        """Open all further connections by this URL: the password has changed."""
        self._url = url

    # -- connection and lease -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            reached = self._position
            try:
                async with await connect(self._url, options=f"{_SESSION} -c search_path={TABLES}") as connection:
                    await prepare(connection, self._reader)
                    await self._follow(connection)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the view must not stand still for ever
                sqlstate = getattr(exc, "sqlstate", None)
                _log.warning("follower_lost", view=self._reader.name, error=type(exc).__name__, sqlstate=sqlstate)
                pause = _FIRST_PAUSE if self._position > reached else min(pause * 2, _LONGEST_PAUSE)
                await self._rest(asyncio.sleep(pause))

    async def _follow(self, connection: AsyncConnection[Any]) -> None:
        while not self._stopping.is_set():
            if not await self._take(connection):
                await self._rest(asyncio.sleep(_POLL))
                continue
            try:
                await self._lead_and_release(connection)
            except UnknownTopicError as exc:
                _log.error("follower_stands_back", view=self._reader.name, topic=exc.topic, position=self._position)
                await self._rest(asyncio.sleep(_STAND_BACK))

    async def _lead_and_release(self, connection: AsyncConnection[Any]) -> None:
        try:
            await self._lead(connection)
        finally:
            # Where the connection is gone, the lease ends by itself.
            with contextlib.suppress(psycopg.Error):
                await connection.execute(_RELEASE, self._given)

    async def _take(self, connection: AsyncConnection[Any]) -> bool:
        row = await (await connection.execute(_TAKE, self._given, binary=True)).fetchone()
        if row is None:
            return False
        self._position = row[0]
        self._left_out = {each.stream for each in await parked(connection, self._reader)}
        return True

    async def _lead(self, connection: AsyncConnection[Any]) -> None:
        """Follow until the lease is lost or a stop is asked for."""
        renew_at = time.monotonic()
        while not self._stopping.is_set():
            begun = time.monotonic()
            cursor = await connection.execute(_READ, (self._position, self._batch), binary=True)
            rows: list[_Row] = await cursor.fetchall()
            if rows or begun >= renew_at:
                if not await self._advance(connection, rows):
                    return
                renew_at = begun + self._lease.total_seconds() / 3
            if len(rows) < self._batch:
                await self._rest(
                    self._signals.wait(FACTS, min(_POLL, self._lease.total_seconds() / 3), by=self._reader.name)
                )
                await self._rest(asyncio.sleep(begun + self._pace - time.monotonic()))

    async def catch_up(
        self, connection: AsyncConnection[Any], *, upto: int | None = None, taken: Callable[[int], None] | None = None
    ) -> None:
        """Take in the log up to a position, or all that it holds now, on a connection of the caller's and once.

        `taken` hears of each batch, how many facts it was. Raises UnavailableError when another has the lease.
        """
        if not await self._take(connection):
            raise UnavailableError("another process has taken over")
        if upto is None:
            ((upto,),) = await (await connection.execute(_HEAD)).fetchall()
        while self._position < upto:
            cursor = await connection.execute(_READ, (self._position, self._batch), binary=True)
            rows: list[_Row] = await cursor.fetchall()
            if not await self._advance(connection, rows):
                raise UnavailableError("another process has taken over")
            if taken is not None:
                taken(len(rows))

    # -- one batch ----------------------------------------------------------------------------------------------

    async def _advance(self, connection: AsyncConnection[Any], rows: Sequence[_Row]) -> bool:
        """Take in a batch, bisected when its facts are at fault; False when another has the lease."""
        try:
            return await self._commit(connection, rows)
        except Exception as exc:
            if not facts_are_at_fault(exc):
                raise
            if len(rows) == 1:
                if isinstance(exc, UnknownTopicError):
                    raise
                return await self._park(connection, rows[0], exc)
        middle = len(rows) // 2
        return await self._advance(connection, rows[:middle]) and await self._advance(connection, rows[middle:])

    async def _commit(self, connection: AsyncConnection[Any], rows: Sequence[_Row]) -> bool:
        facts = decoded(self._mapper, [row for row in rows if row[0] not in self._left_out])
        to = rows[-1][4] if rows else self._position
        if facts and isinstance(self._reader, Outlet):
            return await self._tell(connection, self._reader, facts=facts, to=to)
        async with connection.transaction():
            # The fence comes first: of two that hold the same batch the second waits here, touches no row, and goes.
            if not await self._move(connection, to):
                return False
            if facts and not isinstance(self._reader, Outlet):
                await self._reader.fold(connection, facts)
        self._position = to
        return True

    async def _tell(
        self, connection: AsyncConnection[Any], outlet: Outlet, *, facts: Sequence[Recorded], to: int
    ) -> bool:
        """Tell first and move then, over what has arrived: a crash in between repeats some of it and loses nothing.

        No transaction is open meanwhile. The lease is renewed before, and outlives the telling: one tells at a time.
        """
        if not await self._move(connection, self._position):
            return False
        told = await outlet.tell(facts, within=self._lease / 2)
        arrived = to if told == len(facts) else (facts[told - 1].position if told else None) or self._position
        if not await self._move(connection, arrived):
            return False
        self._position = arrived
        if told < len(facts):
            raise UntoldError("not everything has arrived outside")
        return True

    async def _park(self, connection: AsyncConnection[Any], row: _Row, cause: Exception) -> bool:
        stream, _, topic, _, at = row
        reason = reason_of(topic, cause)
        async with connection.transaction():
            if not await self._move(connection, at):
                return False
            given = {**_named(self._reader), "stream": stream, "at": at, "reason": reason}
            await connection.execute(_PARK, given)
        _log.error("stream_parked", view=self._reader.name, notification_id=str(stream), position=at, reason=reason)
        self._position = at
        self._left_out.add(stream)
        return True

    async def _move(self, connection: AsyncConnection[Any], to: int) -> bool:
        given = {**self._given, "position": self._position, "to": to}
        return (await connection.execute(_MOVE, given)).rowcount == 1

    async def _rest(self, until: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, or for the stop."""
        waiting = [asyncio.ensure_future(until), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()


async def caught_up(connection: AsyncConnection[Any], reader: Reader, to: int, *, timeout: timedelta) -> bool:
    """Wait until a reader has taken in a position, whichever process runs it; False when that took too long."""
    give_up_at = time.monotonic() + timeout.total_seconds()
    while await position(connection, reader) < to:
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(_LOOK_AGAIN)
    return True


def facts_are_at_fault(exc: Exception) -> bool:
    """Tell a fault of the facts from one of the database, of its schema, or of this release's age."""
    if isinstance(exc, psycopg.Error):
        # 54: a value too long for an index; psycopg counts it among the operational errors.
        return isinstance(exc, psycopg.DataError | psycopg.IntegrityError) or (exc.sqlstate or "").startswith("54")
    return not isinstance(exc, UnavailableError | UntoldError | OSError)


def reason_of(topic: str, cause: Exception) -> str:
    """Say why a stream is parked, without values."""
    return " ".join(filter(None, (topic, type(cause).__name__, getattr(cause, "sqlstate", None))))


def decoded(mapper: FactMapper, rows: Sequence[_Row]) -> list[Recorded]:
    """Return facts as they are folded. Raises UnknownTopicError, or what a fact that cannot be read raises."""
    return [
        Recorded(stream, version, topic, mapper.decode(topic, state), at) for stream, version, topic, state, at in rows
    ]


def _named(reader: Reader) -> dict[str, Any]:
    return {"name": reader.name, "version": reader.version}


class _Recorded(msgspec.Struct):
    recorded_at: datetime


_decode_recorded_at = msgspec.json.Decoder(_Recorded).decode
