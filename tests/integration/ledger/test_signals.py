"""Wake-ups between processes: they shorten a wait, and nothing depends on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

from psycopg import AsyncConnection

from ledger.ledger import Ledger
from ledger.signals import AGENDA, FACTS, Signals
from ledger.store import connect
from tests.integration.ledger import lives
from tests.integration.ledger.parts import Connection, now, rows, value
from tests.support.postgres import Database

ONE_DATABASE = True

EMAIL, SMS = f"{AGENDA}/email", f"{AGENDA}/sms"
LONG = 600.0
SOON = 60
LISTENER = """datname = current_database() AND query = 'LISTEN "agenda"'"""


@asynccontextmanager
async def running(url: str, *, listen: Collection[str] = ()) -> AsyncIterator[Signals]:
    signals = Signals(url)
    signals.start(listen=listen)
    try:
        yield signals
    finally:
        await signals.stop()


async def _listens(connection: Connection) -> None:
    """Wait until somebody listens."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {LISTENER} AND state = 'idle'"
    async with asyncio.timeout(SOON):
        while not await value(connection, query):  # noqa: ASYNC110 - the condition lies in the server
            await asyncio.sleep(0.01)


async def test_who_waits_in_another_process_is_woken(database: Database, application: Connection):
    async with running(database.url) as sender, running(database.url, listen=(AGENDA,)) as waiter:
        await _listens(application)
        waiting = asyncio.create_task(waiter.wait(EMAIL, LONG))
        await asyncio.sleep(0)
        async with asyncio.timeout(SOON):
            sender.raise_([EMAIL])
            await waiting
        assert not waiter._events[SMS].is_set()
        assert not waiter._events[FACTS].is_set()


async def test_who_waits_in_this_process_is_woken_without_any_connection():
    signals = Signals("postgresql://nowhere.invalid")
    waiting = [asyncio.create_task(signals.wait(FACTS, LONG)) for _ in range(3)]
    await asyncio.sleep(0)
    signals.raise_([FACTS])
    async with asyncio.timeout(SOON):
        await asyncio.gather(*waiting)


async def test_a_signal_that_came_before_the_wait_is_not_lost_and_counts_once():
    signals = Signals("postgresql://nowhere.invalid")
    signals.wake(FACTS)
    async with asyncio.timeout(SOON):
        await signals.wait(FACTS, LONG)
    assert not signals._events[FACTS].is_set()


async def test_of_two_that_share_a_name_neither_takes_the_signal_of_the_other_away():
    signals = Signals("postgresql://nowhere.invalid")
    for waiter in ("one", "other"):
        await signals.wait(FACTS, 0, by=waiter)
    signals.wake(FACTS)
    async with asyncio.timeout(SOON):
        for waiter in ("one", "other"):
            await signals.wait(FACTS, LONG, by=waiter)


async def test_a_wait_ends_by_itself():
    async with asyncio.timeout(SOON):
        await Signals("postgresql://nowhere.invalid").wait(FACTS, 0.01)


async def test_many_signals_of_one_name_become_one(database: Database):
    async with running(database.url) as sender, await connect(database.url) as listener:
        await listener.execute("LISTEN facts")
        await listener.execute("LISTEN agenda")
        for _ in range(1_000):
            sender.raise_([FACTS, EMAIL, SMS])
        heard = [(notice.channel, notice.payload) async for notice in listener.notifies(timeout=SOON, stop_after=3)]
        assert sorted(heard) == [("agenda", "email"), ("agenda", "sms"), ("facts", "")]
        sender.raise_([FACTS])
        heard = [(notice.channel, notice.payload) async for notice in listener.notifies(timeout=SOON, stop_after=1)]
        assert heard == [("facts", "")]


async def test_i13_a_listener_whose_connection_was_lost_listens_again(database: Database, application: Connection):
    async with (
        running(database.url) as sender,
        running(database.url, listen=(AGENDA,)) as waiter,
        await AsyncConnection.connect(database.superuser_url, autocommit=True) as superuser,
    ):
        await _listens(application)
        waiting = asyncio.create_task(waiter.wait(EMAIL, LONG))
        await asyncio.sleep(0)
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENER}"
        assert await rows(superuser, ended) == [(True,)]
        async with asyncio.timeout(SOON):
            # What came meanwhile cannot be known: everybody looks once.
            await waiting
            await _listens(application)
            sender.raise_([EMAIL])
            await waiter.wait(EMAIL, LONG)


async def test_a_commit_tells_that_the_log_has_grown_and_what_is_due_at_once(ledger: Ledger, database: Database):
    async with await connect(database.url) as listener:
        await listener.execute("LISTEN facts")
        await listener.execute("LISTEN agenda")
        ledger._signals.start()
        await lives.begin(ledger, send_at=now() + timedelta(hours=1))
        heard = [(notice.channel, notice.payload) async for notice in listener.notifies(timeout=SOON, stop_after=1)]
        await lives.begin(ledger)
        heard += [(notice.channel, notice.payload) async for notice in listener.notifies(timeout=SOON, stop_after=2)]
        await ledger._signals.stop()
    assert heard == [("facts", ""), ("agenda", "email"), ("facts", "")]


async def test_that_the_log_grows_is_told_of_at_most_twenty_times_a_second_and_never_forgotten(database: Database):
    async with running(database.url) as sender, await connect(database.url) as listener:
        await listener.execute("LISTEN facts")
        began = time.monotonic()
        for _ in range(20):
            sender.raise_([FACTS])
            await asyncio.sleep(0.01)
        at_most = 1 + (time.monotonic() - began) / 0.05
        await asyncio.sleep(0.1)
        heard = [notice async for notice in listener.notifies(timeout=0.5)]
        assert 2 <= len(heard) <= at_most + 1
