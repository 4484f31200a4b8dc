"""Real parts on the test's own database, and a provider of our own, for whoever asks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.ledger import Ledger
from ledger.store import Store, connect
from providers.fakes.ses import FakeSes
from tests.integration.ledger.parts import Connection, opened_store, running_ledger
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import Service


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with opened_store(database.url) as store:
        yield store


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    """A ledger that writes."""
    async with running_ledger(database.url) as ledger:
        yield ledger


@pytest.fixture
async def application(database: Database) -> AsyncIterator[Connection]:
    """A connection with the application's rights."""
    async with await connect(database.url) as connection:
        yield connection


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    """The service's processes, one for each command or role that a test starts."""
    async with processes.running(tmp_path, DATABASE_URL=database.url) as service:
        yield service


@pytest.fixture
async def not_at_midnight() -> None:
    """A day of UTC that ends within a test of a daily cap is another test: it begins after it."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    if midnight - now < timedelta(minutes=3):
        await asyncio.sleep((midnight - now).total_seconds())


@pytest.fixture
async def not_at_the_full_hour() -> None:
    """Likewise for what is counted by the hour."""
    now = datetime.now(UTC)
    full = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    if full - now < timedelta(seconds=30):
        await asyncio.sleep((full - now).total_seconds())


@pytest.fixture
async def fake() -> AsyncIterator[FakeSes]:
    """The provider; its requests are the oracle."""
    fake = await FakeSes.start()
    yield fake
    await fake.stop()
