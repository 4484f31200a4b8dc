"""A person's data key that is gone without an erasure: an alarm, and nothing is lost by it."""

from typing import Any

import psycopg

from ledger.status import Status
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import Audit, all_sent_once, count, unfinished
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.support.postgres import Database
from tests.support.service import Service, reached, until

WAITING = "SELECT count(*) FROM ledger.agenda WHERE wait_until > now()"
ADDRESS = "ada.lovelace.1815@example.com"


async def test_i13_i18_without_its_persons_key_a_notification_waits_with_an_alarm_and_is_sent_when_the_key_is_back(
    service: Service, database: Database, fake: FakeSes
):
    waiting, others = message("OrderShippedEvent", userId="ada", userEmail=ADDRESS), shipped(2)
    await take_in(database.url, [waiting, *others])
    key = taken_away(database, "user:ada")
    deliver = await service.start("deliver")

    def tries() -> int:
        return int(deliver.metric("notification_dispatch_unreadable_total", channel="email", error="KeyMissingError"))

    await reached(tries, 1, "tries")
    await until(lambda: unfinished(database.url) == 1, "the end of the others")
    audit = Audit(database.url, fake.requests)
    assert audit.statuses() == {Status.REQUESTED: 1, Status.DISPATCHED: len(others)}
    assert audit.violations() == []
    await a_minute_later(database)
    await reached(tries, 2, "tries")
    given_back(database, key)
    await a_minute_later(database)
    await all_sent_once(database.url, fake, [waiting, *others])
    await service.stop_all()
    assert '"error": "KeyMissingError"' in service.logs()
    assert ADDRESS not in service.logs()


def taken_away(database: Database, recipient: str) -> tuple[Any, ...]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        query = "DELETE FROM ledger.recipient_key WHERE recipient = %s RETURNING recipient, wrapped"
        (row,) = connection.execute(query, (recipient,)).fetchall()
    return row


async def a_minute_later(database: Database) -> None:
    """What cannot be read is tried again after a minute: this is that minute."""
    await until(lambda: count(database.url, WAITING) == 1, "its waiting")
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.agenda SET wait_until = wait_until - interval '1 minute'")


def given_back(database: Database, key: tuple[Any, ...]) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("INSERT INTO ledger.recipient_key (recipient, wrapped) VALUES (%s, %s)", key)
