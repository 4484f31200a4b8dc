"""Ingest and a broker that stops answering where nobody listens for the end of a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from handlers import ingest
from handlers.ingest import Ingest
from ops.settings import load
from ops.wiring import parts
from tests.acceptance.audit import taken_in
from tests.acceptance.traffic import declared, publish, shipped
from tests.acceptance.wires import through
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.rabbitmq import Broker
from tests.support.service import SHARED, reached, until

# Methods of AMQP 0-9-1 as they stand in a frame: class and number, 16 bits each.
QUEUE_DECLARE, BASIC_CONSUME = b"\x00\x32\x00\x0a", b"\x00\x3c\x00\x14"


@asynccontextmanager
async def ingesting(database: Database, amqp_url: str) -> AsyncIterator[None]:
    async with parts(load({**SHARED, "DATABASE_URL": database.url}, dotenv=None)) as given:
        role = Ingest(amqp_url, given.take_in, given.set_aside, given.ledger.clock, given.metrics)
        task = asyncio.create_task(role.run())
        try:
            yield
        finally:
            role.stop()
            await task


@pytest.mark.parametrize("method", [QUEUE_DECLARE, BASIC_CONSUME], ids=["declaring", "consuming"])
async def test_i13_a_broker_that_answers_no_more_while_ingest_begins_is_asked_again_over_another_connection(
    database: Database, broker: Broker, monkeypatch: pytest.MonkeyPatch, method: bytes
):
    monkeypatch.setattr(ingest, "_ANSWERS_WITHIN", 1.0)
    await declared(broker.url)
    parts_of_url = urlsplit(broker.url)
    async with forwarding(parts_of_url.hostname or "", parts_of_url.port or 0) as proxy:
        silent = proxy.trap(method, towards=Towards.SERVER, forward=False, act=proxy.stall)
        with capture_logs() as logs:
            async with ingesting(database, through(proxy, broker.url)):
                await until(
                    lambda: any(line["event"] == "ingest_interrupted" for line in logs), "the end of its patience"
                )
                assert silent.is_set()
                proxy.resume()
                await publish(broker.url, shipped(3))
                await reached(lambda: taken_in(database.url), 3, "messages")
