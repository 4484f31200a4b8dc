import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from ops import embedded
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import all_sent_once, taken_in
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import declared, drained, publishing, shipped
from tests.acceptance.wires import through
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.proxy import Towards, forwarding
from tests.support.rabbitmq import Broker, Node
from tests.support.service import WORKER, Service, reached

MESSAGES = 1_500
MOMENTS = (1, 400, 800)
# What a worker had claimed when its database went away is handled when that is back, not when its lease is over: these
# leases outlast the tests.
DELIVER = ("deliver", "--lease", "3600")


@pytest.fixture
async def on_own_postgres(
    own_database: embedded.Server, broker: Broker, fake: FakeSes, tmp_path: Path
) -> AsyncIterator[Service]:
    await declared(broker.url)
    settings = {"DATABASE_URL": own_database.database_url, "AMQP_URL": broker.url, "SES_ENDPOINT_URL": fake.url}
    async with processes.running(tmp_path, **settings) as service:
        yield service


@pytest.fixture
async def on_own_rabbitmq(
    database: Database, own_rabbitmq: Node, fake: FakeSes, tmp_path: Path
) -> AsyncIterator[Service]:
    url = own_rabbitmq.address.amqp
    await declared(url)
    async with processes.running(
        tmp_path, DATABASE_URL=database.url, AMQP_URL=url, SES_ENDPOINT_URL=fake.url
    ) as service:
        yield service


async def test_i13_closed_broker_connections_lose_and_double_nothing(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    messages = shipped(MESSAGES)
    await asyncio.gather(*(service.start(role) for role in ("ingest", "deliver")))
    async with publishing(broker.url, messages):
        for moment in MOMENTS:
            await reached(lambda: taken_in(database.url), moment, "messages")
            await asyncio.to_thread(broker.close_all_connections)
    await all_sent_once(database.url, fake, messages)
    assert "ingest_interrupted" in service.logs()
    await service.stop_all()
    assert await drained(broker)


async def test_i13_a_broker_that_goes_down_under_load_and_comes_back_loses_and_doubles_nothing(
    on_own_rabbitmq: Service, own_rabbitmq: Node, database: Database, fake: FakeSes
):
    messages, url = shipped(MESSAGES), own_rabbitmq.address.amqp
    roles = await asyncio.gather(*(on_own_rabbitmq.start(role) for role in ("ingest", "deliver")))
    async with publishing(url, messages[:1_000]):
        await reached(lambda: taken_in(database.url), MOMENTS[0], "messages")
        await asyncio.to_thread(own_rabbitmq.stop_app)
        async with publishing(url, messages[1_000:]):
            assert [role.lives() for role in roles] == [True, True]
            await asyncio.to_thread(own_rabbitmq.start_app)
    await all_sent_once(database.url, fake, messages)
    await on_own_rabbitmq.stop_all()


async def test_i01_i13_a_postgres_that_crashes_under_load_and_recovers_loses_and_doubles_nothing(
    on_own_postgres: Service, own_database: embedded.Server, broker: Broker, fake: FakeSes, tmp_path: Path
):
    messages = shipped(MESSAGES)
    ingest, deliver = on_own_postgres.start("ingest"), on_own_postgres.start(*DELIVER, program=WORKER)
    roles = await asyncio.gather(ingest, deliver)
    async with AsyncExitStack() as stack:
        async with publishing(broker.url, messages):
            await reached(lambda: taken_in(own_database.database_url), MOMENTS[1], "messages")
            stack.enter_context(crashed_and_recovered(own_database, tmp_path / "postgres"))
        await all_sent_once(own_database.database_url, fake, messages)
        assert [role.lives() for role in roles] == [True, True]
        await on_own_postgres.stop_all()
        assert await drained(broker)


async def test_i01_what_was_taken_in_across_a_crash_of_postgres_can_still_be_read_and_is_sent(
    own_database: embedded.Server, fake: FakeSes, tmp_path: Path
):
    """The crash falls between the making of the people's data keys and the append of what is sealed under them."""
    messages, url = shipped(3), own_database.database_url
    flushed_late(own_database.superuser_url)
    with ExitStack() as recovered:

        def crash() -> None:
            recovered.enter_context(crashed_and_recovered(own_database, tmp_path / "postgres"))

        async with forwarding("127.0.0.1", own_database.port) as proxy:
            fired = proxy.trap(b"notification.requested", towards=Towards.SERVER, forward=False, act=crash)
            await take_in(through(proxy, url), messages)
        assert fired.is_set()
        async with processes.running(tmp_path, DATABASE_URL=url, SES_ENDPOINT_URL=fake.url) as service:
            await service.start("deliver")
            await all_sent_once(url, fake, messages)
            await service.stop_all()


async def test_i13_a_claim_whose_reply_is_lost_is_handled_before_its_lease_ends(
    database: Database, fake: FakeSes, tmp_path: Path
):
    messages = shipped(3)
    await take_in(database.url, messages)
    async with (
        forwarding("127.0.0.1", urlsplit(database.url).port or 0) as proxy,
        processes.running(tmp_path, DATABASE_URL=through(proxy, database.url), SES_ENDPOINT_URL=fake.url) as service,
    ):
        # A column of the answer to a claim: the claim is committed, and nobody learns of it.
        fired = proxy.trap(b"claims\0", towards=Towards.CLIENT, forward=False)
        await service.start(*DELIVER, program=WORKER)
        await all_sent_once(database.url, fake, messages)
        assert fired.is_set()
        await service.stop_all()


async def test_i13_a_postgres_that_freezes_for_five_seconds_under_load_loses_and_doubles_nothing(
    on_own_postgres: Service, own_database: embedded.Server, broker: Broker, fake: FakeSes
):
    messages = shipped(MESSAGES)
    await asyncio.gather(*(on_own_postgres.start(role) for role in ("ingest", "deliver")))
    async with publishing(broker.url, messages):
        await reached(lambda: taken_in(own_database.database_url), MOMENTS[1], "messages")
        with frozen(own_database.pid):
            # The length of the freeze is the fault itself, not a wait for something.
            await asyncio.sleep(5)
    await all_sent_once(own_database.database_url, fake, messages)
    await on_own_postgres.stop_all()
    assert await drained(broker)


@contextmanager
def crashed_and_recovered(server: embedded.Server, folder: Path) -> Iterator[None]:
    """An immediate shutdown, as of a machine that loses its power, and a new start on the same port."""
    os.kill(server.pid, signal.SIGQUIT)
    server.stop()
    again = embedded.start(folder, port=server.port)
    try:
        yield
    finally:
        again.stop()


def flushed_late(superuser_url: str) -> None:
    """Leave what was committed without waiting for the disk unwritten as long as Postgres allows."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a Postgres with all its backends, as a hanging disk or a suspended machine does."""
    everyone = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for one in everyone:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        # The parent last: it would bury a child that had ended just before, and its number would name nobody.
        for one in reversed(everyone):
            os.kill(one, signal.SIGCONT)
