"""The database breaks in the middle of it: what was reported stored is stored once, and nothing is lost."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import pytest

from ledger.decision import Decision, Intake
from ledger.errors import Refusal, RefusedError, UnavailableError
from ledger.group_commit import GroupCommit
from ledger.keys import KeyEncryption
from ledger.store import Store, connect
from ops import embedded, migrations
from tests.integration.ledger.parts import (
    Connection,
    log,
    new_id,
    opened_store,
    rows,
    running_writer,
    stated,
    value,
)
from tests.support.postgres import INSTALLATION, KEY_ENCRYPTION_KEY, Database
from tests.support.proxy import Proxy, Towards, forwarding

# Postgres v3: CommandComplete of a SELECT with one row. append_1 runs on its own, so it has committed by then.
REPLY = b"SELECT 1"
QUICK_RECOVERY = {"recovery_init_sync_method": "syncfs"}


def _through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"))


def _server(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


@asynccontextmanager
async def writing_through_a_proxy(url: str) -> AsyncIterator[tuple[GroupCommit, Proxy]]:
    async with (
        forwarding(*_server(url)) as proxy,
        opened_store(_through(proxy, url)) as store,
        running_writer(store) as writer,
    ):
        yield writer, proxy


async def test_an_append_whose_reply_is_lost_is_stored_once_and_its_callers_hear_so(
    database: Database, application: Connection
):
    async with writing_through_a_proxy(database.url) as (writer, proxy):
        await writer.append(Decision(facts=(stated(new_id()),)))
        cut = proxy.trap(REPLY, towards=Towards.CLIENT, forward=False)
        streams = [new_id() for _ in range(20)]
        await asyncio.gather(
            *(
                writer.append(Decision(facts=(stated(stream),), intake=Intake(stream.bytes, b"body")))
                for stream in streams
            )
        )
    assert cut.is_set()
    assert [stream for stream, _ in await log(application)][1:] == streams
    assert await value(application, "SELECT count(*) FROM ledger.intake") == 20


async def test_an_append_whose_request_is_lost_is_made_again(database: Database, application: Connection):
    async with writing_through_a_proxy(database.url) as (writer, proxy):
        await writer.append(Decision(facts=(stated(new_id()),)))
        stream = new_id()
        cut = proxy.trap(stream.bytes, towards=Towards.SERVER, forward=False)
        await writer.append(Decision(facts=(stated(stream),)))
    assert cut.is_set()
    assert (await log(application))[1:] == [(stream, 1)]


async def test_a_refusal_after_a_lost_reply_is_ours_only_where_the_bytes_are(
    database: Database, application: Connection
):
    known, fresh = new_id(), new_id()
    async with writing_through_a_proxy(database.url) as (writer, proxy):
        await writer.append(Decision(facts=(stated(known, reason="of another"),)))
        cut = proxy.trap(REPLY, towards=Towards.CLIENT, forward=False)
        results = await asyncio.gather(
            writer.append(Decision(facts=(stated(known, reason="of ours"),))),
            writer.append(Decision(facts=(stated(fresh),))),
            return_exceptions=True,
        )
    assert cut.is_set()
    refused, stored = results
    assert isinstance(refused, RefusedError)
    assert refused.reason is Refusal.VERSION
    assert stored is None
    assert await log(application) == [(known, 1), (fresh, 1)]


class Load:
    """Appends one decision after the other, and knows which of them it was told are stored."""

    def __init__(self, writer: GroupCommit) -> None:
        self._writer = writer
        self.stored: list[UUID] = []
        self.enough = asyncio.Event()
        self.stop = False

    async def run(self) -> None:
        while not self.stop:
            stream = new_id()
            await self._writer.append(Decision(facts=(stated(stream), stated(stream, 2))))
            self.stored.append(stream)
            if len(self.stored) % 50 == 0:
                self.enough.set()

    async def more(self) -> None:
        """Wait until more was stored."""
        self.enough.clear()
        await self.enough.wait()


async def _check(connection: Connection, stored: list[UUID]) -> None:
    found = Counter(stream for stream, _ in await log(connection))
    assert len(stored) == len(set(stored))
    assert found == Counter(dict.fromkeys(stored, 2))


async def test_connections_that_are_ended_by_the_server_lose_and_repeat_nothing(
    database: Database, application: Connection
):
    async with (
        opened_store(database.url) as store,
        running_writer(store) as writer,
        await psycopg.AsyncConnection.connect(database.superuser_url, autocommit=True) as superuser,
    ):
        load = Load(writer)
        appending = [asyncio.create_task(load.run()) for _ in range(10)]
        for _ in range(6):
            await load.more()
            pid = (await store.appender()).info.backend_pid
            assert await rows(superuser, "SELECT pg_terminate_backend(%s)", pid) == [(True,)]
        await load.more()
        load.stop = True
        await asyncio.gather(*appending)
    await _check(application, load.stored)


async def test_statements_that_the_server_cancels_are_made_again(database: Database, application: Connection):
    async with (
        opened_store(database.url) as store,
        running_writer(store) as writer,
        await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as blocker,
    ):
        await writer.append(Decision(facts=(stated(new_id()),)))
        await (await store.appender()).execute("SET lock_timeout = '50ms'")
        await blocker.execute("SELECT pg_advisory_lock(hashtext('ledger.append'))")
        stream = new_id()
        appending = asyncio.create_task(writer.append(Decision(facts=(stated(stream),))))
        waited = "SELECT count(*) FROM pg_stat_database WHERE datname = current_database() AND xact_rollback >= 2"
        while not await value(blocker, waited):
            await blocker.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0)
        await blocker.execute("SELECT pg_advisory_unlock_all()")
        await appending
    assert (await log(application))[1:] == [(stream, 1)]


async def test_a_server_that_is_killed_and_started_again_loses_and_repeats_nothing(
    own_postgres: embedded.Server, tmp_path: Path
):
    await migrations.migrate(
        own_postgres.migration_database_url,
        application_role=embedded.APPLICATION,
        installation=INSTALLATION,
        keys=KeyEncryption([KEY_ENCRYPTION_KEY]),
    )
    again = own_postgres
    async with opened_store(own_postgres.database_url) as store, running_writer(store) as writer:
        load = Load(writer)
        appending = [asyncio.create_task(load.run()) for _ in range(10)]
        for _ in range(2):
            await load.more()
            os.kill(again.pid, signal.SIGKILL)
            again._process.wait()
            again = await asyncio.to_thread(
                embedded.start, tmp_path / "postgres", port=own_postgres.port, settings=QUICK_RECOVERY
            )
        await load.more()
        load.stop = True
        await asyncio.gather(*appending)
    async with await connect(own_postgres.database_url) as connection:
        await _check(connection, load.stored)
    again.stop()


async def _filled(store: Store, *, connections: int) -> None:
    """Have the pool open so many connections: all are in use at once."""
    all_have_one = asyncio.Barrier(connections)

    async def use() -> None:
        async with store.connection():
            await all_have_one.wait()

    await asyncio.gather(*(use() for _ in range(connections)))


@pytest.mark.parametrize("callers_at_once", [1, 8])
async def test_i13_connections_that_a_restart_has_ended_are_lent_to_nobody(
    own_postgres: embedded.Server, tmp_path: Path, callers_at_once: int
):
    async with opened_store(own_postgres.database_url, pool_size=8) as store:
        await _filled(store, connections=8)
        own_postgres.stop()
        again = embedded.start(tmp_path / "postgres", port=own_postgres.port)
        try:
            for _ in range(16 // callers_at_once):
                await asyncio.gather(*(store.now() for _ in range(callers_at_once)))
        finally:
            again.stop()


def _read_only(database: Database, setting: str) -> None:
    """What a failover leaves behind: a server that still answers, and takes nothing."""
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(database.superuser_url, autocommit=True, options=options) as connection:
        connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = {setting}".encode())


async def test_i13_a_server_that_has_become_read_only_delays_decisions_and_loses_none(database: Database):
    _read_only(database, "on")
    async with opened_store(database.url, pool_size=1) as store, running_writer(store) as writer:
        waiting = asyncio.create_task(writer.append(Decision(facts=(stated(new_id()),))))
        with pytest.raises(UnavailableError):
            async with store.connection() as connection:
                await connection.execute("DELETE FROM ledger.agenda")
        _read_only(database, "off")
        await waiting
        async with store.connection() as connection:
            await connection.execute("DELETE FROM ledger.agenda")
        assert await store.head() == 1


async def test_i13_a_week_without_a_partition_is_made_when_it_is_needed(database: Database, owner: Connection):
    now_ = (await (await owner.execute("SELECT now()")).fetchall())[0][0]
    await owner.execute(f"DROP TABLE ledger.stored_events_{now_:%Gw%V}".encode())
    async with opened_store(database.url) as store, running_writer(store) as writer:
        await writer.append(Decision(facts=(stated(new_id()),)))
