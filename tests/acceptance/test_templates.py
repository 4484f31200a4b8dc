"""Words that change while the service runs: every process says them without a restart; what waited keeps its own."""

import shutil
from pathlib import Path

import psycopg

from providers.fakes.ses import FakeSes
from providers.fakes.ses_log import Request
from templates.files import MESSAGES, version_of
from tests.acceptance.traffic import message, publish
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, until

NAME = "order_shipped"
WHY = ("--reason", "a test")
PINNED = """
SELECT fact ->> 'template_version' FROM ledger.facts WHERE topic = 'notification.requested' ORDER BY position
"""


def pinned(database: Database) -> list[str]:
    with psycopg.connect(database.url) as connection:
        return [version for (version,) in connection.execute(PINNED)]


async def ordered(database: Database, broker: Broker) -> str:
    """Have one order taken in; returns the version that it was pinned to."""
    before = len(pinned(database))
    await publish(broker.url, [message("OrderShippedEvent", userEmail=f"person-{before}@example.com")])
    await until(lambda: len(pinned(database)) > before, "the next order")
    return pinned(database)[-1]


async def ordered_until(database: Database, broker: Broker, version: str) -> None:
    """Have orders taken in until one is pinned to a version: each process learns of it in a moment of its own."""
    for _ in range(100):
        if await ordered(database, broker) == version:
            return
    raise AssertionError("nobody has learnt of the version")


async def changed(service: Service, *arguments: object) -> None:
    process = service.launch("templates", *map(str, arguments), *WHY)
    assert await process.ended() == 0, process.log()


async def test_what_is_published_is_said_without_a_restart_and_what_waits_says_what_it_was_pinned_to(
    service: Service, database: Database, broker: Broker, fake: FakeSes, tmp_path: Path
):
    folder = Path(shutil.copytree(MESSAGES, tmp_path / "messages"))
    (folder / NAME / "en" / "subject.txt").write_text("On its way")
    shipped, version = version_of(MESSAGES, NAME), version_of(folder, NAME)
    await service.start("ingest")
    first = await service.start("deliver")
    await ordered_until(database, broker, shipped)
    await first.stop()
    await ordered(database, broker)
    await changed(service, "push", folder)
    await ordered_until(database, broker, version)
    await service.start("deliver")
    await changed(service, "rollback", NAME, shipped)
    await ordered_until(database, broker, shipped)
    versions = pinned(database)
    await until(lambda: len({request.to for request in fake.requests}) == len(versions), "every mail")
    said = {request.to: subject(request) for request in fake.requests}
    for number, was_pinned_to in enumerate(versions):
        assert (said[f"person-{number}@example.com"] == "On its way") == (was_pinned_to == version)


def subject(request: Request) -> str:
    assert request.body is not None
    assert request.body.content.simple is not None
    return request.body.content.simple.subject.data
