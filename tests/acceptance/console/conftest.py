"""One browser, and one sandbox in which things have happened, for all tests of the console on a worker."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.acceptance.console.people import Told, tell
from tests.acceptance.sandboxes import Sandbox
from tests.support import chromium
from tests.support import service as processes
from tests.support.service import until


class Shop(msgspec.Struct, frozen=True):
    """A sandbox at `url`, and what has been told to whom."""

    url: str
    sandbox: Sandbox
    told: Told


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium.running() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("console")
    async with processes.running(folder) as service:
        sandbox = Sandbox(service, folder / "data")
        await sandbox.start()
        async with sandbox.client() as client:
            yield Shop(str(client.base_url).rstrip("/"), sandbox, await tell(client))
        service.kill_all()
        await until(lambda: sandbox.left_behind() == [], "the end of its Postgres")
