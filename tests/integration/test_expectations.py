"""What a role finds wrong with its database before it begins."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.store import connect
from ops.errors import NotReadyError
from ops.expectations import check
from tests.integration.ledger.parts import Connection
from tests.support import service as processes
from tests.support.postgres import Database

# The tests' server is without the first two.
ALL = ("fsync", "full_page_writes", "synchronous_commit")


@pytest.fixture
async def session(database: Database) -> AsyncIterator[Connection]:
    """A session of the application, as the service opens it."""
    async with await connect(database.url) as connection:
        yield connection


@pytest.fixture
def superuser(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


async def faults(connection: Connection, *may_be_off: str) -> list[str]:
    try:
        await check(connection, may_be_off=may_be_off)
    except NotReadyError as exc:
        return str(exc).removeprefix("the database is not what it must be: ").split("; ")
    return []


async def test_the_application_on_a_migrated_database_finds_no_fault(session: Connection):
    assert await faults(session, *ALL) == []


@pytest.mark.parametrize("how", ["on", "local", "remote_write"])
async def test_a_commit_that_waits_for_a_disk_will_do(session: Connection, how: str):
    await session.execute(f"SET synchronous_commit = {how}".encode())
    assert "synchronous_commit" not in str(await faults(session))


async def test_all_that_may_lose_facts_is_named_at_once_but_for_what_is_allowed_by_name(session: Connection):
    await session.execute("SET synchronous_commit = off")
    for allowed in ((), ("fsync",), ("fsync", "synchronous_commit"), ALL):
        named = [fault.split(" ")[0] for fault in await faults(session, *allowed)]
        assert named == [name for name in ALL if name not in allowed]


async def test_a_pooler_that_drops_the_options_of_a_session_is_seen(database: Database):
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        (fault,) = await faults(connection, *ALL)
    assert "pooler" in fault


@pytest.mark.parametrize(("role", "words"), [("owner_url", "as the owner"), ("superuser_url", "as a superuser")])
async def test_a_login_that_may_change_facts_does_not_do(database: Database, role: str, words: str):
    async with await connect(getattr(database, role)) as connection:
        (fault,) = await faults(connection, *ALL)
    assert words in fault


@pytest.mark.parametrize("right", ["INSERT", "UPDATE", "DELETE", "TRUNCATE"])
async def test_a_right_to_change_facts_is_found_in_any_week(
    session: Connection, superuser: psycopg.Connection, right: str
):
    week = "SELECT relid::regclass::text FROM pg_partition_tree('ledger.stored_events') ORDER BY level DESC, 1 LIMIT 1"
    ((partition,),) = superuser.execute(week).fetchall()
    superuser.execute(f"GRANT {right} ON {partition} TO ledger_app".encode())
    (fault,) = await faults(session, *ALL)
    assert "may change facts" in fault


async def test_an_older_schema_is_named_and_a_newer_one_will_do(session: Connection, superuser: psycopg.Connection):
    superuser.execute("INSERT INTO public.ledger_migration (name, digest) VALUES ('9999_newer.pre.sql', '')")
    assert await faults(session, *ALL) == []
    superuser.execute("DELETE FROM public.ledger_migration WHERE name LIKE '0008%'")
    (fault,) = await faults(session, *ALL)
    assert "lacks 0008" in fault
    assert "migrate" in fault


async def test_a_schema_of_before_these_checks_is_an_older_one(session: Connection, superuser: psycopg.Connection):
    superuser.execute("REVOKE SELECT ON public.ledger_migration FROM ledger_app")
    (fault,) = await faults(session, *ALL)
    assert "lacks" in fault


async def test_a_role_on_an_unsafe_database_ends_with_one_clear_line(database: Database, tmp_path: Path):
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        process = service.launch("project", ALLOW_UNSAFE_DATABASE="false")
        assert await process.ended() == 1
    said = process.log().strip().splitlines()[-1]
    assert said.startswith("Error: the database is not what it must be: fsync is off")
    assert "full_page_writes is off" in said
