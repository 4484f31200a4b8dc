"""The fixtures that every test may ask for: a fresh database, a private corner of a broker, production's event loop."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import uvloop

from ops import embedded
from tests.support import ports, postgres, rabbitmq

# A property holds or does not, however busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """Tests run on the loop that production runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The superuser's URL of the session's Postgres."""
    with postgres.running() as url:
        yield url


@pytest.fixture
def database(postgres_url: str) -> Iterator[postgres.Database]:
    """A migrated database that is this test's alone: `.url` (application), `.owner_url`, `.superuser_url`."""
    with postgres.fresh_database(postgres_url, postgres.template(postgres_url)) as fresh:
        yield fresh


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[embedded.Server]:
    """A durable Postgres that is this test's alone, to be killed, frozen or filled; not migrated."""
    # It is started anew on its port while its clients ask for it.
    server = embedded.start(tmp_path / "postgres", port=ports.free())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbitmq_address() -> Iterator[rabbitmq.Address]:
    with rabbitmq.running() as address:
        yield address


@pytest.fixture
def broker(rabbitmq_address: rabbitmq.Address) -> Iterator[rabbitmq.Broker]:
    """A virtual host that is this test's alone: `.url` (AMQP), `.api` (HTTP), `.close_all_connections()`."""
    with rabbitmq.virtual_host(rabbitmq_address) as alone:
        yield alone


@pytest.fixture
def own_rabbitmq() -> Iterator[rabbitmq.Node]:
    """A RabbitMQ node that is this test's alone, to be stopped and started (`.stop_app()`, `.start_app()`)."""
    with rabbitmq.private_node() as node:
        yield node
