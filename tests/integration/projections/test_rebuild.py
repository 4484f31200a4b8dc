"""Views made anew beside those that serve, and compared with the facts (promises I11, I12)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from handlers.suppressions import list_by_hand
from ledger import rebuilding, refolding
from ledger.follower import Follower, View, caught_up, parked, position, prepare
from ledger.ids import week_of
from ledger.ledger import Ledger
from ledger.rebuilding import Progress, RebuildingError, rebuild
from ledger.signals import Signals
from ledger.store import Encoded, Store
from ledger.suppression import Grounds, Reason
from ledger.values import Channel
from projections import notification_log_audit
from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics
from projections.notification_log import NotificationLog
from projections.notification_search import Filters, search
from projections.suppressions import Suppressions
from projections.views import all_views
from tests.integration import old_weeks as long_ago
from tests.integration.ledger.parts import rows, value
from tests.integration.projections.lives import Life, write, write_interleaved
from tests.support.postgres import Database

LEFT_BEHIND = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'v')
  AND relnamespace IN ('views_anew'::regnamespace, 'views_gone'::regnamespace)
"""
TABLES = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'views'::regnamespace ORDER BY 1
"""
PLACES = "SELECT name, version FROM ledger.follower ORDER BY 1, 2"
STEPS = (("attempt", "accepted", "delivered", "opened"), ("attempt", "refused"), ("suppress",), ())


def ignored(*_: Progress) -> None: ...


@contextlib.asynccontextmanager
async def followed(database: Database, *views: View) -> AsyncIterator[None]:
    """Have views kept while the block runs."""
    followers = [Follower(database.url, view, Signals(database.url)) for view in views]
    for follower in followers:
        follower.start()
    try:
        yield
    finally:
        for follower in followers:
            await follower.stop()


async def come_as_far_as_the_log(connection: AsyncConnection[Any], store: Store, *views: View) -> None:
    for view in views:
        await prepare(connection, view)
        assert await caught_up(connection, view, await store.head(), timeout=long_ago.SOON)


async def sums(connection: AsyncConnection[Any]) -> dict[str, Any]:
    """A checksum of the rows of everything that is shown."""
    query = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM views.{} AS t"
    names = [name for (name,) in await rows(connection, TABLES)]
    return {name: await rows(connection, query.format(name)) for name in names}


async def lived(store: Store, count: int) -> list[Life]:
    """Notifications of several kinds of life, their facts one after the other in turns, and an entry of the list."""
    now = await store.now()
    lives = [Life(now, user_id=f"u-{n % 3}").live(*STEPS[n % len(STEPS)]) for n in range(count)]
    await write_interleaved(store, lives)
    return lives


async def everything_lived(ledger: Ledger) -> None:
    await lived(ledger.store, 40)
    for number in range(3):
        grounds = Grounds(reason=Reason.MANUAL, note=f"note {number}")
        await list_by_hand(ledger, Channel.EMAIL, f"{number}@example.com", grounds, by="test")


async def untrue(connection: AsyncConnection[Any]) -> None:
    """Alter the rows of every view."""
    await connection.execute("UPDATE notification_log_v4 SET status = 'wrong', opens = opens + 1")
    await connection.execute("DELETE FROM notification_log_address_v4")
    await connection.execute("UPDATE suppressions_v1 SET note = 'wrong' WHERE note = 'note 1'")
    await connection.execute("DELETE FROM suppressions_v1 WHERE note = 'note 2'")
    await connection.execute("UPDATE delivery_statistics_v1 SET notifications = notifications + 1")


async def test_i12_every_view_is_made_anew_to_the_rows_that_the_facts_say(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    await everything_lived(ledger)
    async with followed(database, *all_views()):
        await come_as_far_as_the_log(connection, ledger.store, *all_views())
        right, places = await sums(connection), await rows(connection, PLACES)
        await untrue(connection)
        wrong = await sums(connection)
        assert [name for name in wrong if wrong[name] == right[name]] != list(right)
        for view in all_views():
            told: list[Progress] = []
            rebuilt = await rebuild(database.url, view, told=told.append, waits=ignored)
            assert told[-1].done == rebuilt.facts <= told[-1].of
        assert await sums(connection) == right
        assert await rows(connection, LEFT_BEHIND) == []
        assert await rows(connection, PLACES) == places
        # Who kept it goes on with the new tables.
        await everything_lived(ledger)
        await come_as_far_as_the_log(connection, ledger.store, *all_views())
    for view in (Suppressions(), DeliveryStatistics(), Costs()):
        assert await refolding.differing(ledger.store, view) == []
    assert [found async for found in notification_log_audit.differing(ledger.store)] == []


async def test_i12_lists_are_read_and_kept_while_they_are_made_anew(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    await lived(ledger.store, 40)
    view, ended = NotificationLog(), asyncio.Event()

    async def write_on() -> None:
        while not ended.is_set():
            await lived(ledger.store, 4)

    async def read_on() -> int:
        """Never an error, never an empty answer, never fewer than before."""
        counts = [40]
        async with ledger.store.connection() as reader:
            while not ended.is_set():
                page = await search(reader, Filters(), limit=200)
                counts.append(len(page.rows))
        assert counts == sorted(counts)
        return len(counts)

    async with followed(database, view):
        await come_as_far_as_the_log(connection, ledger.store, view)
        writing, reading = asyncio.create_task(write_on()), asyncio.create_task(read_on())
        for _ in range(3):
            await rebuild(database.url, NotificationLog(), told=ignored, waits=ignored)
        ended.set()
        await asyncio.gather(writing, reading)
        await come_as_far_as_the_log(connection, ledger.store, view)
    assert reading.result() > 10
    assert [found async for found in notification_log_audit.differing(ledger.store)] == []


async def test_what_cannot_be_folded_is_parked_anew_at_the_fact_where_it_was_and_the_rest_is_made(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    now = await ledger.store.now()
    good, bad, worse = (Life(now).live("attempt", "accepted") for _ in range(3))
    await write(ledger.store, good.encoded(), bad.encoded(0, 2), worse.encoded(0, 0))
    broken = [(bad.stream, 3, "notification.failed", b'{"bad": 1}'), (worse.stream, 1, "notification.failed", b"{}")]
    await ledger.store.append([Encoded(facts=[fact]) for fact in broken])
    await write(ledger.store, bad.encoded(3, None))
    view = NotificationLog()
    async with followed(database, view):
        await come_as_far_as_the_log(connection, ledger.store, view)
    left_out, right = await parked(connection, view), await sums(connection)
    assert len(left_out) == 2
    rebuilt = await rebuild(database.url, view, told=ignored, waits=ignored)
    assert rebuilt.parked == 2
    anew = await parked(connection, view)
    assert {(one.stream, one.position, one.reason) for one in anew} == {
        (one.stream, one.position, one.reason) for one in left_out
    }
    assert await sums(connection) == right


async def test_whoever_keeps_a_view_that_was_made_anew_knows_that_a_stream_is_parked_no_more(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    life, view = Life(await ledger.store.now()).live("attempt", "accepted"), NotificationLog()
    await write(ledger.store, life.encoded(0, 2))
    # A release that could not fold it has parked it.
    await connection.execute(
        "INSERT INTO ledger.parked (name, version, stream, position, reason) VALUES (%s, %s, %s, 1, 'a test')",
        (view.name, view.version, life.stream),
    )
    async with followed(database, view):
        await come_as_far_as_the_log(connection, ledger.store, view)
        assert await value(connection, "SELECT count(*) FROM views.notification_log") == 0
        assert (await rebuild(database.url, view, told=ignored, waits=ignored)).parked == 0
        await write(ledger.store, life.encoded(2))
        await come_as_far_as_the_log(connection, ledger.store, view)
    assert await rows(connection, "SELECT notification, status FROM views.notification_log") == [
        (life.stream, "dispatched")
    ]


async def test_what_was_counted_of_an_archived_week_is_kept_and_its_rows_of_the_lists_are_not_made_again(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    old = await long_ago.lived(ledger, long_ago.weeks_ago(4), 5)
    await lived(ledger.store, 8)
    views = (NotificationLog(), DeliveryStatistics(), Costs())
    async with followed(database, *views):
        await come_as_far_as_the_log(connection, ledger.store, *views)
    right = await sums(connection)
    week = week_of(old[0].stream)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"DROP TABLE ledger.stored_events_{week}".encode())
        superuser.execute("INSERT INTO ledger.archived_week (week, manifest, facts) VALUES (%s, 'a test', 1)", (week,))
    for view in views:
        assert (await rebuild(database.url, view, told=ignored, waits=ignored)).parked == 0
    found = await sums(connection)
    assert {name for name in right if found[name] != right[name]} == {
        name for name in right if name.startswith("notification_log")
    }
    assert await value(connection, "SELECT count(*) FROM views.notification_log") == 8
    for view in views[1:]:
        assert await refolding.differing(ledger.store, view) == []


async def test_no_week_is_archived_while_a_view_is_made_anew(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    """The database drops none that a reader has not read."""
    await lived(ledger.store, 4)
    views = (NotificationLog(), Suppressions())
    async with followed(database, *views):
        await come_as_far_as_the_log(connection, ledger.store, *views)
        seen: list[tuple[int, int]] = []

        def look(_: Progress) -> None:
            with psycopg.connect(database.url) as other:
                seen.extend(other.execute("SELECT count(*), min(position) FROM ledger.follower").fetchall())

        await rebuild(database.url, Suppressions(), told=look, waits=ignored, batch=3)
    assert set(seen) == {(4, 0)}
    assert len(seen) > 1


async def test_there_is_one_rebuild_at_a_time_none_while_views_are_compared_and_what_one_left_behind_is_cleared(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    """Killed half way, it leaves tables, its places, and no lock."""
    await lived(ledger.store, 4)
    view = NotificationLog()

    class KilledError(Exception):
        pass

    def killed(_: Progress) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        await rebuild(database.url, view, told=killed, waits=ignored)
    assert await rows(connection, LEFT_BEHIND)
    async with refolding.undisturbed(ledger.store):
        with pytest.raises(RebuildingError, match="under way"):
            await rebuild(database.url, view, told=ignored, waits=ignored)
        assert not await rebuilding.clear(connection)
    assert await rebuilding.clear(connection)
    assert await rows(connection, LEFT_BEHIND) == []
    assert await rows(connection, PLACES) == [(view.name, view.version)]
    with contextlib.suppress(KilledError):
        await rebuild(database.url, view, told=killed, waits=ignored)
    await rebuild(database.url, view, told=ignored, waits=ignored)
    assert await position(connection, view) == await ledger.store.head()

    refused: list[asyncio.Task[Any]] = []

    def try_another(_: Progress) -> None:
        if not refused:
            other = rebuild(database.url, Suppressions(), told=ignored, waits=ignored)
            refused.append(asyncio.create_task(other))

    await rebuild(database.url, view, told=try_another, waits=ignored)
    with pytest.raises(RebuildingError):
        await refused[0]


async def test_i11_rows_of_any_view_that_were_altered_deleted_or_made_up_are_counted_by_table(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    await everything_lived(ledger)
    views = (Suppressions(), DeliveryStatistics())
    async with followed(database, *views):
        await come_as_far_as_the_log(connection, ledger.store, *views)
    assert [await refolding.differing(ledger.store, view) for view in views] == [[], []]
    cells = await value(connection, "SELECT count(*) FROM delivery_statistics_v1")
    await untrue(connection)
    assert await refolding.differing(ledger.store, views[0]) == [refolding.Difference("suppressions_v1", 2, 1)]
    assert await refolding.differing(ledger.store, views[1]) == [
        refolding.Difference("delivery_statistics_v1", cells, cells)
    ]
