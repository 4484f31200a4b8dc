"""Status messages to RabbitMQ: the outbox is the log itself, and its place moves over what is confirmed and routed."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

import aio_pika
import msgspec
import structlog
from aio_pika import DeliveryMode, ExchangeType
from aio_pika.abc import AbstractConnection, AbstractExchange
from aiormq.exceptions import DeliveryError, PublishError

from handlers import broker
from handlers.metrics import Metrics
from handlers.preference_messages import ToldPreference
from handlers.status_messages import SOURCE, StatusMessage, StatusMessages
from handlers.template_messages import ToldTemplate
from ledger.follower import Place
from ledger.mapping import Recorded
from ledger.store import Store

EVENTS = "notification.events"
# An exchange and the queue behind it: what nobody has bound a queue for.
UNROUTED = "notification.events.unrouted"
KEPT_UNROUTED = 100_000
OUTBOX = Place("status_messages", 1)
# Facts at a time: a broker that refuses one message is given the rest of these again.
BATCH = 500
_MEASURED_EVERY = timedelta(seconds=5)
_CONNECT = timedelta(seconds=3)
_ANSWER = timedelta(seconds=3)
_CLOSE = timedelta(seconds=1)

_log = structlog.get_logger("handlers.publish")


class Publish:
    """An outlet of the log: publishes the messages of its facts, each with the id that it will always have."""

    name = OUTBOX.name
    version = OUTBOX.version

    def __init__(self, amqp_url: str, store: Store, metrics: Metrics) -> None:
        self._url = amqp_url
        self._messages = StatusMessages(store)
        self._metrics = metrics
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None
        self._confirmed: set[UUID] = set()

    async def tell(self, facts: Sequence[Recorded], *, within: timedelta) -> int:
        """Publish what these facts have to tell; returns how many of them, from the first one on, are confirmed."""
        deadline = time.monotonic() + within.total_seconds()
        made = await self._messages.of(facts)
        for error in made.failed.values():
            raise error
        self._confirmed &= {message.message_id for message in made.messages}
        await self._publish(made.messages, deadline)
        left = (message.payload.position for message in made.messages if message.message_id not in self._confirmed)
        first = next(left, None)
        if first is None:
            self._confirmed.clear()
            return len(facts)
        return sum((fact.position or 0) < first for fact in facts)

    def use_url(self, amqp_url: str) -> None:
        """Connect by this URL from the next time on: the password has changed."""
        self._url = amqp_url

    async def watch_unrouted(self) -> NoReturn:
        """Keep the gauge of what nobody listens to, for ever."""
        while True:
            with _outage("unrouted_not_measured"):
                connection = await aio_pika.connect(self._url, timeout=_CONNECT.total_seconds())
                try:
                    await _measure(connection, self._metrics)
                finally:
                    await _leave(connection)
            await asyncio.sleep(_MEASURED_EVERY.total_seconds())

    async def aclose(self) -> None:
        """Leave the broker."""
        connection, self._connection, self._exchange = self._connection, None, None
        if connection is not None:
            await _leave(connection)

    async def _publish(self, messages: Sequence[StatusMessage], deadline: float) -> None:
        """Publish as far as it goes; what was confirmed before is not published again."""
        with _outage("publishing_interrupted"):
            for wave in _waves([one for one in messages if one.message_id not in self._confirmed]):
                async with asyncio.timeout(_left(deadline)):
                    exchange = await self._open()
                if not await self._confirm(exchange, wave, timeout=_left(deadline)):
                    break
            else:
                return
        # What the broker has not yet read of this connection must not come behind what is published next.
        await self.aclose()

    async def _open(self) -> AbstractExchange:
        if self._exchange is None or self._connection is None or self._connection.is_closed:
            await self.aclose()
            self._connection = await aio_pika.connect(self._url, timeout=_CONNECT.total_seconds())
            broker.check(self._connection)
            await declare(self._connection)
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            self._exchange = await channel.get_exchange(EVENTS, ensure=False)
        return self._exchange

    async def _confirm(self, exchange: AbstractExchange, wave: Sequence[StatusMessage], *, timeout: float) -> bool:
        """Publish a wave and wait; False when not all of it was confirmed, and routed somewhere."""
        sent = {asyncio.ensure_future(_sent(exchange, message)): message for message in wave}
        _, pending = await asyncio.wait(sent, timeout=timeout)
        for task in pending:
            task.cancel()
        results = await asyncio.gather(*sent, return_exceptions=True)
        for message, result in zip(sent.values(), results, strict=True):
            self._metrics.published.labels(message.message_type.value, _word(result)).inc()
            if not isinstance(result, BaseException):
                self._confirmed.add(message.message_id)
        return all(message.message_id in self._confirmed for message in wave)


async def _measure(connection: AbstractConnection, metrics: Metrics) -> None:
    async with asyncio.timeout(_ANSWER.total_seconds()):
        await declare(connection)
        channel = await connection.channel()
    while True:
        # A queue without a majority answers nothing, on a connection that is otherwise in the best of health.
        async with asyncio.timeout(_ANSWER.total_seconds()):
            told = await channel.declare_queue(UNROUTED, passive=True)
        metrics.unrouted.set(told.declaration_result.message_count or 0)
        await asyncio.sleep(_MEASURED_EVERY.total_seconds())


async def declare(connection: AbstractConnection) -> None:
    """Declare where messages go out, and where they end when nobody listens; what is there already stays as it is."""
    async with connection.channel() as channel:
        unrouted = await channel.declare_exchange(UNROUTED, ExchangeType.FANOUT, durable=True)
        queue = await channel.declare_queue(
            UNROUTED,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": KEPT_UNROUTED, "x-overflow": "drop-head"},
        )
        await queue.bind(unrouted)
        await channel.declare_exchange(
            EVENTS, ExchangeType.TOPIC, durable=True, arguments={"alternate-exchange": UNROUTED}
        )


def routing_key(message: StatusMessage) -> str:
    """Return what consumers bind by: type, channel and category, as in `NotificationSent.email.security`.

    What a person allows, and what a template says, is of no one channel: there it is type and event.
    """
    told = message.payload
    if isinstance(told, ToldPreference | ToldTemplate):
        return f"{message.message_type}.{told.event}"
    return f"{message.message_type}.{told.channel}.{told.category}"


@contextlib.contextmanager
def _outage(event: str) -> Iterator[None]:
    """Log what is raised in talking to the broker: whatever it is, no fact is at fault.

    When a connection ends, the client also cancels what waits.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError) as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from exc
        _log.warning(event, error=type(exc).__name__, reason=broker.reason_of(exc))


async def _leave(connection: AbstractConnection) -> None:
    with _outage("broker_left_without_a_word"):
        async with asyncio.timeout(_CLOSE.total_seconds()):
            await connection.close()


def _left(deadline: float) -> float:
    """Return the seconds that are left; TimeoutError when there are none: then nothing more may leave."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _waves(messages: Sequence[StatusMessage]) -> list[list[StatusMessage]]:
    """Part messages so that each wave has one of a notification at most.

    A wave is published when the one before is confirmed: no message overtakes one of its own notification that failed.
    """
    waves: list[list[StatusMessage]] = []
    seen: Counter[UUID] = Counter()
    for message in messages:
        place = seen[message.partition_key]
        if place == len(waves):
            waves.append([])
        waves[place].append(message)
        seen[message.partition_key] += 1
    return waves


async def _sent(exchange: AbstractExchange, message: StatusMessage) -> None:
    await exchange.publish(
        aio_pika.Message(
            msgspec.json.encode(message),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=str(message.message_id),
            timestamp=message.timestamp,
            type=message.message_type.value,
            app_id=SOURCE,
        ),
        routing_key(message),
        mandatory=True,
    )


_WORDS: Mapping[type, str] = {PublishError: "returned", DeliveryError: "refused"}


def _word(result: BaseException | None) -> str:
    return "confirmed" if result is None else _WORDS.get(type(result), "unconfirmed")
