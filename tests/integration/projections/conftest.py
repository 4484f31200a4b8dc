"""A store to write facts with, and a connection to read rows by."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger.follower import prepare
from ledger.store import Store, connect, make_pool
from projections.notification_log import NotificationLog
from tests.support.postgres import Database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with make_pool(database.url, size=2) as pool:
        store = Store(database.url, pool)
        yield store
        await store.aclose()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await connect(database.url) as connection:
        await prepare(connection, NotificationLog())
        yield connection
