"""What people allow, told over RabbitMQ in any order while ingest is killed: what was said last holds for everybody."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ledger.recipient import Recipient
from ledger.values import Category, Channel
from tests.acceptance.audit import count
from tests.acceptance.test_rabbitmq import killed_at
from tests.acceptance.traffic import USERS, Message, drained, publish
from tests.integration.ledger.parts import running_ledger
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, until

PEOPLE = 20
CHANGES = 10
BEGAN = datetime.now(UTC) - timedelta(minutes=10)
TAKEN = "SELECT count(*) FROM ledger.intake"
VERSIONS = """
SELECT count(*) FROM (
    SELECT 1 FROM ledger.stored_events GROUP BY originator_id HAVING max(originator_version) <> count(*)
) AS gaps
"""


def said(user: str, change: int) -> Message:
    """What somebody allows, as their n-th message tells it: all of it is other than before."""
    at = (BEGAN + timedelta(seconds=change)).isoformat()
    payload: dict[str, Any] = {
        "userId": user,
        "preferences": [{"category": "marketing", "channel": "email", "enabled": change % 2 == 0}],
        "consents": [{"purpose": "offers", "granted": change % 2 == 1, "wording": f"v{change}", "at": at}],
        "quietHours": {"from": f"{change:02}:00", "to": "07:30"},
    }
    return {
        "messageId": str(uuid4()),
        "messageType": "UserPreferencesChangedEvent",
        "timestamp": at,
        "sourceService": "UserService",
        "payload": payload,
    }


async def test_i01_i02_what_was_said_last_holds_for_everybody_while_ingest_is_killed(
    service: Service, database: Database, broker: Broker
):
    users = [f"u-{number}" for number in range(PEOPLE)]
    messages = [said(user, change) for user in users for change in range(1, CHANGES + 1)]
    random.shuffle(messages)
    await asyncio.gather(
        killed_at(lambda: service.launch("ingest"), lambda: count(database.url, TAKEN), moments=(30, 120)),
        publish(broker.url, [*messages, *messages[:40]], exchange=USERS),
    )
    await until(lambda: count(database.url, TAKEN) == len(messages), "all messages")
    async with running_ledger(database.url) as ledger:
        for user in users:
            assert_last_holds(await ledger.recipient(user))
    assert count(database.url, VERSIONS) == 0
    await service.stop_all()
    assert await drained(broker)


def assert_last_holds(known: Recipient) -> None:
    allows, last = known.allows, BEGAN + timedelta(seconds=CHANGES)
    assert allows.quiet is not None
    assert allows.quiet.hours is not None
    assert allows.choices[Category.MARKETING, Channel.EMAIL].enabled is True
    assert (allows.consents["offers"].granted, allows.consents["offers"].wording) == (False, f"v{CHANGES}")
    assert allows.quiet.hours.start.hour == CHANGES
    assert {allows.quiet.said_at, allows.consents["offers"].said_at} == {last}
