from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import sandbox as sandboxes
from tests.docs.sandbox import Sandbox
from tests.support import rabbitmq
from tests.support.rabbitmq import Broker


@pytest.fixture(scope="session")
def pages_broker(rabbitmq_address: rabbitmq.Address) -> Iterator[Broker]:
    """The broker beside the sandbox."""
    with rabbitmq.virtual_host(rabbitmq_address) as broker:
        yield broker


@pytest.fixture(scope="session")
def sandbox(pages_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One sandbox for all pages, with a broker for those that want one."""
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with sandboxes.running(folder, amqp_url=pages_broker.url, broker_api=pages_broker.api) as running:
        yield running
