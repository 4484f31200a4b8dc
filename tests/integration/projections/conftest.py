"""A connection to read rows by, and to fold them as a follower does."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger.follower import TABLES, prepare
from ledger.store import connect
from projections.notification_log import NotificationLog
from tests.support.postgres import Database


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await connect(database.url, options=f"-c search_path={TABLES}") as connection:
        await prepare(connection, NotificationLog())
        yield connection
