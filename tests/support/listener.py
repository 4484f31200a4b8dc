"""Another service that listens to status messages: a queue of its own, and all that came into it."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aio_pika
import msgspec

from handlers.publish import EVENTS, declare

ALL = "#"


class Heard(msgspec.Struct, frozen=True):
    """A message as it came: its body, how it was routed, and the properties that its publisher gave it."""

    body: dict[str, Any]
    raw: bytes
    routing_key: str
    properties: dict[str, Any]

    @property
    def id(self) -> str:
        """Its messageId."""
        found: str = self.body["messageId"]
        return found

    @property
    def told(self) -> dict[str, Any]:
        """Its payload."""
        found: dict[str, Any] = self.body["payload"]
        return found


async def bind(url: str, queue: str, *, key: str = ALL, **arguments: Any) -> None:
    """Declare what the service declares, and a durable queue that gets what fits the key."""
    async with await aio_pika.connect(url) as connection:
        await declare(connection)
        channel = await connection.channel()
        given = {name.replace("_", "-"): value for name, value in arguments.items()} or {"x-queue-type": "quorum"}
        await (await channel.declare_queue(queue, durable=True, arguments=given)).bind(EVENTS, key)


@asynccontextmanager
async def listening(url: str, queue: str) -> AsyncIterator["Listener"]:
    """Consume a queue while the block runs."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1_000)
        listener = Listener()
        await (await channel.get_queue(queue)).consume(listener.hear)
        yield listener


class Listener:
    """Everything that has come, in order."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Take one message in, and ack it."""
        properties: dict[str, Any] = {"message_id": message.message_id, "type": message.type, "app_id": message.app_id}
        properties |= {"timestamp": message.timestamp, "delivery_mode": message.delivery_mode}
        body = msgspec.json.decode(message.body)
        self.heard.append(Heard(body, message.body, message.routing_key or "", properties))
        await message.ack()

    @property
    def ids(self) -> set[str]:
        """The ids that have come, once or more often."""
        return {one.id for one in self.heard}


def first_of_each(heard: Sequence[Heard]) -> list[Heard]:
    """Leave out what had come before."""
    first: dict[str, Heard] = {}
    for one in heard:
        first.setdefault(one.id, one)
    return list(first.values())


def versions(heard: Sequence[Heard]) -> dict[UUID, list[int]]:
    """The versions that came of each notification or person, in the order in which each came first."""
    found: dict[UUID, list[int]] = defaultdict(list)
    for one in first_of_each(heard):
        found[UUID(one.body["partitionKey"])].append(one.told["version"])
    return found


def out_of_order(heard: Sequence[Heard]) -> list[UUID]:
    """The notifications and people of which a version came, for the first time, after a higher one."""
    return [stream for stream, came in versions(heard).items() if came != sorted(came)]
