"""What every acceptance test stands on: a provider that remembers every request, and the service as processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.keys import KeyEncryption
from ops import embedded
from ops.migrations import migrate
from providers.fakes.ses import FakeSes
from tests.acceptance.traffic import declared
from tests.support import service as processes
from tests.support.postgres import IDENTITY_KEY, INSTALLATION, KEY_ENCRYPTION_KEY, Database
from tests.support.rabbitmq import Broker


@pytest.fixture
async def fake() -> AsyncIterator[FakeSes]:
    """The provider; its requests are the oracle."""
    fake = await FakeSes.start(keep=100)
    yield fake
    await fake.stop()


@pytest.fixture
async def own_database(own_postgres: embedded.Server) -> embedded.Server:
    """The Postgres that is this test's alone, migrated."""
    await migrate(
        own_postgres.migration_database_url,
        application_role=embedded.APPLICATION,
        installation=INSTALLATION,
        keys=KeyEncryption([KEY_ENCRYPTION_KEY]),
        identity_key=IDENTITY_KEY,
    )
    return own_postgres


@pytest.fixture
async def service(
    database: Database, broker: Broker, fake: FakeSes, tmp_path: Path
) -> AsyncIterator[processes.Service]:
    """The service on a database and a virtual host of its own; no role runs yet, and its queues are there."""
    await declared(broker.url)
    settings = {"DATABASE_URL": database.url, "AMQP_URL": broker.url, "SES_ENDPOINT_URL": fake.url}
    async with processes.running(tmp_path, **settings) as service:
        yield service
