import asyncio

import aio_pika
import aio_pika.abc
import psycopg

from tests.support.postgres import Database
from tests.support.rabbitmq import Broker, Node


def test_each_test_has_a_database_of_its_own_and_is_no_superuser_in_it(database: Database):
    with psycopg.connect(database.url) as connection:
        row = connection.execute(
            "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == ("ledger_app", database.name, False)


def test_the_application_cannot_make_a_schema_and_the_owner_can(database: Database):
    with psycopg.connect(database.owner_url) as connection:
        connection.execute("CREATE SCHEMA probe")
    with psycopg.connect(database.superuser_url) as connection:
        row = connection.execute("SELECT has_database_privilege('ledger_app', current_database(), 'CREATE')").fetchone()
    assert row == (False,)


async def test_a_quorum_queue_takes_a_confirmed_message(broker: Broker):
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await channel.declare_queue("probe", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), routing_key="probe")
        assert await broker.ready("probe") == 1
        taken = await queue.get(timeout=60)
        assert taken is not None
        assert taken.body == b"hello"
        await taken.ack()


async def test_cutting_all_connections_is_seen_by_the_client(broker: Broker):
    connection, cut = await _connect(broker.url)
    broker.close_all_connections()
    await asyncio.wait_for(cut.wait(), 60)
    assert broker.connections() == []
    await connection.close()


async def test_a_node_of_ones_own_can_be_down_and_up_again(own_rabbitmq: Node):
    connection, cut = await _connect(own_rabbitmq.address.amqp)
    own_rabbitmq.stop_app()
    await asyncio.wait_for(cut.wait(), 60)
    await connection.close()
    own_rabbitmq.start_app()
    async with await aio_pika.connect(own_rabbitmq.address.amqp) as again:
        assert not again.is_closed


async def _connect(url: str) -> tuple[aio_pika.abc.AbstractConnection, asyncio.Event]:
    connection, cut = await aio_pika.connect(url), asyncio.Event()
    connection.close_callbacks.add(lambda *_: cut.set())
    return connection, cut
