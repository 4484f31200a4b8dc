"""Every role restarted in turn, the database away, the broker away: who goes on publishing loses nothing."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import msgspec

from ops import embedded
from ops.secrets import AUDIENCE, ISSUER, secrets_in
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import all_sent_once, count, taken_in
from tests.acceptance.platform import Platform
from tests.acceptance.traffic import declared
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker, Node
from tests.support.service import Process, Service, reached, until

# A second; what a busy machine cannot do comes later.
RATE = 200
# Seconds for which a server is away; what it must show takes 30.
AWAY = float(os.environ.get("TEST_AWAY_SECONDS") or 5)
READINESS, LIVENESS = "/health/readiness", "/health/liveness"
PUBLISHED = "SELECT position FROM ledger.follower WHERE name = 'status_messages'"
HEAD = "SELECT max(notification_id) FROM ledger.stored_events"
LISTED = "SELECT count(*) FROM views.notification_log WHERE status = 'dispatched'"


class House:
    """The service with all its roles, each a process, and the platform that publishes to it."""

    def __init__(self, service: Service, platform: Platform, api_ports: list[int], url: str) -> None:
        self.platform = platform
        self.url = url
        self.service = service
        self._api_ports = api_ports

    async def replicas(self, role: str) -> list[Process]:
        """Start two of a role."""
        return list(await asyncio.gather(*(self.start(role, replica) for replica in range(2))))

    async def start(self, role: str, replica: int) -> Process:
        return await self.service.start(role, PORT=str(self._api_ports[replica]))

    async def restart(self, role: str, replicas: list[Process]) -> None:
        """End one replica after the other, each with its successor beside it but for the one port that both need."""
        for replica, process in enumerate(replicas):
            if role == "api":
                assert await process.stop() == 0, process.log()[-2000:]
                await self.start(role, replica)
            else:
                await self.start(role, replica)
                assert await process.stop() == 0, process.log()[-2000:]


@contextlib.asynccontextmanager
async def house(folder: Path, fake: FakeSes, *, database_url: str, amqp_url: str) -> AsyncIterator[House]:
    await declared(amqp_url)
    secrets, keys = secrets_in(folder), folder / "jwks.json"
    keys.write_bytes(msgspec.json.encode(secrets.public_keys()))
    settings = {
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "SES_ENDPOINT_URL": fake.url,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": keys.as_uri(),
    }
    api_ports = [ports.free(), ports.free()]
    token = secrets.token(subject="platform", now=time.time())
    async with processes.running(folder, **settings) as service:
        yield House(service, Platform(amqp_url, api_ports, token, rate=RATE), api_ports, database_url)


async def test_i22_every_role_is_restarted_in_turn_under_load_and_nothing_is_lost_repeated_or_in_doubt(
    database: Database, broker: Broker, fake: FakeSes, tmp_path: Path
):
    async with house(tmp_path, fake, database_url=database.url, amqp_url=broker.url) as running:
        roles = {role: await running.replicas(role) for role in ("deliver", "ingest", "project", "maintain", "api")}
        async with running.platform.publishing():
            for role, replicas in roles.items():
                await running.restart(role, replicas)
        messages = running.platform.messages
        await all_sent_once(database.url, fake, messages)
        await reached(lambda: count(database.url, LISTED), len(messages), "rows of the list")
        await running.service.stop_all()


async def test_i13_i23_a_database_and_then_a_broker_that_are_away_under_load_lose_and_double_nothing(
    own_database: embedded.Server, own_rabbitmq: Node, fake: FakeSes, tmp_path: Path
):
    url, amqp = own_database.database_url, own_rabbitmq.address.amqp
    async with (
        contextlib.AsyncExitStack() as stack,
        house(tmp_path, fake, database_url=url, amqp_url=amqp) as running,
    ):
        roles = {role: await running.start(role, 0) for role in ("deliver", "ingest", "project", "maintain", "api")}
        async with running.platform.publishing():
            await are_ready(roles)
            own_database.stop()
            await goes_by(roles, without=roles)
            again = embedded.start(tmp_path / "postgres", port=own_database.port)
            stack.callback(again.stop)
            await are_ready(roles)
            await asyncio.to_thread(own_rabbitmq.stop_app)
            before = taken_in(url)
            await goes_by(roles, without={"ingest"})
            await reached(lambda: taken_in(url), before + 1, "messages that came over HTTP meanwhile")
            await asyncio.to_thread(own_rabbitmq.start_app)
            await are_ready(roles)
        await all_sent_once(url, fake, running.platform.messages)
        await reached(lambda: count(url, PUBLISHED), count(url, HEAD), "positions of status messages")
        await running.service.stop_all()


async def are_ready(roles: Mapping[str, Process], *, without: Collection[str] = ()) -> float:
    """Wait until all are ready, but for some who are not; returns how many seconds it took, and shows them."""
    began = time.monotonic()
    wanted = {name: name not in without for name in roles}
    await until(lambda: {name: role.answers(READINESS) for name, role in roles.items()} == wanted, f"ready: {wanted}")
    took = time.monotonic() - began
    sys.stderr.write(f"ready without {sorted(without)} after {took:.1f} s\n")
    return took


async def goes_by(roles: Mapping[str, Process], *, without: Collection[str]) -> None:
    """Let an outage go by: these roles notice it, the others stay ready, and every one stays alive."""
    took = await are_ready(roles, without=without)
    assert all(role.answers(LIVENESS) for role in roles.values())
    await asyncio.sleep(max(0, AWAY - took))
