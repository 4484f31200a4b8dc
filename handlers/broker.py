"""What is expected of RabbitMQ as far as AMQP tells it, and what is said of a broker that will not do."""

from collections.abc import Mapping
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

# Dead letters of quorum queues that are kept until they have arrived came with it.
OLDEST = (3, 10)


class BrokerUnfitError(ConnectionError):
    """The broker could lose what it has confirmed, or lacks what our queues need. Connect to a newer RabbitMQ."""


def check(connection: AbstractConnection) -> None:
    """Raise BrokerUnfitError that names all that the broker lacks."""
    if connection.transport is not None and (lacking := faults(connection.transport.connection.server_properties)):
        raise BrokerUnfitError("; ".join(lacking))


def faults(properties: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a broker that introduces itself so (AMQP 0-9-1, `connection.start`)."""
    product, version = str(properties.get("product", "")), str(properties.get("version", ""))
    found = []
    if product != "RabbitMQ":
        found.append("the broker is not RabbitMQ, and has no quorum queues")
    elif _numbers(version) < OLDEST:
        found.append(f"RabbitMQ {version} is too old: {'.'.join(map(str, OLDEST))} is the oldest that will do")
    if not properties.get("capabilities", {}).get("publisher_confirms"):
        found.append("the broker confirms no messages")
    return found


def reason_of(exc: BaseException) -> str | None:
    """Say why the broker will not do, where that is the matter: what it lacks, or what it says of our queues."""
    return str(exc) if isinstance(exc, BrokerUnfitError | ChannelPreconditionFailed | ChannelAccessRefused) else None


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; what is none counts as 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
