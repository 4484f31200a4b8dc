"""The ledger's parts, put together as the service does, and decisions made with as few words as a test needs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from ledger import notification as n
from ledger.decision import AgendaRow, Decision, NewFact
from ledger.group_commit import GroupCommit
from ledger.ids import notification_id
from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger
from ledger.mapping import FactMapper
from ledger.notification import Due
from ledger.set_aside import SetAside
from ledger.signals import Signals
from ledger.store import Encoded, Store, Timed, make_pool, untimed
from ledger.values import Channel, Lane
from tests.support.postgres import IDENTITY_KEY, KEY_ENCRYPTION_KEY
from tests.unit.ledger.samples import requested

Connection = AsyncConnection[Any]
IDENTITY = Identity(IDENTITY_KEY)
KEYS = Keys(KeyEncryption([KEY_ENCRYPTION_KEY]))


@asynccontextmanager
async def opened_store(url: str, *, pool_size: int = 4, timed: Timed = untimed) -> AsyncIterator[Store]:
    pool = make_pool(url, size=pool_size)
    await pool.open()
    store = Store(url, pool, timed=timed)
    try:
        yield store
    finally:
        await store.aclose()
        await pool.close()


@asynccontextmanager
async def running_ledger(url: str) -> AsyncIterator[Ledger]:
    async with opened_store(url) as store:
        ledger = Ledger(store, KEYS, IDENTITY, Signals(url))
        await ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop()


@asynccontextmanager
async def running_writer(store: Store) -> AsyncIterator[GroupCommit]:
    """A group commit whose facts need no data keys."""
    writer = GroupCommit(store, plain, lambda _: None)
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def plain(decisions: Sequence[Decision]) -> list[Encoded | Exception]:
    mapper = FactMapper()
    return [
        Encoded(
            facts=[(new.stream, new.version, *mapper.encode(new.stream, new.version, new.fact)) for new in one.facts],
            guards=[(guard.stream, guard.version) for guard in one.guards],
            intake=(one.intake.key, one.intake.body_hash) if one.intake else None,
            takes=one.takes,
            contents=[(said.retention, said.notification, said.digest, said.body) for said in one.contents],
            references=one.references,
            agenda=one.agenda,
        )
        for one in decisions
    ]


def set_aside_in(store: Store) -> SetAside:
    return SetAside(store, KEYS, IDENTITY)


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> UUID:
    return notification_id(now())


def standing(name: str = "") -> UUID:
    return IDENTITY.standing_stream("test", name or uuid4().hex)


def stored(stream: UUID, *versions: int) -> list[tuple[UUID, int, str, bytes]]:
    """Facts of a stream as the store takes them; what they say is of no matter."""
    return [(stream, version, "notification.expired", b'{"version":%d}' % version) for version in versions or (1,)]


def agenda_row(
    notification: UUID, version: int = 1, *, due: float | None = 0, settles: UUID | None = None
) -> AgendaRow:
    """What is due `due` seconds from now."""
    at = None if due is None else Due(now() + timedelta(seconds=due), Channel.EMAIL, Lane.NORMAL)
    return AgendaRow(notification, version, at, settles)


def request(**changes: Any) -> n.Requested:
    """A first fact that does not expire while a test runs; `requested` is its time."""
    at = changes.pop("at", None) or now()
    fact = requested(expires_at=at + timedelta(days=1), **changes)
    return n.Requested(**{name: getattr(fact, name) for name in fact.__struct_fields__} | {"recorded_at": at})


def begun(stream: UUID | None = None, **changes: Any) -> Decision:
    """A decision by which one notification begins."""
    return Decision(facts=(NewFact(stream or new_id(), 1, request(**changes)),))


def stated(stream: UUID, version: int = 1, *, reason: str = "a test") -> NewFact:
    """A fact that needs no key."""
    return NewFact(stream, version, n.Failed(recorded_at=now(), cause="test", by="test", reason=reason))


async def rows(connection: Connection, query: str, *given: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, given)).fetchall()


async def value(connection: Connection, query: str, *given: Any) -> Any:
    ((found,),) = await rows(connection, query, *given)
    return found


async def log(connection: Connection) -> list[tuple[UUID, int]]:
    """(stream, version) of every fact, in the order of their positions."""
    query = "SELECT originator_id, originator_version FROM ledger.stored_events ORDER BY notification_id"
    return [(stream, version) for stream, version in await rows(connection, query)]
