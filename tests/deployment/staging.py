"""A service that is watched: its roles as processes, traffic of every kind, and a Prometheus."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec

from handlers.publish import OUTBOX
from ledger import notification as n
from ledger.ledger import Ledger
from ledger.values import Accepted, Channel
from ops.roles import ROLES
from ops.secrets import AUDIENCE, ISSUER, Secrets, secrets_in
from providers.fakes.ses import TOPIC, FakeSes
from providers.fakes.smtp import FakeSmtp
from providers.fakes.twilio import ACCOUNT, TOKEN, FakeTwilio
from tests.acceptance.traffic import USERS, Message, declared, message, publish
from tests.acceptance.wires import through
from tests.integration.ledger import lives
from tests.integration.ledger.parts import now, running_ledger
from tests.support import ports, prometheus
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.prometheus import Prometheus
from tests.support.proxy import Proxy, forwarding
from tests.support.rabbitmq import Broker
from tests.support.service import SOON, Process, Service

LONG_AGO = timedelta(hours=1)
_PAUSE = 0.3
_PHONE = "+15005550001"


class Watched:
    """A service with all around it. `to_broker` is its way to RabbitMQ, which may be cut."""

    def __init__(self, stack: AsyncExitStack, database: Database, broker: Broker, folder: Path) -> None:
        self.fake: FakeSes
        self.to_broker: Proxy
        self.ledger: Ledger
        self.prometheus: Prometheus
        self.api: httpx.AsyncClient
        self._stack = stack
        self._database = database
        self._broker = broker
        self._folder = folder
        self._ports = {role: ports.free() for role in ROLES}
        self._roles: dict[str, Process] = {}
        self._service: Service

    async def open(self) -> None:
        """Start everything; what was started ends with the stack."""
        enter, port = self._stack.enter_async_context, ports.free()
        self.fake = await FakeSes.start(keep=10)
        self._stack.push_async_callback(self.fake.stop)
        amqp = urlsplit(self._broker.url)
        self.to_broker = await enter(forwarding(amqp.hostname or "", amqp.port or 5672))
        await declared(self._broker.url)
        self.ledger = await enter(running_ledger(self._database.url))
        secrets = secrets_in(self._folder)
        (self._folder / "jwks.json").write_bytes(msgspec.json.encode(secrets.public_keys()))
        settings = self._settings(port) | await self._other_providers()
        self._service = await enter(processes.running(self._folder, **settings))
        # It takes 5 s to turn to its targets: it begins before they do.
        config = prometheus.configuration(self._folder, self._ports.values())
        self.prometheus = await enter(prometheus.running(self._folder, config))
        await asyncio.gather(*(self.start(role) for role in ROLES))
        await self.fake.topic.subscribe(f"http://127.0.0.1:{port}/callbacks/ses")
        self.api = await enter(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=_bearer(secrets), timeout=60)
        )

    async def stop(self, role: str) -> None:
        assert await self._roles[role].stop() == 0

    async def start(self, role: str) -> None:
        """Start a role where Prometheus looks for it."""
        self._roles[role] = await self._service.start(role, OPS_PORT=str(self._ports[role]))

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Let messages come while the block runs."""
        task = asyncio.create_task(self._publish_for_ever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def ask_about_an_old_sms(self) -> None:
        """Let an SMS be there that was taken an hour ago and of which nothing was heard: it is asked for."""
        at, attempt = now() - LONG_AGO, uuid4()
        stream = await lives.begin(self.ledger, channel=Channel.SMS, at=at)
        origin = n.Origin(now=at, cause="agenda", by="deliver")
        intent = n.Intent(
            attempt=attempt,
            provider="twilio",
            address_hash="ab" * 16,
            digest=b"d" * 32,
            template_version="v1",
            locale="en",
            deadline_at=at,
        )
        taken = Accepted(f"SM{uuid4().hex}")
        await lives.decide(self.ledger, stream, lambda state, _: n.start_attempt(state, intent, origin))
        await lives.decide(self.ledger, stream, lambda state, _: n.settle(state, attempt, taken, origin, retry_at=at))

    async def let_one_be_due_for_long(self) -> None:
        """Let a mail be there that was taken in an hour ago and not sent since."""
        await lives.begin(self.ledger, at=now() - LONG_AGO, type="welcome", template="welcome")

    async def lose_the_broker(self) -> None:
        """Cut the way to RabbitMQ, and publish from the start again: what is old then waits, not what comes now."""
        self.to_broker.refuse()
        async with self.ledger.store.connection() as connection:
            await connection.execute("UPDATE ledger.follower SET position = 0 WHERE name = %s", (OUTBOX.name,))

    async def publish(self, *messages: Message | bytes) -> None:
        await publish(self._broker.url, messages)

    async def post(self, path: str, **body: str) -> httpx.Response:
        reply = await self.api.post(path, json=body)
        reply.raise_for_status()
        return reply

    async def _publish_for_ever(self) -> None:
        while True:
            await publish(self._broker.url, list(_orders()))
            await publish(
                self._broker.url, [message("PasswordResetRequestedEvent", emailAddress=_mail())], exchange=USERS
            )
            await asyncio.sleep(_PAUSE)

    def _settings(self, port: int) -> dict[str, str]:
        return {
            "DATABASE_URL": self._database.url,
            "AMQP_URL": through(self.to_broker, self._broker.url),
            "CHANNELS": "email,sms",
            "SES_ENDPOINT_URL": self.fake.url,
            "SES_CERTIFICATE_ORIGIN": self.fake.url,
            "SES_TOPIC_ARNS": TOPIC,
            "SES_RATE": "500",
            "SPEND_CAPS": "email=1000 USD",
            "SMS_SENDER": "+15005550006",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "JWT_JWKS_URL": (self._folder / "jwks.json").as_uri(),
            "PORT": str(port),
        }

    async def _other_providers(self) -> dict[str, str]:
        twilio, relay = await FakeTwilio.start(), await FakeSmtp.start()
        self._stack.push_async_callback(twilio.stop)
        self._stack.push_async_callback(relay.stop)
        account = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN}
        return {"TWILIO_BASE_URL": twilio.url, "SMTP_URL": relay.url, **account}


@asynccontextmanager
async def watched(database: Database, broker: Broker, folder: Path) -> AsyncIterator[Watched]:
    """Everything runs while the block does."""
    async with AsyncExitStack() as stack:
        service = Watched(stack, database, broker, folder)
        await service.open()
        yield service


async def eventually(missing: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until nothing is missing any more; TimeoutError names what still is."""
    give_up_at = time.monotonic() + SOON.total_seconds()
    while left := await missing():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: {left}")
        await asyncio.sleep(_PAUSE)


def _orders() -> list[Message]:
    """A mail that arrives, one that bounces, and one that is refused, so that an SMS takes its place."""
    failed = message("PaymentFailedEvent", userEmail=_mail("refused"), userPhoneNumber=_PHONE)
    return [*(message("OrderShippedEvent", userEmail=_mail(what)) for what in ("success", "bounce")), failed]


def _mail(what: str = "success") -> str:
    return f"{what}+{uuid4().hex[:8]}@sandbox.example"


def _bearer(secrets: Secrets) -> dict[str, str]:
    return {"Authorization": f"Bearer {secrets.token(subject='test', now=time.time())}"}
