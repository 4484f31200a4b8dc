"""A real RabbitMQ for the tests: found, or started as a private node, with a virtual host for each test."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import aio_pika
import httpx
import msgspec

from ops import child

START_SECONDS = 90
INSTALL = "apt-get install rabbitmq-server"
USER = "test"

# Without its collector of statistics the management API lists what is there now, not what was there seconds ago.
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {api}
default_user = {user}
default_pass = {password}
management_agent.disable_metrics_collector = true
disk_free_limit.absolute = 50MB
"""


class BrokerStartError(RuntimeError):
    """No RabbitMQ could be had; the message is the exact line to run."""


class Address(msgspec.Struct, frozen=True):
    """Where a broker answers: AMQP with its default virtual host, and the HTTP API of its management plugin."""

    amqp: str
    api: str


class Broker:
    """One virtual host of a broker: `url` for AMQP, `api` for HTTP."""

    def __init__(self, address: Address, vhost: str) -> None:
        self.vhost = vhost
        self.url = f"{address.amqp.rstrip('/')}/{quote(vhost, safe='')}"
        self.api = address.api

    def request(self, method: str, path: str, **keywords: object) -> httpx.Response:
        """Call the management API below /api/; 404 is an answer, any other refusal an error."""
        answer = httpx.request(method, f"{self.api}/api/{path}", timeout=30, **keywords)  # type: ignore[arg-type]
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()
        return answer

    def connections(self) -> list[str]:
        rows = self.request("GET", "connections").json()
        return [row["name"] for row in rows if row["vhost"] == self.vhost]

    async def ready(self, queue: str) -> int:
        """How many messages wait in a queue: counted by the broker now, where the HTTP API would be seconds late."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    def close_all_connections(self) -> None:
        """Cut every client of this virtual host, as an operator or a failing network would."""
        for name in self.connections():
            self.request("DELETE", f"connections/{quote(name, safe='')}")


class Node:
    """A private RabbitMQ node: its files, ports and Erlang cookie are its own, and it ends with `stop`."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        amqp, api, distribution, epmd = _free_ports(4)
        password = secrets.token_hex(8)
        self.address = Address(
            f"amqp://{USER}:{password}@127.0.0.1:{amqp}", f"http://{USER}:{password}@127.0.0.1:{api}"
        )
        self._environment = _environment(folder, distribution=distribution, epmd=epmd)
        configuration = CONFIGURATION.format(amqp=amqp, api=api, user=USER, password=password)
        (folder / "rabbitmq.conf").write_text(configuration)
        (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (folder / "rabbitmq-env.conf").touch()
        self._epmd = self._popen("epmd", "-port", str(epmd), "-address", "127.0.0.1")
        self._server = self._popen(str(binaries / "rabbitmq-server"))

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.address):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise BrokerStartError(f"the private RabbitMQ node did not start: {self._log().read_text()[-2000:]}")
            time.sleep(0.1)

    def stop_app(self) -> None:
        """RabbitMQ stops serving, its Erlang node stays: a broker that is down."""
        self._control("stop_app")

    def start_app(self) -> None:
        self._control("start_app")

    def stop(self) -> None:
        """Nothing of it is kept, so nothing of it is saved."""
        for process in (self._server, self._epmd):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _control(self, command: str) -> None:
        subprocess.run(
            [self._binaries / "rabbitmqctl", command],
            env=self._environment,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def _popen(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log().open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=child.before_exec(ends_by=signal.SIGTERM),  # noqa: PLW1509 - binds the node to us
            )

    def _log(self) -> Path:
        return self._folder / "node.log"


def _environment(folder: Path, *, distribution: int, epmd: int) -> Mapping[str, str]:
    foreign = ("RABBITMQ_", "ERL_", "AMQP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **inherited,
        "HOME": str(folder),
        # A port mapper of its own: the shared one would outlive the tests.
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test-{uuid.uuid4().hex[:12]}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        # Idle schedulers that spin take the two cores away from the tests.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def local_binaries() -> Path | None:
    """The folder of the real scripts; the ones on Debian's PATH insist on the system's own node."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path).resolve().parent if on_path else None


@contextlib.contextmanager
def private_node() -> Iterator[Node]:
    """A node of one's own, up and answering."""
    binaries = local_binaries()
    if binaries is None:
        raise BrokerStartError(f"no RabbitMQ on this machine; run: {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="notification-ledger-rabbitmq-") as folder:
        node = Node(Path(folder), binaries)
        try:
            node.wait_until_ready()
            yield node
        finally:
            node.stop()


@contextlib.contextmanager
def running() -> Iterator[Address]:
    """Yield the broker of the tests: the one given in TEST_AMQP_URL and TEST_RABBITMQ_API, or a private node."""
    if given := os.environ.get("TEST_AMQP_URL"):
        yield Address(given, os.environ.get("TEST_RABBITMQ_API") or _usual_api(given))
        return
    with private_node() as node:
        yield node.address


@contextlib.contextmanager
def virtual_host(address: Address) -> Iterator[Broker]:
    broker = Broker(address, f"test-{uuid.uuid4().hex}")
    broker.request("PUT", f"vhosts/{broker.vhost}")
    broker.request("PUT", f"permissions/{broker.vhost}/{urlsplit(address.amqp).username}", json=_EVERYTHING)
    try:
        yield broker
    finally:
        broker.request("DELETE", f"vhosts/{broker.vhost}")


_EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def answers(address: Address) -> bool:
    """Whether it is up: of its two doors, the HTTP API is the last to open."""
    try:
        return httpx.get(f"{address.api}/api/overview", timeout=5).is_success
    except httpx.TransportError:
        return False


def _usual_api(amqp_url: str) -> str:
    parts = urlsplit(amqp_url)
    return f"http://{parts.username or 'guest'}:{parts.password or 'guest'}@{parts.hostname}:15672"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
