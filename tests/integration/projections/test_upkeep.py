from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger.follower import parked
from ledger.ledger import Ledger
from ledger.store import Encoded
from projections import notification_log_upkeep as upkeep
from projections.notification_log import NotificationLog
from tests.integration import old_weeks as long_ago
from tests.integration.ledger.parts import rows, value
from tests.integration.projections.lives import Life
from tests.support.postgres import Database

VIEW = NotificationLog()
TABLES = ("log", "log_status", "log_reference", "log_address", "log_business_reference")
OLD_TABLE = "CREATE TABLE IF NOT EXISTS views.notification_log_rare_v1 (notification uuid)"
RUN_OLD = "INSERT INTO ledger.follower (name, version, lease_until) VALUES ('notification_log', 1, now() + %s)"


async def _tables(connection: AsyncConnection[Any]) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'views'::regnamespace AND relkind = 'r' ORDER BY 1"
    return [name for (name,) in await rows(connection, query)]


async def test_the_tables_of_an_old_version_go_a_day_after_its_last_reader_and_not_while_they_are_shown(
    connection: AsyncConnection[Any],
):
    ours = await _tables(connection)
    await connection.execute(OLD_TABLE)
    await connection.execute("CREATE VIEW views.notification_log_rare AS SELECT * FROM views.notification_log_rare_v1")
    await connection.execute(RUN_OLD, (-timedelta(hours=23),))
    await upkeep.drop_old_versions(connection)
    assert "notification_log_rare_v1" in await _tables(connection)
    await connection.execute("UPDATE ledger.follower SET lease_until = now() - interval '25 hours' WHERE version = 1")
    shown = "SELECT pg_get_viewdef('views.notification_log'::regclass)"
    definition = (await value(connection, shown)).rstrip(";")
    old = definition.replace(f"notification_log_v{VIEW.version}", "before")
    await connection.execute("CREATE TABLE views.before (LIKE views.notification_log)")
    await connection.execute(f"CREATE OR REPLACE VIEW views.notification_log AS {old}".encode())
    await upkeep.drop_old_versions(connection)
    assert "notification_log_rare_v1" in await _tables(connection)
    await connection.execute(f"CREATE OR REPLACE VIEW views.notification_log AS {definition}".encode())
    await upkeep.drop_old_versions(connection)
    assert await _tables(connection) == ["before", *ours]
    assert await rows(connection, "SELECT version FROM ledger.follower") == [(VIEW.version,)]


async def test_a_stream_that_was_parked_is_folded_when_it_can_be_and_else_stays_listed(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    good, bad = (Life(datetime.now(UTC)).live("attempt", "accepted") for _ in range(2))
    await ledger.store.append([good.encoded(), Encoded(facts=[(bad.stream, 1, "notification.failed", b'{"bad": 1}')])])
    await long_ago.folded(ledger, database)
    assert [one.stream for one in await parked(connection, VIEW)] == [bad.stream]
    # The other one was parked, too, by a release that could not fold it.
    for table in TABLES:
        await connection.execute(f"DELETE FROM views.notification_{table}_v{VIEW.version}".encode())
    await connection.execute(
        "INSERT INTO ledger.parked (name, version, stream, position, reason) VALUES (%s, %s, %s, 1, 'a test')",
        (VIEW.name, VIEW.version, good.stream),
    )
    await upkeep.retry_parked(connection)
    assert [one.stream for one in await parked(connection, VIEW)] == [bad.stream]
    listed = await rows(connection, "SELECT notification, status FROM views.notification_log")
    assert listed == [(good.stream, "dispatched")]


async def test_what_answers_for_a_week_is_forgotten_once_and_nothing_beside_it(
    ledger: Ledger, connection: AsyncConnection[Any], database: Database
):
    old = await long_ago.lived(ledger, long_ago.weeks_ago(4), 5)
    new = await long_ago.lived(ledger, long_ago.weeks_ago(0), 2)
    await long_ago.folded(ledger, database)
    for _ in range(2):
        await upkeep.forget(connection, old[0].stream, old[-1].stream)
        for table in TABLES:
            found = await rows(connection, f"SELECT notification FROM views.notification_{table} ORDER BY 1")
            assert [stream for (stream,) in found] == long_ago.ids(new)


@pytest.mark.parametrize("work", [upkeep.drop_old_versions, upkeep.retry_parked])
async def test_upkeep_of_lists_that_were_never_made_does_nothing(database: Database, ledger: Ledger, work: Any):
    async with ledger.store.connection() as connection:
        await work(connection)
