from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import sandbox as sandboxes
from tests.docs.sandbox import Sandbox
from tests.support import rabbitmq


@pytest.fixture(scope="session")
def sandbox(rabbitmq_address: rabbitmq.Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all pages, with a broker beside it for those that want one."""
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with (
        rabbitmq.virtual_host(rabbitmq_address) as broker,
        sandboxes.running(folder, amqp_url=broker.url, broker_api=broker.api) as running,
    ):
        yield running
