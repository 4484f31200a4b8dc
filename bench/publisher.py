"""The platform's side: a process that publishes messages with confirms, as fast or as slowly as it is told."""

import asyncio
import random
import time
from collections.abc import Iterator

import aiormq
import msgspec
import uvloop
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from bench import mails
from bench.processes import answer, receive, wait_for_go

# Messages that wait for their confirm at the same time.
WINDOW = 256
_PERSISTENT = 2


class Publishing(msgspec.Struct):
    """A job: `count` messages of a kind; `rate` a second, 0 = as fast as they are confirmed."""

    url: str
    kind: str
    count: int
    rate: float = 0.0


class Published(msgspec.Struct):
    """The monotonic time of the first, and, where a rate was asked for, of each by its message id."""

    began: float
    at: dict[str, float]


class _Body(msgspec.Struct):
    message_id: str = msgspec.field(name="messageId")


async def _work(job: Publishing) -> None:
    bodies = [mails.message(job.kind, number) for number in range(job.count)]
    connection = await aiormq.connect(job.url)
    channel = await connection.channel(publisher_confirms=True)
    wait_for_go()
    began = time.monotonic()
    at = await _at_rate(channel, job, bodies) if job.rate else await _at_once(channel, job, bodies)
    answer(Published(began, at))
    await connection.close()


async def _at_once(channel: AbstractChannel, job: Publishing, bodies: list[bytes]) -> dict[str, float]:
    waiting = iter(bodies)
    await asyncio.gather(*(_publish_all(channel, job, waiting) for _ in range(WINDOW)))
    return {}


async def _publish_all(channel: AbstractChannel, job: Publishing, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        await _publish(channel, job, body)


async def _at_rate(channel: AbstractChannel, job: Publishing, bodies: list[bytes]) -> dict[str, float]:
    """Publish one by one, at moments that meet no clock of the service in the same place each time."""
    at, turn = {}, time.monotonic()
    for body in bodies:
        turn += random.uniform(0.5, 1.5) / job.rate
        await asyncio.sleep(turn - time.monotonic())
        at[msgspec.json.decode(body, type=_Body).message_id] = time.monotonic()
        await _publish(channel, job, body)
    return at


async def _publish(channel: AbstractChannel, job: Publishing, body: bytes) -> None:
    properties = Basic.Properties(delivery_mode=_PERSISTENT, content_type="application/json")
    exchange = mails.EXCHANGES[job.kind]
    await channel.basic_publish(body, exchange=exchange, routing_key=mails.ROUTING_KEY, properties=properties)


if __name__ == "__main__":
    uvloop.run(_work(receive(Publishing)))
