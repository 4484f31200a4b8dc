"""The ledger's tables in Postgres: append decisions, load streams, read in order.

A third of it are the statements and the 34 columns of `append_1`, which are read beside the code that sends them.
"""

import select
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from ledger import arrays
from ledger.decision import AgendaRow, Reference, Take
from ledger.errors import (
    LedgerError,
    NotCommittedError,
    OutcomeUnknownError,
    Refusal,
    UnavailableError,
    UnstorableError,
)
from ledger.ids import is_standing

# Append a batch of decisions, each whole or not at all.
_APPEND = """
SELECT refused, reasons FROM ledger.append_1(
    %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b,
    %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b
)
"""
# All facts of some streams, in order, with the time of the database.
_LOAD = """
SELECT originator_id, originator_version, topic, state, notification_id, now() FROM ledger.stored_events
WHERE originator_id = ANY(%b) ORDER BY originator_id, originator_version
"""
# The same, and what one more stream has that is not known yet.
_LOAD_AND_NEWER = """
SELECT originator_id, originator_version, topic, state, notification_id, now() FROM ledger.stored_events
WHERE originator_id = ANY(%b)
UNION ALL
SELECT originator_id, originator_version, topic, state, notification_id, now() FROM ledger.stored_events
WHERE originator_id = %b AND originator_version > %b
ORDER BY originator_id, originator_version
"""
# What some streams have behind a version, each its own.
_LOAD_NEWER = """
SELECT originator_id, originator_version, topic, state, notification_id, now()
FROM unnest(%b::uuid[], %b::bigint[]) AS known (stream, version)
JOIN ledger.stored_events ON originator_id = stream AND originator_version > version
ORDER BY originator_id, originator_version
"""
# The log from a position on; positions follow commit order, so nothing appears behind what was read.
# A page is bounded in bytes too: the first fact comes whatever its size.
_READ = """
SELECT originator_id, originator_version, topic, state, notification_id, now() FROM (
    SELECT page.*, sum(octet_length(state)) OVER (ORDER BY notification_id) - octet_length(state) AS before FROM (
        SELECT * FROM ledger.stored_events WHERE notification_id > %b ORDER BY notification_id LIMIT %b
    ) AS page
) AS sized WHERE before < 16777216 ORDER BY notification_id
"""
# What is known of some intake keys, with the time of the database.
_TAKEN = """
SELECT now(), k.key, i.body_hash, i.notifications, i.taken_at FROM unnest(%b::bytea[]) AS k (key)
LEFT JOIN ledger.intake i USING (key)
"""
# What Postgres says when it certainly did not commit: cancelled, lock timeout, serialisation, deadlock, no resources,
# read-only (a failover).
_READ_ONLY = "25006"
_NOT_COMMITTED = ("57014", "55P03", "40001", "40P01", "53", _READ_ONLY)
# What it says when nobody can know: the connection broke, the server shut down or was taken over.
_UNKNOWN = ("08", "57P0")
# Rows of the intake that no message may meet any more: messages older than 90 days are refused.
_PURGE_INTAKE = """
WITH old AS (SELECT ctid FROM ledger.intake WHERE taken_at < now() - interval '91 days' LIMIT 10000)
DELETE FROM ledger.intake WHERE ctid = ANY(ARRAY(SELECT ctid FROM old))
"""
_PURGE_REFERENCES = """
WITH old AS (
    SELECT ctid FROM ledger.provider_reference WHERE recorded_at < now() - interval '91 days' LIMIT 10000
)
DELETE FROM ledger.provider_reference WHERE ctid = ANY(ARRAY(SELECT ctid FROM old))
"""
# What is counted of a person says in its key how many seconds its window has: a day after its end nobody asks for it.
# What was spent is shown for longer.
_PURGE_QUOTA = """
DELETE FROM ledger.quota WHERE window_start < now() - CASE
    WHEN key LIKE 'spend:%' THEN interval '91 days'
    ELSE make_interval(days => 1, secs => split_part(key, ':', 2)::double precision)
END
"""
# What is used of some quotas, each in a window.
_USED = """
SELECT key, used FROM ledger.quota JOIN unnest(%b::text[], %b::timestamptz[]) AS asked (key, window_start)
USING (key, window_start)
"""
_MAKE_WEEKS = "SELECT ledger.make_weeks()"
_LOCK = "SELECT pg_try_advisory_lock(hashtext(%s))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext(%s))"
_INSTALLATION = "SELECT name, identity_key FROM ledger.installation"
# Whether a new position would be a new one: after a restore the sequence may lie behind what it has given.
_SEQUENCE = """
SELECT last_value >= (SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events)
FROM ledger.stored_events_notification_id_seq
"""
_NOW = "SELECT clock_timestamp()"
_CONTENT = "SELECT body FROM ledger.content WHERE class = %b AND notification = %b AND digest = %b"
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events"


# Every statement of the service is meant to go by an index. A plan that was made while a table was empty, and is kept
# for the connection's life, must not read the whole table once it is full (measured: 6 ms for 50 keys among 4,000).
# Compiling a plan costs more than any of them runs.
_BY_INDEX = "-c enable_seqscan=off -c jit=off"
# A network that swallows packets is noticed within half a minute, not when the system gives up after two hours.
_NETWORK: dict[str, Any] = {
    "application_name": "notification-ledger",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


# How long a caller waits for a connection, in seconds.
_PATIENCE = 10.0
# Is told how many seconds an operation took: `wait`, `query` or `append`.
Timed = Callable[[str, float], None]


def untimed(_operation: str, _seconds: float) -> None:
    """Nobody wants to know."""


class Row(msgspec.Struct, frozen=True):
    """A stored fact as it lies there; `now` is the database's time of the reading."""

    stream: UUID
    version: int
    topic: str
    state: bytes
    position: int
    now: datetime


class Taken(msgspec.Struct, frozen=True):
    """What the intake knows of a key."""

    body_hash: bytes
    notifications: list[UUID]
    taken_at: datetime


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it is stored.

    Facts are (stream, version, topic, state), contents (class, notification, digest, sealed body).
    """

    facts: Sequence[tuple[UUID, int, str, bytes]] = ()
    guards: Sequence[tuple[UUID, int]] = ()
    intake: tuple[bytes, bytes] | None = None
    takes: Sequence[Take] = ()
    contents: Sequence[tuple[str, UUID, bytes, bytes]] = ()
    references: Sequence[Reference] = ()
    agenda: Sequence[AgendaRow] = ()

    @property
    def size(self) -> int:
        """Bytes of facts and contents."""
        return sum(len(fact[3]) for fact in self.facts) + sum(len(content[3]) for content in self.contents)


async def connect(url: str, *, options: str = "") -> AsyncConnection[Any]:
    """Open an autocommit connection that knows the column types; `options` are the server's (`-c name=value`).

    Raises UnavailableError when the database does not answer.
    """
    try:
        connection = await AsyncConnection.connect(url, autocommit=True, options=f"{_BY_INDEX} {options}", **_NETWORK)
    except psycopg.OperationalError as exc:
        raise UnavailableError("the database does not take connections") from exc
    configure(connection)
    return connection


def configure(connection: AsyncConnection[Any]) -> None:
    """Prepare every statement at its first use, and send columns as binary arrays."""
    connection.prepare_threshold = 0
    arrays.register(connection.adapters)


def make_pool(url: str, *, size: int) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """Make a pool of reading connections; it is opened by its user. What a restart has ended is lent to nobody."""

    async def configured(connection: AsyncConnection[Any]) -> None:
        configure(connection)

    async def check(connection: AsyncConnection[Any]) -> None:
        if not _has_news(connection):
            return
        try:
            await pool.check_connection(connection)
        except psycopg.Error:
            await pool.check()  # what has ended one has most likely ended the others
            raise

    pool = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        configure=configured,
        check=check,
        kwargs={"autocommit": True, "options": _BY_INDEX, **_NETWORK},
        timeout=_PATIENCE,
        # The pauses between its tries double; a database that is back must not wait for the last of them to end.
        reconnect_timeout=_PATIENCE,
    )
    return pool


def _has_news(connection: AsyncConnection[Any]) -> bool:
    """Whether something waits to be read on an idle connection: mostly its end.

    It asks the kernel (1 µs), where a question to the server would cost each use of a connection a round trip.
    """
    news = select.poll()
    news.register(connection.fileno(), select.POLLIN)
    return bool(news.poll(0))


class Store:
    """Reads through a pool; appends on one connection of its own, so that a batch is never held up by readers."""

    def __init__(self, url: str, pool: AsyncConnectionPool[AsyncConnection[Any]], *, timed: Timed = untimed) -> None:
        self._url = url
        self._pool = pool
        self._timed = timed
        self._appender: AsyncConnection[Any] | None = None

    def use_url(self, url: str) -> None:
        """Open all further connections by this URL: the password has changed."""
        self._url = self._pool.conninfo = url

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection for working tables."""
        asked_at = time.monotonic()
        try:
            async with self._pool.connection() as connection:
                self._timed("wait", time.monotonic() - asked_at)
                try:
                    with self._timing("query"):
                        yield connection
                except psycopg.errors.ReadOnlySqlTransaction:
                    await connection.close()  # the old primary: the pool is to look for the new one
                    raise
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as exc:
            # InternalError: above all a server that has become read-only, as in a failover.
            raise UnavailableError("the database does not answer") from exc

    @contextmanager
    def _timing(self, operation: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._timed(operation, time.monotonic() - began)

    async def appender(self) -> AsyncConnection[Any]:
        """Return the appending connection, opened anew when it was lost."""
        if self._appender is None or self._appender.closed:
            self._appender = await connect(self._url, options="-c statement_timeout=10s -c lock_timeout=5s")
        return self._appender

    async def append(self, decisions: Sequence[Encoded]) -> dict[int, Refusal]:
        """Store a batch in one commit; returns the refused ones by index.

        Raises NotCommittedError, OutcomeUnknownError, or UnstorableError when some values of the batch are at fault.
        """
        try:
            try:
                refused, reasons = await self._append(decisions)
            except psycopg.errors.CheckViolation as exc:
                if not _no_partition(exc):
                    raise
                await self._learn_weeks()
                refused, reasons = await self._append(decisions)
        except psycopg.Error as exc:
            if exc.sqlstate == _READ_ONLY:
                await self._drop_appender()  # the old primary: look for the new one
            raise _append_error(exc) from exc
        except (TypeError, ValueError, ArithmeticError, struct.error) as exc:
            raise UnstorableError(f"these values have no form in the database ({type(exc).__name__})") from exc
        return {index: Refusal(reason) for index, reason in zip(refused, reasons, strict=True)}

    async def _append(self, decisions: Sequence[Encoded]) -> tuple[Sequence[int], Sequence[str]]:
        connection = await self.appender()
        with self._timing("append"):
            row = await (await connection.execute(_APPEND, _columns(decisions), binary=True)).fetchone()
        return row or ((), ())

    async def _learn_weeks(self) -> None:
        """Make the weeks that are missing, and forget the connection that did not know one.

        A server process that reads its list of partitions just while one is attached keeps the old list for good
        (measured: 3 of 1,000 first appends that met an ATTACH); only a new connection sees the week.
        """
        await self.make_weeks()
        await self._drop_appender()

    async def _drop_appender(self) -> None:
        if self._appender is not None:
            await self._appender.close()

    async def load(self, streams: Iterable[UUID]) -> list[Row]:
        """Read all facts of some streams, ordered by stream and version."""
        async with self.connection() as connection:
            return await _rows(connection, _LOAD, (arrays.Uuids(list(streams)),))

    async def load_and_newer(self, streams: Iterable[UUID], stream: UUID, version: int) -> list[Row]:
        """Read all facts of some streams, and those of another one behind a version, in one look at the log."""
        async with self.connection() as connection:
            return await _rows(connection, _LOAD_AND_NEWER, (arrays.Uuids(list(streams)), stream, version))

    async def load_newer(self, versions: Mapping[UUID, int]) -> list[Row]:
        """Read the facts of some streams that lie behind a version of each, ordered by stream and version."""
        async with self.connection() as connection:
            given = (arrays.Uuids(list(versions)), arrays.Bigints(list(versions.values())))
            return await _rows(connection, _LOAD_NEWER, given)

    async def read(self, *, after: int, limit: int) -> list[Row]:
        """Read the log in order, from behind a position: at most so many facts, and no more behind the first 16 MiB."""
        async with self.connection() as connection:
            return await _rows(connection, _READ, (after, limit))

    async def taken(self, keys: Sequence[bytes]) -> tuple[datetime, dict[bytes, Taken]]:
        """Return the database's time, and what the intake knows of these keys."""
        async with self.connection() as connection:
            rows = await (await connection.execute(_TAKEN, (arrays.Bytes(keys),), binary=True)).fetchall()
        known = {key: Taken(body_hash, list(ids), at) for _, key, body_hash, ids, at in rows if body_hash is not None}
        return rows[0][0], known

    async def now(self) -> datetime:
        """Return the database's time."""
        async with self.connection() as connection:
            row = await (await connection.execute(_NOW, binary=True)).fetchone()
        return row[0]  # type: ignore[index, no-any-return]  # this statement always returns one row

    async def used(self, windows: Mapping[str, datetime]) -> dict[str, Decimal]:
        """Return what is used of some quotas, by their keys, in the window that begins then; what nothing was taken
        from is missing.
        """
        async with self.connection() as connection:
            given = (arrays.Texts(list(windows)), arrays.Times(list(windows.values())))
            return dict(await (await connection.execute(_USED, given, binary=True)).fetchall())

    async def make_weeks(self) -> int:
        """Make the weekly partitions that are missing; returns how many."""
        async with self.connection() as connection:
            ((made,),) = await (await connection.execute(_MAKE_WEEKS)).fetchall()
        return int(made)

    async def purge_intake(self) -> None:
        """Delete rows of the intake, provider references and quotas that nothing can ask for any more."""
        async with self.connection() as connection:
            for statement in (_PURGE_INTAKE, _PURGE_REFERENCES):
                while (await connection.execute(statement)).rowcount > 0:
                    pass
            await connection.execute(_PURGE_QUOTA)

    @asynccontextmanager
    async def leased(self, name: str) -> AsyncIterator[bool]:
        """Hold a lock of this name while the block runs; yields False when another process holds it.

        By a connection of its own: those that hold a lock and wait for the pool would wait for one another.
        """
        async with await connect(self._url) as connection:
            ((ours,),) = await (await connection.execute(_LOCK, (name,))).fetchall()
            try:
                yield bool(ours)
            finally:
                if ours and not connection.closed:
                    await connection.execute(_UNLOCK, (name,))

    async def installation(self) -> tuple[str, bytes] | None:
        """Return the installation's name and its wrapped identity key; None before `migrate` has run."""
        async with self.connection() as connection:
            return await installation_in(connection)

    async def sequence_is_ahead(self) -> bool:
        """Whether the next position is a new one (it may not be after a restore)."""
        async with self.connection() as connection:
            ((ahead,),) = await (await connection.execute(_SEQUENCE)).fetchall()
        return bool(ahead)

    async def head(self) -> int:
        """Return the last position of the log, 0 when it is empty."""
        async with self.connection() as connection:
            row = await (await connection.execute(_HEAD, binary=True)).fetchone()
        return int(row[0]) if row else 0

    async def content(self, retention: str, notification: UUID, digest: bytes) -> bytes | None:
        """Return the sealed words of a notification, None when their time is over."""
        async with self.connection() as connection:
            row = await (await connection.execute(_CONTENT, (retention, notification, digest), binary=True)).fetchone()
        return bytes(row[0]) if row else None

    async def aclose(self) -> None:
        """Close the appending connection; the pool belongs to its maker."""
        await self._drop_appender()


async def installation_in(connection: AsyncConnection[Any]) -> tuple[str, bytes] | None:
    """Return what `Store.installation` does."""
    try:
        row = await (await connection.execute(_INSTALLATION)).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return (row[0], bytes(row[1])) if row else None


def _no_partition(error: psycopg.errors.CheckViolation) -> bool:
    """Whether the row's week is missing; a check constraint of a table has a name."""
    return error.diag.constraint_name is None


def _append_error(error: psycopg.Error) -> LedgerError:
    """Map an error to what is known of the commit. Details stay out: they would show values."""
    state = error.sqlstate or ""
    if state.startswith(_NOT_COMMITTED):
        return NotCommittedError(f"the append was not committed ({state})")
    if not state or state.startswith(_UNKNOWN):
        return OutcomeUnknownError("the connection broke during an append")
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return UnstorableError(f"the database refuses these values ({state})")
    return LedgerError(f"the append failed ({state})")


async def _rows(connection: AsyncConnection[Any], statement: str, given: tuple[Any, ...]) -> list[Row]:
    cursor = await connection.execute(statement, given, binary=True)
    return [Row(*row) for row in await cursor.fetchall()]


def _columns(decisions: Sequence[Encoded]) -> tuple[Any, ...]:
    numbered = list(enumerate(decisions))
    facts = [(i, *fact) for i, d in numbered for fact in d.facts]
    guards = [(i, *guard) for i, d in numbered for guard in d.guards]
    intakes = [(i, *d.intake) for i, d in numbered if d.intake]
    takes = [(i, take) for i, d in numbered for take in d.takes]
    contents = [(i, *content) for i, d in numbered for content in d.contents]
    references = [(i, reference) for i, d in numbered for reference in d.references]
    agenda = [(i, row) for i, d in numbered for row in d.agenda]
    return (
        arrays.Integers([fact[0] for fact in facts]),
        arrays.Uuids([fact[1] for fact in facts]),
        arrays.Bigints([fact[2] for fact in facts]),
        arrays.Texts([fact[3] for fact in facts]),
        arrays.Bytes([fact[4] for fact in facts]),
        arrays.Integers([guard[0] for guard in guards]),
        arrays.Uuids([guard[1] for guard in guards]),
        arrays.Bigints([guard[2] for guard in guards]),
        arrays.Integers([intake[0] for intake in intakes]),
        arrays.Bytes([intake[1] for intake in intakes]),
        arrays.Bytes([intake[2] for intake in intakes]),
        arrays.Texts([_begun(decisions[intake[0]]) for intake in intakes]),
        arrays.Integers([i for i, _ in takes]),
        arrays.Texts([take.key for _, take in takes]),
        arrays.Times([take.window_start for _, take in takes]),
        arrays.Numerics([take.amount for _, take in takes]),
        arrays.Numerics([take.limit for _, take in takes]),
        arrays.Integers([content[0] for content in contents]),
        arrays.Texts([content[1] for content in contents]),
        arrays.Uuids([content[2] for content in contents]),
        arrays.Bytes([content[3] for content in contents]),
        arrays.Bytes([content[4] for content in contents]),
        arrays.Integers([i for i, _ in references]),
        arrays.Texts([reference.provider for _, reference in references]),
        arrays.Texts([reference.reference for _, reference in references]),
        arrays.Uuids([reference.notification for _, reference in references]),
        arrays.Uuids([reference.attempt for _, reference in references]),
        arrays.Integers([i for i, _ in agenda]),
        arrays.Uuids([row.notification for _, row in agenda]),
        arrays.Texts([row.due.channel if row.due else None for _, row in agenda]),
        arrays.Texts([row.due.lane if row.due else None for _, row in agenda]),
        arrays.Times([row.due.at if row.due else None for _, row in agenda]),
        arrays.Bigints([row.version for _, row in agenda]),
        arrays.Uuids([row.settles for _, row in agenda]),
    )


def _begun(decision: Encoded) -> str:
    """Write the notifications that begin with a decision as an array literal: arrays of arrays must be rectangular."""
    begun = (fact[0] for fact in decision.facts if fact[1] == 1 and not is_standing(fact[0]))
    return "{" + ",".join(map(str, begun)) + "}"
