"""Ingest and a broker that stops answering where nobody listens for the end of a connection."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import psycopg
import pytest
from structlog.testing import capture_logs

from handlers import ingest
from handlers.ingest import Ingest
from ledger import queues
from ops.settings import load
from ops.wiring import parts
from tests.acceptance.audit import taken_in
from tests.acceptance.traffic import declared, publish, shipped
from tests.acceptance.wires import through
from tests.integration.ledger.parts import opened_store
from tests.support.postgres import Database
from tests.support.proxy import Proxy, Towards, forwarding
from tests.support.rabbitmq import Broker
from tests.support.service import SHARED, SOON, reached, until

# Methods of AMQP 0-9-1 as they stand in a frame: class and number, 16 bits each.
QUEUE_DECLARE, BASIC_CONSUME = b"\x00\x32\x00\x0a", b"\x00\x3c\x00\x14"
BEGINNING = pytest.mark.parametrize("method", [QUEUE_DECLARE, BASIC_CONSUME], ids=["declaring", "consuming"])


@asynccontextmanager
async def ingesting(database: Database, amqp_url: str) -> AsyncIterator[asyncio.Task[None]]:
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        tell = partial(queues.seen, given.ledger.store)
        role = Ingest(amqp_url, given.take_in, given.set_aside, given.ledger.clock, given.metrics, tell=tell)
        task = asyncio.create_task(role.run())
        try:
            yield task
        finally:
            role.stop()
            await task


@asynccontextmanager
async def before(broker: Broker) -> AsyncIterator[Proxy]:
    """A proxy before a broker that has the queues already."""
    await declared(broker.url)
    address = urlsplit(broker.url)
    async with forwarding(address.hostname or "", address.port or 0) as proxy:
        yield proxy


def counted(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM ledger.queue").fetchall()}


def interruptions(logs: Sequence[MutableMapping[str, Any]]) -> list[str]:
    return [line["error"] for line in logs if line["event"] == "ingest_interrupted"]


async def interrupted_by(silence: asyncio.Event, logs: Sequence[MutableMapping[str, Any]]) -> str:
    """Return the error of the first interruption after the broker has fallen silent."""
    await asyncio.wait_for(silence.wait(), SOON.total_seconds())
    had = len(interruptions(logs))
    await until(lambda: len(interruptions(logs)) > had, "the end of its patience")
    return interruptions(logs)[had]


async def test_a_queue_that_is_no_quorum_queue_is_named_and_when_it_is_gone_ingest_begins(
    database: Database, broker: Broker
):
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        await channel.declare_queue(ingest.NORMAL, durable=True, arguments={"x-queue-type": "classic"})
        with capture_logs() as logs:
            async with ingesting(database, broker.url):
                await until(lambda: bool(interruptions(logs)), "a refusal")
                await channel.queue_delete(ingest.NORMAL)
                # It insists until the exchange is there.
                await publish(broker.url, shipped(1))
                await reached(lambda: taken_in(database.url), 1, "a message")
                async with opened_store(database.url) as store:
                    # Who has no broker reads here what waits in it.
                    await until(lambda: counted(database.url) == {ingest.URGENT, ingest.NORMAL, ingest.DEAD}, "a count")
                    assert all(queue.waiting in {0, 1} for queue in await queues.waiting(store))
    said = next(line for line in logs if line["event"] == "ingest_interrupted")
    assert said["error"] == "ChannelPreconditionFailed"
    assert "inequivalent arg" in said["reason"]
    assert ingest.NORMAL in said["reason"]


@BEGINNING
async def test_i13_a_broker_that_answers_no_more_while_ingest_begins_is_asked_again_over_another_connection(
    database: Database, broker: Broker, monkeypatch: pytest.MonkeyPatch, method: bytes
):
    async with before(broker) as proxy:
        silence = proxy.stall_at(method, towards=Towards.SERVER)
        with capture_logs() as logs, monkeypatch.context() as impatient:
            impatient.setattr(ingest, "_ANSWERS_WITHIN", 1.0)
            async with ingesting(database, through(proxy, broker.url)):
                assert await interrupted_by(silence, logs) == "TimeoutError"
                impatient.undo()
                proxy.resume()
                await publish(broker.url, shipped(3))
                await reached(lambda: taken_in(database.url), 3, "messages")


@BEGINNING
async def test_i13_ingest_goes_on_when_the_client_gives_up_a_connection_that_is_stuck(
    database: Database, broker: Broker, monkeypatch: pytest.MonkeyPatch, method: bytes
):
    # The client's own patience ends first: three heartbeats that did not come.
    monkeypatch.setattr(ingest, "_ANSWERS_WITHIN", SOON.total_seconds())
    async with before(broker) as proxy:
        silence = proxy.stall_at(method, towards=Towards.SERVER)
        with capture_logs() as logs:
            async with ingesting(database, f"{through(proxy, broker.url)}?heartbeat=1") as task:
                await asyncio.wait_for(silence.wait(), SOON.total_seconds())
                await until(lambda: task.done() or bool(interruptions(logs)), "the end of the client's patience")
                assert not task.done()
                proxy.resume()
                await publish(broker.url, shipped(3))
                await reached(lambda: taken_in(database.url), 3, "messages")
    assert interruptions(logs)[0] == "ConnectionError"


async def test_i13_ingest_comes_again_where_a_broker_closes_the_connection_before_it_has_said_a_word(
    database: Database,
):
    """So does a load balancer whose broker is gone. A thread closes sooner than the client begins to read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=close_all_that_come, args=(server,), daemon=True).start()
        with capture_logs() as logs:
            async with ingesting(database, f"amqp://127.0.0.1:{server.getsockname()[1]}") as task:
                await until(lambda: task.done() or "StopAsyncIteration" in interruptions(logs), "what the client says")
                assert not task.done()
        server.shutdown(socket.SHUT_RDWR)


def close_all_that_come(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()
