"""Weeks made ahead, and migrations that many processes may run at once."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from ledger.errors import UnstorableError
from ledger.ids import ids_of, notification_id
from ledger.keys import KeyEncryption
from ledger.store import Encoded, Store, connect
from ops import embedded, migrations
from tests.integration.ledger.parts import Connection, now, rows, standing, stored, value
from tests.support.postgres import INSTALLATION, KEY_ENCRYPTION_KEY, Database

PARENTS = ("stored_events", "content_standard", "content_security", "content_marketing")
CLASSES = ("standard", "security", "marketing")
WEEK = timedelta(days=7)
KEYS = KeyEncryption([KEY_ENCRYPTION_KEY])


def _monday(weeks: int) -> datetime:
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday()) + weeks * WEEK


def _partition(parent: str, monday: datetime) -> str:
    return f"{parent}_{monday:%Gw%V}"


async def test_there_are_partitions_for_five_weeks_back_and_eight_ahead(application: Connection):
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
    for parent in PARENTS:
        found = {name.removeprefix("ledger.") for (name,) in await rows(application, query, f"ledger.{parent}")}
        expected = {_partition(parent, _monday(week)) for week in range(-5, 9)}
        assert found - {"stored_events_standing"} == expected


async def test_each_stream_lies_in_the_week_of_its_id(store: Store, application: Connection):
    moments = {
        moment: _partition("stored_events", _monday(week))
        for week in range(-5, 9)
        for moment in (_monday(week), _monday(week + 1) - timedelta(milliseconds=1))
    }
    streams = {notification_id(moment): partition for moment, partition in moments.items()}
    streams |= {UUID(int=(1 << 128) - 1): "stored_events_standing", standing(): "stored_events_standing"}
    contents = [(name, stream, b"d", b"w") for stream in list(streams)[:28] for name in CLASSES]
    assert await store.append([Encoded(facts=stored(stream)) for stream in streams]) == {}
    assert await store.append([Encoded(contents=contents)]) == {}
    query = "SELECT originator_id, tableoid::regclass::text FROM ledger.stored_events"
    assert {stream: f"ledger.{name}" for stream, name in streams.items()} == dict(await rows(application, query))
    assert await value(application, "SELECT count(DISTINCT tableoid) FROM ledger.content") == 3 * 14


@pytest.mark.parametrize(("week", "later"), [(-5, timedelta(milliseconds=-1)), (9, timedelta(0))])
async def test_what_belongs_to_no_week_is_not_stored_anywhere(store: Store, week: int, later: timedelta):
    moment = _monday(week) + later
    with pytest.raises(UnstorableError):
        await store.append([Encoded(facts=stored(notification_id(moment)))])


async def test_a_week_is_called_missing_only_by_a_connection_that_was_opened_after_the_weeks_were_made(store: Store):
    await store.append([Encoded(facts=stored(notification_id(now())))])
    old = await store.appender()
    with pytest.raises(UnstorableError):
        await store.append([Encoded(facts=stored(notification_id(_monday(9))))])
    assert await store.appender() is not old
    assert await store.append([Encoded(facts=stored(notification_id(now())))]) == {}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Auckland"])
async def test_weeks_begin_in_utc_wherever_the_database_thinks_it_is(zone: str, owner: Connection):
    """A year ahead, so that clocks change twice."""
    await owner.execute(f"SET TimeZone = '{zone}'".encode())
    await owner.execute("SELECT ledger.make_weeks_of('stored_events', 0, 52)")
    borders = """
        SELECT substring(relname FROM '_([^_]+)$'), pg_get_expr(relpartbound, c.oid) FROM pg_class c
        JOIN pg_inherits ON inhrelid = c.oid WHERE inhparent = 'ledger.stored_events'::regclass
    """
    found = {week: border for week, border in await rows(owner, borders) if week != "standing"}
    assert len(found) >= 53
    assert [week for week, border in found.items() if f"FROM ('{ids_of(week)[0]}')" not in border] == []


async def test_a_step_that_waits_for_a_table_keeps_nobody_waiting_who_only_works_on_it(
    database: Database, application: Connection
):
    """A backup reads the table for hours; whoever comes behind a step that waited for it would wait as long."""
    await application.execute("BEGIN")
    await application.execute("SELECT FROM ledger.agenda")
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'ledger.agenda'::regclass AND NOT granted)"
    async with (
        await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner,
        await connect(database.url) as other,
    ):
        more = "ALTER TABLE ledger.agenda ADD COLUMN more text"
        applying = asyncio.create_task(
            migrations._apply(owner, "9999_more.pre.sql", more, digest=b"", application_role=embedded.APPLICATION)
        )
        while not await value(other, waiting):
            pass
        try:
            await asyncio.wait_for(rows(other, "SELECT FROM ledger.agenda"), timeout=5)
            assert not applying.done()
        finally:
            await application.execute("COMMIT")
        await applying
    assert await rows(application, "SELECT more FROM ledger.agenda") == []


async def test_weeks_that_are_there_are_not_made_again(application: Connection):
    assert await value(application, "SELECT ledger.make_weeks()") == 0


async def test_many_processes_make_the_missing_weeks_once_while_facts_are_appended(
    database: Database, store: Store, owner: Connection, application: Connection
):
    for parent in PARENTS:
        for week in (7, 8):
            await owner.execute(f"DROP TABLE ledger.{_partition(parent, _monday(week))}".encode())

    async def make() -> int:
        async with await connect(database.url) as connection:
            made: int = await value(connection, "SELECT ledger.make_weeks()")
            return made

    async def append() -> int:
        for _ in range(20):
            await store.append([Encoded(facts=stored(notification_id(now())))])
        return 0

    assert sum(await asyncio.gather(*(make() for _ in range(6)), append())) == 2 * len(PARENTS)
    assert await value(application, "SELECT count(*) FROM ledger.stored_events") == 20
    assert await store.append([Encoded(facts=stored(notification_id(_monday(8))))]) == {}


MIGRATE = """
import asyncio, sys
from ledger.keys import KeyEncryption
from ops import embedded, migrations
print(asyncio.run(migrations.migrate(
    sys.argv[1], application_role=embedded.APPLICATION, installation="test", keys=KeyEncryption([bytes(range(32))])
)))
"""


@pytest.fixture
def empty_database(database: Database) -> str:
    """The owner's URL of a database that was never migrated."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(
            "DROP SCHEMA ledger, views, views_anew, views_gone CASCADE; DROP TABLE public.ledger_migration"
        )
    return database.owner_url


async def test_eight_processes_migrate_at_once_and_each_step_runs_once(empty_database: str, database: Database):
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, empty_database, stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
        )
        for _ in range(8)
    ]
    replies = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    steps = str([name for name, _ in migrations.steps()])
    assert sorted(out.decode().strip() for out, _ in replies) == sorted([steps] + ["[]"] * 7)
    async with await connect(database.url) as application:
        assert await value(application, "SELECT count(*) FROM ledger.installation") == 1


async def _migrate(url: str, *, installation: str = INSTALLATION) -> list[str]:
    return await migrations.migrate(url, application_role=embedded.APPLICATION, installation=installation, keys=KEYS)


async def test_the_identity_of_an_installation_is_made_once(database: Database, application: Connection):
    query = "SELECT identity_key FROM ledger.installation"
    before = await rows(application, query)
    assert await _migrate(database.owner_url) == []
    assert await rows(application, query) == before


async def test_a_copy_under_another_name_is_not_migrated(database: Database):
    with pytest.raises(migrations.MigrationError, match="INSTALLATION"):
        await _migrate(database.owner_url, installation="a copy")


async def test_a_step_that_was_changed_afterwards_is_named(database: Database, owner: Connection):
    name = migrations.steps()[0][0]
    await owner.execute("UPDATE public.ledger_migration SET digest = 'x' WHERE name = %s", (name,))
    with pytest.raises(migrations.MigrationError, match=name):
        await _migrate(database.owner_url)


async def test_steps_of_a_newer_release_are_left_alone(database: Database, owner: Connection):
    await owner.execute("INSERT INTO public.ledger_migration (name, digest) VALUES ('9999_newer.pre.sql', 'x')")
    assert await _migrate(database.owner_url) == []


def test_each_step_says_by_its_name_when_it_runs():
    names = [name for name, _ in migrations.steps()]
    assert all(name.endswith((".pre.sql", ".post.sql")) for name in names)
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_the_weeks_of_this_test_are_those_of_the_calendar():
    assert _partition("content", datetime(2026, 12, 28, tzinfo=UTC)) == "content_2026w53"


@pytest.mark.parametrize(("table", "column"), [("provider_reference", "recorded_at"), ("intake", "taken_at")])
async def test_what_grows_in_the_order_of_time_is_found_by_its_age_without_reading_all(
    application: Connection, table: str, column: str
):
    query = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'ledger' AND tablename = %s AND indexdef LIKE %s"
    assert await value(application, query, table, f"% USING brin ({column})") == 1


def test_what_the_release_before_still_needs_is_taken_away_by_the_next_one_or_when_it_is_said_to_be_gone():
    given = [(f"{name}.sql", "") for name in ("0001_a.pre", "0002_b.post", "0003_c.pre", "0004_d.post", "0005_e.post")]
    assert migrations.before_rollout(given[:2]) == given[:1]
    assert migrations.before_rollout(given) == given[:3]
    assert migrations.before_rollout(given[1:2]) == []
