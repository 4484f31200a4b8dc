"""What the measurements run on: a durable Postgres, a RabbitMQ and a stub of our own, started when first asked for."""

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import httpx
import msgspec

from bench import mails, processes
from bench.stub import Taken
from ops import embedded
from tests.support import debian, ports, postgres, rabbitmq

# A server of a service that is in use, small enough for any machine; what is on disk stays on disk (fsync is on).
POSTGRES = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
}


class Lab:
    """Servers of one run; what `stack` holds ends with it. `scale` makes every measurement shorter (below 1)."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, *, scale: float) -> None:
        self.folder = folder
        self.log = folder / "processes.log"
        self.scale = scale
        # Peak memory of each process of the service that has run, in MB.
        self.resident: list[float] = []
        self._stack = stack

    def count(self, full: int) -> int:
        """Return how many of something a measurement takes."""
        return max(1, round(full * self.scale))

    @cached_property
    def superuser_url(self) -> str:
        """A Postgres whose commits are on disk."""
        server = embedded.start(self.folder / "postgres", settings=POSTGRES)
        self._stack.callback(server.stop)
        return server.superuser_url

    @cached_property
    def amqp_url(self) -> str:
        """A RabbitMQ node of our own."""
        if (packages := rabbitmq.missing()) and os.geteuid() == 0:
            debian.install(packages)
        return self._stack.enter_context(rabbitmq.private_node()).address.amqp

    @cached_property
    def templates(self) -> Path:
        """The folder of the bench's templates."""
        folder = self.folder / "templates"
        mails.write_templates(folder)
        return folder

    @cached_property
    def stub(self) -> "StubClient":
        """A provider that costs next to nothing."""
        port = ports.free()
        self._stack.enter_context(processes.running("-m", "bench.stub", str(port), log=self.log))
        stub = StubClient(f"http://127.0.0.1:{port}")
        self._stack.callback(stub.close)
        processes.until(stub.answers, "the stub")
        return stub

    @contextlib.contextmanager
    def database(self) -> Iterator[postgres.Database]:
        """Yield a fresh, migrated database; it is gone behind the block."""
        template = postgres.template(self.superuser_url)
        with postgres.fresh_database(self.superuser_url, template) as database:
            yield database


class StubClient:
    """Asks the stub what it has seen, and sets how it answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return self._client.get("/count").is_success
        except httpx.TransportError:
            return False

    def count(self) -> Taken:
        """Return how much came in, without the arrivals."""
        return msgspec.json.decode(self._client.get("/count").content, type=Taken)

    def taken(self) -> Taken:
        """Return all that came in since the last time, and have it forgotten."""
        return msgspec.json.decode(self._client.get("/taken").content, type=Taken)

    def answer_after(self, seconds: float) -> None:
        """Make it take its time with each mail."""
        self._client.put(f"/delay/{seconds}")

    def show(self, path: str, page: bytes) -> None:
        """Have it serve a page."""
        self._client.put(path, content=page)

    def close(self) -> None:
        self._client.close()
