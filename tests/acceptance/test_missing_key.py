"""A person's data key that is gone without an erasure: an alarm, and nothing is lost by it."""

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg

from ledger.set_aside import HIDDEN
from ledger.status import Status
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, all_sent_once, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import Message, message, shipped
from tests.support.postgres import Database
from tests.support.service import Service, reached, until

WAITING = "SELECT count(*) FROM ledger.agenda WHERE wait_until > now()"
ADDRESS = "ada.lovelace.1815@example.com"
# What a publisher gives, and what the logs show of it.
CORRELATION_IDS = {"order-7": "order-7", ADDRESS: HIDDEN}


async def test_i13_i18_without_its_persons_key_a_notification_waits_with_an_alarm_and_is_sent_when_the_key_is_back(
    service: Service, database: Database, fake: FakeSes
):
    waiting, others = [for_ada(correlation_id) for correlation_id in CORRELATION_IDS], shipped(2)
    await take_in(database.url, [*waiting, *others])
    key = taken_away(database, "user:ada")
    deliver = await service.start("deliver")

    def tries() -> int:
        return int(deliver.metric("notification_dispatch_unreadable_total", channel="email", error="KeyMissingError"))

    await reached(tries, 2, "tries")
    await until(lambda: unfinished(database.url) == len(waiting), "the end of the others")
    audit = Audit(database.url, fake.requests)
    assert audit.statuses() == {Status.REQUESTED: len(waiting), Status.DISPATCHED: len(others)}
    assert audit.violations() == []
    await a_minute_later(database)
    await reached(tries, 4, "tries")
    given_back(database, key)
    await a_minute_later(database)
    await all_sent_once(database.url, fake, [*waiting, *others])
    await service.stop_all()
    lines = [msgspec.json.decode(line) for line in deliver.log().splitlines() if '"unreadable"' in line]
    assert {line["error"] for line in lines} == {"KeyMissingError"}
    assert {(line["message_id"], line["correlation_id"]) for line in lines} == {
        (one["messageId"], shown) for one, shown in zip(waiting, CORRELATION_IDS.values(), strict=True)
    }
    assert {line["notification_id"] for line in lines} == ids_of(audit, waiting)
    assert ADDRESS not in service.logs()


def for_ada(correlation_id: str) -> Message:
    return {**message("OrderShippedEvent", userId="ada", userEmail=ADDRESS), "correlationId": correlation_id}


def ids_of(audit: Audit, messages: Sequence[Message]) -> set[str]:
    known = {one["messageId"] for one in messages}
    return {str(stream) for stream, state in audit.states.items() if state.requested.message_id in known}


def taken_away(database: Database, recipient: str) -> tuple[Any, ...]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        query = "DELETE FROM ledger.recipient_key WHERE recipient = %s RETURNING recipient, wrapped"
        (row,) = connection.execute(query, (recipient,)).fetchall()
    return row


async def a_minute_later(database: Database) -> None:
    """What cannot be read is tried again after a minute: this is that minute."""
    await until(lambda: count(database.url, WAITING) == len(CORRELATION_IDS), "its waiting")
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.agenda SET wait_until = wait_until - interval '1 minute'")


def given_back(database: Database, key: tuple[Any, ...]) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("INSERT INTO ledger.recipient_key (recipient, wrapped) VALUES (%s, %s)", key)
