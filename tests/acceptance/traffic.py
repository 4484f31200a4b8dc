"""What the platform publishes: its sample messages as if they had just happened, and a publisher that insists."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import msgspec
from aio_pika.abc import AbstractExchange
from aiormq.exceptions import AMQPError

from handlers.ingest import NORMAL, URGENT, declare
from tests.support.rabbitmq import Broker
from tests.unit.templates.samples import sample

ORDERS = "order.events"
USERS = "user.events"
AT_A_TIME = 500
Message = dict[str, Any]


def message(message_type: str, **changes: Any) -> Message:
    """A message that is new: its own id, and the time of now."""
    return restamped({**sample(message_type, **changes), "messageId": str(uuid4())})


def restamped(again: Message) -> Message:
    """The same message, published once more."""
    return {**again, "timestamp": datetime.now(UTC).isoformat()}


def shipped(count: int) -> list[Message]:
    """So many messages that each make one mail, for as many people."""
    return [
        message("OrderShippedEvent", userId=str(uuid4()), userEmail=f"person-{number}@example.com")
        for number in range(count)
    ]


async def declared(url: str) -> None:
    """Declare what the service declares, so that a message published before its first start waits for it."""
    async with await aio_pika.connect(url) as connection:
        await declare(connection)


async def publish(url: str, messages: Sequence[Message | bytes], *, exchange: str = ORDERS) -> None:
    """Publish until the broker has confirmed every one; what it may have taken before a fault comes again."""
    left = [one if isinstance(one, bytes) else msgspec.json.encode(one) for one in messages]
    while left:
        try:
            async with await aio_pika.connect(url, timeout=5) as connection:
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                target = await channel.get_exchange(exchange, ensure=False)
                while left:
                    left = [*await _confirmed(target, left[:AT_A_TIME]), *left[AT_A_TIME:]]
        except (AMQPError, OSError, RuntimeError, TimeoutError):
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def publishing(url: str, messages: Sequence[Message | bytes]) -> AsyncIterator[None]:
    """Publish while the block runs, and to the end behind it; what ends the publisher ends the block."""
    async with asyncio.TaskGroup() as group:
        group.create_task(publish(url, messages))
        yield


async def _confirmed(target: AbstractExchange, bodies: Sequence[bytes]) -> list[bytes]:
    """Publish these; returns those of which nobody can say whether they arrived. Raises ConnectionError for all."""
    sent = (target.publish(aio_pika.Message(body, delivery_mode=2), "platform", timeout=10) for body in bodies)
    results = await asyncio.gather(*sent, return_exceptions=True)
    left = [body for body, result in zip(bodies, results, strict=True) if isinstance(result, BaseException)]
    if len(left) == len(bodies):
        # Whatever the client calls it (a publish that is cancelled with its channel, too), we publish again.
        raise ConnectionError("nothing was confirmed")
    return left


async def drained(broker: Broker) -> bool:
    """Whether nothing waits in the service's queues: ready ones alone, see `Broker.ready`."""
    return not any([await broker.ready(queue) for queue in (URGENT, NORMAL)])
