"""Status messages of the service as it runs: through kills, a broker that goes and comes, and nobody who listens."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid5

import psycopg

from handlers.publish import OUTBOX, UNROUTED
from ledger.values import Accepted, Outcome, ReportKind
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import count
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import publish, shipped
from tests.integration.ledger import lives
from tests.integration.ledger.parts import running_ledger
from tests.support import service as processes
from tests.support.listener import Heard, bind, listening, out_of_order
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker, Node
from tests.support.service import Service, reached, until

QUEUE = "a-service"
DYING = "tests.support.relay"
LONG = timedelta(seconds=120)
STEPS: Sequence[Outcome | ReportKind] = [Accepted("ses-1"), ReportKind.DELIVERED, ReportKind.OPENED]
TOLD = """
SELECT originator_id, originator_version FROM ledger.stored_events
WHERE topic IN ('notification.dispatched', 'notification.delivered', 'notification.opened')
"""
PUBLISHED = "notification_outbox_published_total"
SENT = {"type": "NotificationSent", "result": "confirmed"}
LISTED = "SELECT coalesce(max(position), 0) FROM ledger.follower WHERE name = 'notification_log'"
BEHIND = f"""
SELECT (SELECT coalesce(max(notification_id), 0) FROM ledger.stored_events)
     - (SELECT coalesce(max(position), 0) FROM ledger.follower WHERE name = '{OUTBOX.name}')
"""


async def lived(url: str, notifications: int) -> None:
    """Let so many notifications be sent, arrive and be opened."""
    async with running_ledger(url) as ledger:
        for _ in range(notifications):
            await lives.live(ledger, STEPS)


def told_by_the_log(url: str) -> set[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        return {str(uuid5(stream, f"status/{version}")) for stream, version in connection.execute(TOLD.encode())}


async def published_all(url: str) -> None:
    await until(lambda: count(url, BEHIND) == 0, "the end of the outbox", within=LONG)


def same_under_each_id(heard: Sequence[Heard]) -> bool:
    return len({one.id for one in heard}) == len({one.raw for one in heard})


async def test_i14_a_listener_gets_everything_in_order_through_a_restart_of_the_broker(
    database: Database, own_rabbitmq: Node, tmp_path: Path
):
    url = own_rabbitmq.address.amqp
    await bind(url, QUEUE)
    async with processes.running(tmp_path, DATABASE_URL=database.url, AMQP_URL=url) as service:
        project = await service.start("project")
        await lived(database.url, 10)
        await until(lambda: project.metric(PUBLISHED, **SENT) >= 10, "the first messages")
        own_rabbitmq.stop_app()
        await lived(database.url, 30)
        own_rabbitmq.start_app()
        await lived(database.url, 10)
        await published_all(database.url)
        async with listening(url, QUEUE) as listener:
            expected = told_by_the_log(database.url)
            await until(lambda: listener.ids >= expected, "every message")
        await service.stop_all()
    assert listener.ids == expected
    assert len(expected) == 150
    assert out_of_order(listener.heard) == []
    assert same_under_each_id(listener.heard)


async def test_i14_a_kill_between_confirm_and_commit_repeats_some_under_the_same_ids_and_loses_none(
    service: Service, database: Database, broker: Broker
):
    await bind(broker.url, QUEUE)
    await lived(database.url, 30)
    for _ in range(3):
        assert await service.launch(program=DYING).ended() == -9
        assert count(database.url, BEHIND) > 0
    await service.start("project")
    await published_all(database.url)
    async with listening(broker.url, QUEUE) as listener:
        expected = told_by_the_log(database.url)
        await until(lambda: listener.ids >= expected and len(listener.heard) > len(expected), "every message")
    assert listener.ids == expected
    assert out_of_order(listener.heard) == []
    assert same_under_each_id(listener.heard)
    await service.stop_all()


async def test_nothing_stops_when_nobody_listens_and_it_is_seen(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    for role in ("ingest", "deliver"):
        await service.start(role)
    project = await service.start("project")
    await publish(broker.url, shipped(60))
    await reached(lambda: len(fake.requests), 60, "requests")
    await published_all(database.url)
    await until(lambda: project.metric("notification_outbox_unrouted") >= 60, "the gauge")
    assert project.metric(PUBLISHED, **SENT) == 60
    assert await broker.ready(UNROUTED) == 60
    await service.stop_all()


async def test_without_a_broker_nothing_is_published_and_the_views_go_on(database: Database, tmp_path: Path):
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        await service.start("project")
        await take_in(database.url, shipped(3))
        await until(lambda: count(database.url, LISTED) == 3, "the view")
        assert count(database.url, "SELECT count(*) FROM ledger.follower WHERE name = 'status_messages'") == 0
        await service.stop_all()
