"""Followers, views and outlets alike: one suite, because both stand on the same lease, position and parking."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger import notification as n
from ledger.follower import Follower, Lag, Outlet, View, caught_up, lag, parked, position, prepare, unpark
from ledger.ids import notification_id
from ledger.mapping import TOPICS, FactMapper, Recorded
from ledger.signals import FACTS, Signals
from ledger.store import Encoded, Store, connect
from tests.support.postgres import Database

SOON = timedelta(seconds=60)
Hook = Callable[[AsyncConnection[Any], Sequence[Recorded]], Awaitable[None]]


class Counted:
    """A view that counts: a fact that is folded twice, or not at all, shows."""

    name = "counted"
    version = 1

    def __init__(self, before: Hook | None = None, after: Hook | None = None) -> None:
        self._before = before
        self._after = after

    async def create(self, connection: AsyncConnection[Any]) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS views.counted_v1 (stream uuid PRIMARY KEY, facts int)")

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        if self._before:
            await self._before(connection, facts)
        for stream, count in Counter(recorded.originator_id for recorded in facts).items():
            await connection.execute(
                "INSERT INTO views.counted_v1 AS c VALUES (%s, %s)"
                " ON CONFLICT (stream) DO UPDATE SET facts = c.facts + excluded.facts",
                (stream, count),
            )
        if self._after:
            await self._after(connection, facts)


class Indexed(Counted):
    """A view with an index: whoever makes sure of one waits for all who write to its table."""

    async def create(self, connection: AsyncConnection[Any]) -> None:
        await super().create(connection)
        await connection.execute("CREATE INDEX IF NOT EXISTS counted_v1_facts ON views.counted_v1 (facts)")


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await connect(database.url) as connection:
        await prepare(connection, Counted())
        yield connection


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def following(database: Database, view: View | Outlet, **chosen: Any) -> AsyncIterator[Follower]:
    follower = Follower(database.url, view, Signals(database.url), **{"pace": timedelta(), **chosen})
    follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def write(store: Store, count: int, *, stream: UUID | None = None, first: int = 1) -> UUID:
    """Append `count` harmless facts to a stream."""
    now = await store.now()
    stream = stream or notification_id(now)
    state = FactMapper().encode(stream, first, n.Expired(recorded_at=now, cause="clock", by="test"))
    refused = await store.append([Encoded(facts=[(stream, first + i, *state) for i in range(count)])])
    assert refused == {}
    return stream


async def write_raw(store: Store, stream: UUID, version: int, *, topic: str, state: bytes) -> int:
    assert await store.append([Encoded(facts=[(stream, version, topic, state)])]) == {}
    return await store.head()


async def counts(connection: AsyncConnection[Any]) -> dict[UUID, int]:
    return dict(await (await connection.execute("SELECT stream, facts FROM views.counted_v1")).fetchall())


async def scalar(connection: AsyncConnection[Any], query: str) -> Any:
    ((value,),) = await (await connection.execute(query.encode())).fetchall()
    return value


async def becomes(connection: AsyncConnection[Any], query: str) -> None:
    """Wait until a query says true."""
    async with asyncio.timeout(60):
        while not await scalar(connection, query):  # noqa: ASYNC110 - the database has no event to wait for
            await asyncio.sleep(0.01)


OWNER = "SELECT owner FROM ledger.follower"
IS_LED = "SELECT owner IS NOT NULL FROM ledger.follower"
# In this database: the others of the server are other tests'.
IS_WAITED_FOR = """
SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND NOT l.granted
"""


async def test_i11_every_fact_is_folded_once_while_the_lease_is_stolen_again_and_again(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    short = {"batch": 7, "lease": timedelta(seconds=1)}
    written: dict[UUID, int] = {}
    async with following(database, Counted(), **short), following(database, Counted(), **short):
        for _ in range(40):
            written[await write(store, 13)] = 13
            await connection.execute("UPDATE ledger.follower SET owner = NULL, lease_until = '-infinity'")
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert await counts(connection) == written


async def test_i11_a_crash_before_the_commit_leaves_neither_rows_nor_position(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    stream = await write(store, 5)
    seen: list[tuple[int, dict[UUID, int]]] = []

    async def die_once(own: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        seen.append((await position(connection, view), await counts(connection)))
        if len(seen) == 1:
            await own.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    view = Counted(after=die_once)
    async with following(database, view):
        assert await caught_up(connection, view, await store.head(), timeout=SOON)
    assert seen == [(0, {}), (0, {})]
    assert await counts(connection) == {stream: 5}


async def test_i11_a_follower_that_loses_its_lease_with_a_batch_in_hand_writes_nothing(
    database: Database, store: Store, connection: AsyncConnection[Any], superuser: psycopg.AsyncConnection[Any]
):
    async with following(database, Counted()):
        await becomes(connection, IS_LED)
        async with superuser.transaction():
            # The other replica has moved on but not yet committed when this one comes with its batch.
            await superuser.execute("SELECT FROM ledger.follower FOR UPDATE")
            await write(store, 5)
            await becomes(connection, IS_WAITED_FOR)
            await superuser.execute("UPDATE ledger.follower SET owner = %s, lease_until = 'infinity'", (uuid4(),))
        asked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%lease_until < now()%' AND state = 'idle'"
        await becomes(superuser, asked)
        assert await counts(connection) == {}
        assert await position(connection, Counted()) == 0
        await connection.execute("UPDATE ledger.follower SET lease_until = '-infinity'")
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert list((await counts(connection)).values()) == [5]


async def test_a_lease_that_is_not_renewed_passes_to_another(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    await connection.execute("UPDATE ledger.follower SET owner = %s, lease_until = now() + interval '1s'", (uuid4(),))
    stream = await write(store, 3)
    async with following(database, Counted()):
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert await counts(connection) == {stream: 3}


async def test_a_lease_in_use_is_renewed_and_nobody_else_gets_it(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    async with following(database, Counted(), lease=timedelta(seconds=1)):
        await becomes(connection, IS_LED)
        owner, ends = (
            await scalar(connection, OWNER),
            await scalar(connection, "SELECT lease_until FROM ledger.follower"),
        )
        async with following(database, Counted(), lease=timedelta(seconds=1)):
            await becomes(
                connection, f"SELECT lease_until > '{ends}'::timestamptz + interval '1s' FROM ledger.follower"
            )
        assert await scalar(connection, OWNER) == owner


async def test_i11_a_view_that_is_set_back_to_its_start_is_folded_anew_by_whoever_runs_it(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    async with following(database, Counted()):
        streams = [await write(store, 3)]
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
        async with connection.transaction():
            await connection.execute("UPDATE ledger.follower SET position = 0")
            await connection.execute("TRUNCATE views.counted_v1")
        streams.append(await write(store, 3))
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
        assert await counts(connection) == dict.fromkeys(streams, 3)


async def test_a_stop_gives_the_lease_up_and_a_restart_goes_on_at_once(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    for _ in range(2):
        await write(store, 2)
        async with following(database, Counted(), lease=timedelta(hours=1)):
            assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
        assert await scalar(connection, OWNER) is None
    assert sorted((await counts(connection)).values()) == [2, 2]


async def test_i13_a_follower_whose_connection_breaks_goes_on(
    database: Database, store: Store, connection: AsyncConnection[Any], superuser: psycopg.AsyncConnection[Any]
):
    backends: list[int] = []

    async def remember(own: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        backends.append(own.info.backend_pid)

    async with following(database, Counted(before=remember)):
        for _ in range(3):
            await write(store, 4)
            assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
            await superuser.execute("SELECT pg_terminate_backend(%s)", (backends[-1],))
    assert len(set(backends)) == 3
    assert sorted((await counts(connection)).values()) == [4, 4, 4]


async def test_i13_trouble_with_the_schema_parks_nothing_and_passes(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    failed = asyncio.Event()

    async def look(own: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        if not failed.is_set():
            failed.set()
            await own.execute("SELECT FROM views.that_is_not_there")

    view = Counted(before=look)
    stream = await write(store, 4)
    async with following(database, view):
        assert await caught_up(connection, view, await store.head(), timeout=SOON)
    assert failed.is_set()
    assert await parked(connection, view) == []
    assert await counts(connection) == {stream: 4}


@pytest.mark.parametrize("state", [b"{}", b"\xff", b'{"recorded_at":"2026-01-01T00:00:00Z","cause":7,"by":"test"}'])
async def test_i11_a_fact_that_cannot_be_read_parks_its_stream_and_no_other(
    database: Database, store: Store, connection: AsyncConnection[Any], state: bytes
):
    before = [await write(store, 2) for _ in range(5)]
    poisoned = await write(store, 1)
    at = await write_raw(store, poisoned, 2, topic="notification.expired", state=state)
    after = [await write(store, 2) for _ in range(5)]
    await write(store, 3, stream=poisoned, first=3)
    async with following(database, Counted()):
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
        late = await write(store, 2)
        await write(store, 1, stream=poisoned, first=6)
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert await counts(connection) == {poisoned: 1, **dict.fromkeys([*before, *after, late], 2)}
    (listed,) = await parked(connection, Counted())
    assert (listed.stream, listed.position) == (poisoned, at)
    assert listed.reason.startswith("notification.expired ")


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("SELECT 'x'::int", id="data error"),
        pytest.param("INSERT INTO views.counted_v1 VALUES (NULL)", id="integrity error"),
        pytest.param("SELECT repeat('x', 2000000000)", id="program limit"),
    ],
)
async def test_i11_a_fact_that_the_database_refuses_parks_its_stream_and_no_other(
    database: Database, store: Store, connection: AsyncConnection[Any], statement: str
):
    healthy = [await write(store, 3) for _ in range(7)]
    poisoned = await write(store, 3)
    healthy += [await write(store, 3) for _ in range(7)]

    async def refuse(own: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        if poisoned in {recorded.originator_id for recorded in facts}:
            await own.execute(statement.encode())

    view = Counted(after=refuse)
    async with following(database, view, batch=10):
        assert await caught_up(connection, view, await store.head(), timeout=SOON)
    assert await counts(connection) == dict.fromkeys(healthy, 3)
    assert [listed.stream for listed in await parked(connection, view)] == [poisoned]


async def test_a_parked_stream_is_still_left_out_after_a_restart(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    poisoned = notification_id(await store.now())
    await write_raw(store, poisoned, 1, topic="notification.expired", state=b"{}")
    for version in (2, 3):
        async with following(database, Counted()):
            await write(store, 1, stream=poisoned, first=version)
            assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert await counts(connection) == {}


async def test_i11_a_stream_that_is_taken_back_misses_nothing_and_repeats_nothing(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    broken = True
    stream = await write(store, 2)

    async def refuse(own: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        if broken and any(r.originator_id == stream and r.originator_version > 1 for r in facts):
            raise ValueError("the fold has a fault")

    view = Counted(before=refuse)
    async with following(database, view):
        for first in range(3, 40, 3):
            await write(store, 3, stream=stream, first=first)
            if first == 21:
                assert await caught_up(connection, view, await store.head(), timeout=SOON)
                assert await counts(connection) == {stream: 1}
                with pytest.raises(ValueError, match="fault"):
                    await unpark(connection, view, stream)
                assert len(await parked(connection, view)) == 1
                broken = False
                assert await unpark(connection, view, stream)
                assert not await unpark(connection, view, stream)
        assert await caught_up(connection, view, await store.head(), timeout=SOON)
    assert await counts(connection) == {stream: 41}
    assert await parked(connection, view) == []


async def test_an_unknown_topic_stops_the_follower_before_it_and_leaves_the_view_to_a_newer_release(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    known = await write(store, 3)
    last_known = await store.head()
    state = b'{"recorded_at":"2026-01-01T00:00:00Z","cause":"clock","by":"test"}'
    head = await write_raw(store, known, 4, topic="notification.postcarded", state=state)
    async with following(database, Counted()):
        await becomes(connection, f"SELECT owner IS NULL AND position = {last_known} FROM ledger.follower")
        assert await parked(connection, Counted()) == []
        newer = FactMapper({**TOPICS, "notification.postcarded": type("Postcarded", (n.Expired,), {}, frozen=True)})
        async with following(database, Counted(), mapper=newer):
            assert await caught_up(connection, Counted(), head, timeout=SOON)
    assert await counts(connection) == {known: 4}


class Told:
    """An outlet that takes at most so many facts at a time, and keeps the versions that it was told, call by call."""

    name = "told"
    version = 1

    def __init__(self, at_most: Sequence[int], before: Callable[[], Awaitable[None]] | None = None) -> None:
        self._at_most = list(at_most)
        self._before = before
        self.calls: list[list[int]] = []

    async def tell(self, facts: Sequence[Recorded], *, within: timedelta) -> int:
        assert within > timedelta()
        if self._before:
            await self._before()
        self.calls.append([recorded.originator_version for recorded in facts])
        return min(len(facts), self._at_most.pop(0) if self._at_most else len(facts))


async def test_i14_an_outlets_place_moves_over_what_has_arrived_and_the_rest_is_told_again(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    await write(store, 5)
    outlet = Told(at_most=[2, 0, 1])
    async with following(database, outlet):
        assert await caught_up(connection, outlet, await store.head(), timeout=SOON)
    assert outlet.calls == [[1, 2, 3, 4, 5], [3, 4, 5], [3, 4, 5], [4, 5]]
    assert await parked(connection, outlet) == []


async def test_no_transaction_is_open_while_an_outlet_tells(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    open_ones: list[int] = []

    async def look() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        open_ones.append(await scalar(connection, query))

    await write(store, 3)
    outlet = Told(at_most=[], before=look)
    async with following(database, outlet):
        assert await caught_up(connection, outlet, await store.head(), timeout=SOON)
    assert open_ones == [0]


async def test_i11_an_outlet_and_a_view_of_one_process_do_not_wait_for_each_other(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    stuck = asyncio.Event()

    async def wait() -> None:
        await stuck.wait()

    stream = await write(store, 2)
    async with following(database, Told(at_most=[], before=wait)), following(database, Counted()):
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
        assert await counts(connection) == {stream: 2}
        stuck.set()


async def test_a_signal_wakes_the_follower_long_before_it_would_look(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    signals = Signals(database.url)
    follower = Follower(database.url, Counted(), signals, pace=timedelta())
    follower.start()
    begun = time.monotonic()
    for _ in range(6):
        await write(store, 1)
        signals.raise_([FACTS])
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    # Each round begins just after the follower has looked: without signals each would last a whole second.
    assert time.monotonic() - begun < 3
    await follower.stop()


async def test_the_lag_is_known_without_a_follower(database: Database, store: Store, connection: AsyncConnection[Any]):
    assert await lag(connection, Counted()) == Lag(0, timedelta(), 0)
    stream = await write(store, 5)
    behind = await lag(connection, Counted())
    assert behind.events == 5
    assert timedelta() < behind.age < timedelta(minutes=1)
    await write_raw(store, stream, 6, topic="notification.expired", state=b"{}")
    async with following(database, Counted()):
        assert await caught_up(connection, Counted(), await store.head(), timeout=SOON)
    assert await lag(connection, Counted()) == Lag(0, timedelta(), 1)


async def test_waiting_for_a_position_ends_in_time_when_nobody_follows(store: Store, connection: AsyncConnection[Any]):
    await write(store, 1)
    assert not await caught_up(connection, Counted(), await store.head(), timeout=timedelta(milliseconds=50))


async def test_many_replicas_may_make_a_view_at_once(database: Database):
    async def make() -> None:
        async with await connect(database.url) as connection:
            await prepare(connection, Counted())

    await asyncio.gather(*(make() for _ in range(8)))


async def test_i12_whoever_makes_sure_of_a_views_tables_while_it_is_folded_waits_and_takes_nothing_from_the_fold(
    database: Database, store: Store, connection: AsyncConnection[Any]
):
    async def make() -> None:
        async with await connect(database.url) as another:
            await prepare(another, Indexed())

    await make()
    makers: list[asyncio.Task[None]] = []

    async def meanwhile(_: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        makers.append(asyncio.create_task(make()))
        await becomes(connection, IS_WAITED_FOR)

    stream = await write(store, 1)
    filling = Follower(database.url, Indexed(before=meanwhile), Signals(database.url))
    async with await connect(database.url) as folding:
        await filling.catch_up(folding)
    await asyncio.gather(*makers)
    assert (len(makers), await counts(connection)) == (1, {stream: 1})
