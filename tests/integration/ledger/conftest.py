"""Databases that a module's tests may share, and the owner's connection."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.integration.ledger.parts import Connection
from tests.support.postgres import Database, fresh_database, template

# What a test may have written to, as one statement; the partitions are emptied with their parents.
_EMPTY = """
SELECT string_agg(format('DELETE FROM %s;', oid::regclass), ' ') FROM pg_class
WHERE relnamespace = 'ledger'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND relname <> 'installation'
"""


@pytest.fixture(scope="module")
def database_of_module(postgres_url: str) -> Iterator[Database]:
    with fresh_database(postgres_url, template(postgres_url)) as fresh:
        yield fresh


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database without rows. A module says ONE_DATABASE where its tests leave the schema as it was."""
    if not getattr(request.module, "ONE_DATABASE", False):
        url = request.getfixturevalue("postgres_url")
        with fresh_database(url, template(url)) as fresh:
            yield fresh
        return
    shared: Database = request.getfixturevalue("database_of_module")
    yield shared
    with psycopg.connect(shared.superuser_url, autocommit=True) as connection:
        for (statement,) in connection.execute(_EMPTY).fetchall():
            connection.execute(statement)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection that may do anything to the ledger's tables."""
    async with await AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        yield connection
