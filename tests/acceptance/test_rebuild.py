"""The lists made anew by the command while the service runs: nobody is told by it, and who reads does not notice."""

import asyncio

import psycopg

from ledger.store import connect
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import all_sent_once, count
from tests.acceptance.test_status_messages import QUEUE, published_all, told_by_the_log
from tests.acceptance.traffic import publish, shipped
from tests.support import service as processes
from tests.support.listener import bind, listening
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, reached, until

REBUILD = ("rebuild", "notification_log")
MESSAGES = 40
LISTED = "SELECT count(*) FROM views.notification_log WHERE status = 'dispatched'"
# It fills its tables, and cannot exchange them while somebody reads.
HOLD = "SELECT FROM views.notification_log"
FILLED = "SELECT count(*) FROM ledger.follower WHERE name = 'notification_log_anew' AND position > 0"
LEFT_BEHIND = """
SELECT count(*) FROM pg_class WHERE relnamespace IN ('views_anew'::regnamespace, 'views_gone'::regnamespace)
"""


async def test_i12_lists_are_made_anew_while_messages_flow_and_again_when_that_was_killed(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    url, sent = database.url, shipped(MESSAGES)
    await bind(broker.url, QUEUE)
    await asyncio.gather(*(service.start(role) for role in ("ingest", "deliver", "project")))
    await publish(broker.url, sent)
    await until(lambda: count(url, LISTED) == MESSAGES, "the list")

    with psycopg.connect(url) as holding:
        holding.execute(HOLD)
        killed = service.launch(*REBUILD, program=processes.CLI)
        await until(lambda: count(url, FILLED) == 1, "the filled tables")
        killed.kill()
        assert await killed.ended() == -9
    assert count(url, LEFT_BEHIND) > 0

    reading = asyncio.create_task(least_seen(url))
    more = shipped(MESSAGES)
    rebuilding = service.launch(*REBUILD, program=processes.CLI)
    await publish(broker.url, more)
    assert await rebuilding.ended() == 0, rebuilding.log()
    await reached(lambda: len(fake.requests), 2 * MESSAGES, "requests")
    await until(lambda: count(url, LISTED) == 2 * MESSAGES, "the list")
    reading.cancel()
    assert await reading >= MESSAGES
    assert count(url, LEFT_BEHIND) == 0

    compared = service.launch(*REBUILD, "--dry-run", program=processes.CLI)
    assert await compared.ended() == 0, compared.log()
    await published_all(url)
    async with listening(broker.url, QUEUE) as listener:
        expected = told_by_the_log(url)
        await until(lambda: listener.ids >= expected, "every message")
    assert len(listener.heard) == len(expected) == 2 * MESSAGES
    await all_sent_once(url, fake, [*sent, *more])
    await service.stop_all()


async def least_seen(url: str) -> int:
    """Read the list all the while; returns the least that it has shown."""
    least = MESSAGES
    async with await connect(url) as connection:
        try:
            while True:
                ((seen,),) = await (await connection.execute(LISTED)).fetchall()
                least = min(least, seen)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return least
