"""A browser that nobody has signed in with, in front of the whole API on a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser


@pytest.fixture
async def browser(service: Service) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        yield Browser(client)
