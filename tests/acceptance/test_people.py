"""People whose contact changes while they are written to: every attempt goes where they are known to be by then."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ledger.ids import is_standing
from ledger.keys import Identity
from ledger.mapping import Recorded
from ledger.notification import AttemptStarted
from ledger.recipient import ContactChanged
from ledger.status import Status
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, at_the_end, count
from tests.acceptance.test_rabbitmq import DELIVER, killed_at
from tests.acceptance.traffic import ORDERS, USERS, Message, drained, message, publish
from tests.support.postgres import IDENTITY_KEY, Database
from tests.support.rabbitmq import Broker
from tests.support.service import WORKER, Service, until

PEOPLE = 25
ORDERS_EACH = 12
CHANGES_EACH = 8
BEGAN = datetime.now(UTC) - timedelta(minutes=10)
IDENTITY = Identity(IDENTITY_KEY)
HEARD = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'recipient.contact_changed'"
TAKEN = "SELECT count(*) FROM ledger.intake"


def moved(user: str, change: int) -> Message:
    """Their contact, as their n-th message tells it."""
    return {
        "messageId": str(uuid4()),
        "messageType": "UserContactChangedEvent",
        "timestamp": (BEGAN + timedelta(seconds=change)).isoformat(),
        "sourceService": "UserService",
        "payload": {"userId": user, "emailAddress": address(user, change), "firstName": f"No. {change}"},
    }


def address(user: str, change: int) -> str:
    return f"{user}-{change}@example.com"


def ordered(user: str) -> Message:
    return message("OrderShippedEvent", userId=user, userEmail=None)


async def test_i01_i02_i07_orders_go_where_people_are_while_they_move_and_ingest_and_deliver_are_killed(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    users = [f"u-{number}" for number in range(PEOPLE)]
    first = service.launch("ingest")
    await publish(broker.url, [moved(user, 0) for user in users], exchange=USERS)
    await until(lambda: count(database.url, HEARD) == PEOPLE, "the first contact of everybody")
    first.kill()
    orders = [ordered(user) for user in users for _ in range(ORDERS_EACH)]
    changes = [moved(user, change) for user in users for change in range(1, CHANGES_EACH + 1)]
    random.shuffle(changes)
    await asyncio.gather(
        publish(broker.url, orders, exchange=ORDERS),
        publish(broker.url, [*changes, *changes[:50]], exchange=USERS),
        killed_at(lambda: service.launch("ingest"), lambda: count(database.url, TAKEN), moments=(100, 300)),
        killed_at(lambda: service.launch(*DELIVER, program=WORKER), lambda: len(fake.requests), moments=(40, 150)),
    )
    await until(lambda: count(database.url, TAKEN) == PEOPLE + len(orders) + len(changes), "all messages")
    audit = await at_the_end(database.url, fake, orders)
    assert set(audit.statuses()) <= {Status.DISPATCHED, Status.IN_DOUBT}
    assert astray(audit) == []
    for user in users:
        assert last_known(audit, user) == IDENTITY.address_hash(address(user, CHANGES_EACH))
    await service.stop_all()
    assert await drained(broker)


def astray(audit: Audit) -> list[str]:
    """The attempts that began for an address that was not their person's when they did, in the order of the log."""
    facts = [fact for stream in (*audit.streams.values(), *audit.standing.values()) for fact in stream]
    known: dict[str, str | None] = {}
    found: list[str] = []
    for recorded in sorted(facts, key=lambda recorded: recorded.position or 0):
        fact: Any = recorded.fact
        if isinstance(fact, ContactChanged) and "email" in fact.fields:
            known[fact.recipient] = fact.email_hash
        elif isinstance(fact, AttemptStarted) and fact.address_hash != known[fact.recipient or ""]:
            found.append(f"{recorded.originator_id}: an attempt for an address that is no more")
    return found


def last_known(audit: Audit, user: str) -> str | None:
    changes = [recorded.fact for facts in audit.standing.values() for recorded in facts if _of(recorded, user)]
    last = changes[-1]
    assert isinstance(last, ContactChanged)
    return last.email_hash


def _of(recorded: Recorded, user: str) -> bool:
    assert is_standing(recorded.originator_id)
    return isinstance(recorded.fact, ContactChanged) and recorded.fact.recipient == f"user:{user}"
