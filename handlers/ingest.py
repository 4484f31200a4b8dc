"""Messages from RabbitMQ: taken in by batches, acked after the commit, and never in each other's way."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import aio_pika
import structlog
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError

from handlers import broker
from handlers.intake import Conflicting, Result, TakeIn, TakenIn, counted
from handlers.metrics import Metrics
from ledger.clock import Clock
from ledger.errors import LedgerError
from ledger.set_aside import TRIES, Refusal, SetAside
from templates.envelope import MessageRejectedError, UnknownMessageError

URGENT = "notification-ledger.ingest.urgent"
NORMAL = "notification-ledger.ingest"
DEAD = "notification-ledger.ingest.dead"
EXCHANGES = {
    URGENT: ("user.events",),
    NORMAL: ("order.events", "payment.events", "inventory.events", "support.events", "marketing.events"),
}
BATCH = 200
PREFETCH = 400
_DELIVERY_LIMIT = 100
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
# A broker answers heartbeats and may still owe the answer about one queue (its leader is gone): then another
# connection is tried.
_ANSWERS_WITHIN = 20.0
# What the client raises when the broker goes; the last one when it closes a connection before it has said a word.
_BROKER_GONE = (AMQPError, OSError, TimeoutError, RuntimeError, StopAsyncIteration)

_log = structlog.get_logger("handlers.ingest")
T = TypeVar("T")
Tell = Callable[[Mapping[str, int]], Awaitable[None]]


async def _nobody(_: Mapping[str, int]) -> None:
    """Tell nobody."""


class Ingest:
    """Consumes the two queues and drains the broker's dead ones; each queue has a channel and a prefetch of its own.

    `tell` is told every few seconds how many messages wait in each, or are in hand.
    """

    def __init__(
        self,
        amqp_url: str,
        take_in: TakeIn,
        set_aside: SetAside,
        clock: Clock,
        metrics: Metrics,
        *,
        by: str = "ingest",
        tell: Tell = _nobody,
    ) -> None:
        self._url = amqp_url
        self._take_in = take_in
        self._set_aside = set_aside
        self._clock = clock
        self._metrics = metrics
        self._by = by
        self._tell = tell
        self._stopping = asyncio.Event()
        self._consuming = False
        self._kept_by = "no connection"

    async def consuming(self) -> str | None:
        """Return what stands in the way of taking messages in: None = it consumes."""
        return None if self._consuming else self._kept_by

    def use_url(self, amqp_url: str) -> None:
        """Connect by this URL from the next time on: the password has changed."""
        self._url = amqp_url

    def stop(self) -> None:
        """Take nothing new; the batch in hand is finished, the rest goes back to the broker."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until stopped; a lost connection is made anew, and the broker gives back what was not acked."""
        failures = 0
        while not self._stopping.is_set():
            try:
                with _cancelled_by_us_alone():
                    await self._consume_all()
                failures = 0
            except (*_BROKER_GONE, LedgerError) as exc:
                reason = broker.reason_of(exc)
                self._kept_by = reason or "no connection"
                _log.warning("ingest_interrupted", error=type(exc).__name__, reason=reason)
                await self._pause(failures)
                failures += 1

    async def _consume_all(self) -> None:
        # What is urgent has a connection of its own: else it waits behind all that the broker has sent of the rest.
        async with (
            await aio_pika.connect(self._url, timeout=10) as ahead,
            await aio_pika.connect(self._url, timeout=10) as connection,
        ):
            broker.check(connection)
            async with asyncio.timeout(_ANSWERS_WITHIN):
                await declare(connection)
            urgent, normal, dead = (
                _Consumer(URGENT, self._handle, self._stopping),
                _Consumer(NORMAL, self._handle, self._stopping),
                _Consumer(DEAD, self._bury, self._stopping),
            )
            runs = [urgent.run(ahead), normal.run(connection), dead.run(connection)]
            with self._shown_as_consuming():
                await _together([*runs, self._measure(connection, [urgent, normal, dead])])

    @contextlib.contextmanager
    def _shown_as_consuming(self) -> Iterator[None]:
        self._consuming = True
        self._metrics.broker_connected.set(1)
        try:
            yield
        finally:
            self._consuming = False
            self._metrics.broker_connected.set(0)

    async def _measure(self, connection: AbstractConnection, consumers: Sequence["_Consumer"]) -> None:
        """Keep the gauges of the queues, until we stop; a broker that is too busy to be asked interrupts nobody."""
        while not self._stopping.is_set():
            for consumer in consumers:
                self._metrics.queue_unacked.labels(consumer.queue).set(consumer.held)
            try:
                waiting = {}
                async with asyncio.timeout(_ANSWERS_WITHIN), connection.channel() as channel:
                    for consumer in consumers:
                        told = await channel.declare_queue(consumer.queue, passive=True)
                        ready = told.declaration_result.message_count or 0
                        self._metrics.queue_ready.labels(consumer.queue).set(ready)
                        waiting[consumer.queue] = ready + consumer.held
                await self._tell(waiting)
            except (*_BROKER_GONE, LedgerError) as exc:
                _log.warning("queues_not_measured", error=type(exc).__name__)
            await self._pause(len(_PAUSES))

    async def _handle(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        """Take in a batch; one that was given to us before is handled alone, and acked before the next is touched."""
        if messages[0].redelivered:
            await self._handle_again(messages[0])
        else:
            started = time.monotonic()
            bodies = [message.body for message in messages]
            results = await self._insist(lambda: self._take_in.messages(bodies, by=self._by))
            for message, result in zip(messages, results, strict=True):
                await self._finish(message.body, result)
            self._metrics.ingestion_seconds.observe(time.monotonic() - started)
        await messages[-1].ack(multiple=True)

    async def _handle_again(self, message: AbstractIncomingMessage) -> None:
        """Count the try before looking inside: these bytes may be what ended the process that had them before."""
        body = message.body
        tries = await self._insist(lambda: self._set_aside.try_again(body))
        if tries >= TRIES:
            await self._keep(body, Refusal(reason="killer", faults=_killer(tries)))
            self._metrics.messages.labels("unknown", "killer").inc()
            return
        (result,) = await self._insist(lambda: self._take_in.messages([body], by=self._by))
        await self._finish(body, result)
        await self._insist(lambda: self._set_aside.forget_tries(body))

    async def _bury(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        for message in messages:
            await self._keep(message.body, Refusal(reason="given_up_by_the_broker"))
        await messages[-1].ack(multiple=True)

    async def _finish(self, body: bytes, result: Result) -> None:
        """Keep what was refused; only then may it be acked."""
        self._metrics.messages.labels(*counted(result)).inc()
        match result:
            case TakenIn() | UnknownMessageError():
                return
            case MessageRejectedError() | Conflicting():
                await self._keep(body, refusal_of(result))

    async def _keep(self, body: bytes, refusal: Refusal) -> None:
        await self._insist(lambda: self._set_aside.keep(body, refusal, origin="amqp", now=self._clock.now()))
        _log.warning("dead_letter", reason=refusal.reason, message_type=refusal.type, message_id=refusal.message_id)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it until our own database lets us: its trouble is never the message's (no nack, no further count)."""
        failures = 0
        while True:
            try:
                return await work()
            except LedgerError as exc:
                if self._stopping.is_set():
                    raise
                _log.warning("ingest_waits", error=type(exc).__name__)
                await self._pause(failures)
                failures += 1

    async def _pause(self, failures: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSES[min(failures, len(_PAUSES) - 1)]):
                await self._stopping.wait()


class _Consumer:
    """Reads one queue into a local buffer, and hands batches from it to a handler, in order."""

    def __init__(
        self,
        queue: str,
        handle: Callable[[Sequence[AbstractIncomingMessage]], Awaitable[None]],
        stopping: asyncio.Event,
    ) -> None:
        self.queue = queue
        self.held = 0
        self._handle = handle
        self._stopping = stopping
        self._buffer: deque[AbstractIncomingMessage] = deque()
        self._wake = asyncio.Event()
        self._lost = False

    async def run(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            # Held while we run: its callbacks tell us of its end.
            channel = await self._start(connection)
        stop = asyncio.create_task(self._stopping.wait())
        stop.add_done_callback(lambda _: self._wake.set())
        try:
            while not self._stopping.is_set():
                await self._wake.wait()
                self._wake.clear()
                while self._buffer and not self._stopping.is_set() and not self._lost:
                    batch = self._next_batch()
                    await self._handle(batch)
                    self.held -= len(batch)
                if self._lost or channel.is_closed:
                    raise ConnectionError(f"the channel of {self.queue} was lost")
        finally:
            stop.cancel()

    async def _start(self, connection: AbstractConnection) -> AbstractChannel:
        channel: AbstractChannel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        channel.close_callbacks.add(self._on_lost)
        queue = await channel.get_queue(self.queue)
        # A queue that is deleted, or whose leader moves, cancels its consumer and leaves the channel open.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_lost)
        await queue.consume(self._on_message)
        return channel

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._buffer.append(message)
        self.held += 1
        self._wake.set()

    def _on_lost(self, *_: object) -> None:
        self._lost = True
        self._wake.set()

    def _next_batch(self) -> list[AbstractIncomingMessage]:
        """Take what is there, without waiting for more; a redelivered message is a batch of its own."""
        batch = [self._buffer.popleft()]
        while not batch[0].redelivered and self._buffer and len(batch) < BATCH and not self._buffer[0].redelivered:
            batch.append(self._buffer.popleft())
        return batch


async def declare(connection: AbstractConnection) -> None:
    """Declare the exchanges and queues of the contract; what is there already stays as it is."""
    async with connection.channel() as channel:
        await channel.declare_queue(DEAD, durable=True, arguments={"x-queue-type": "quorum"})
        for name, exchanges in EXCHANGES.items():
            queue = await channel.declare_queue(
                name,
                durable=True,
                arguments={
                    "x-queue-type": "quorum",
                    "x-delivery-limit": _DELIVERY_LIMIT,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": DEAD,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            )
            for exchange in exchanges:
                topic = await channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True)
                await queue.bind(topic, routing_key="#")


def refusal_of(result: MessageRejectedError | Conflicting) -> Refusal:
    """Say why a message is set aside."""
    if isinstance(result, Conflicting):
        fault = {"path": "messageId", "message": "was taken in before with other content"}
        return Refusal(
            reason="conflict",
            faults=[fault],
            source=result.source,
            type=result.message_type,
            message_id=result.message_id,
        )
    return Refusal(
        reason=result.reason,
        faults=[{"path": fault.path, "message": fault.message} for fault in result.faults],
        source=result.source,
        type=result.message_type,
        message_id=result.message_id,
    )


async def _together(runs: Sequence[Awaitable[None]]) -> None:
    """Run all; when one fails the others are ended, and its error is raised."""
    tasks = [asyncio.ensure_future(_unless_lost(run)) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _unless_lost(run: Awaitable[None]) -> None:
    with _cancelled_by_us_alone():
        await run


@contextlib.contextmanager
def _cancelled_by_us_alone() -> Iterator[None]:
    """Make a lost connection of a cancellation that is not ours: the client cancels what waits on one that is stuck."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the client gave up a connection that was stuck") from None


def _killer(tries: int) -> list[dict[str, str]]:
    return [{"path": "", "message": f"was given to us {tries} times without being acked"}]
