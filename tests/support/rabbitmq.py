"""A real RabbitMQ for the tests: one that is given, or a node of our own, with a virtual host for each test."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import aio_pika
import httpx
import msgspec

from ops import child
from tests.support import debian, memory, ports

START_SECONDS = 90
PACKAGE = "rabbitmq-server"
IMAGE = "rabbitmq:3.13-management"
USER = "test"

# Without its collector of statistics the management API lists what is there now, not what was there seconds ago.
NO_STATISTICS = "management_agent.disable_metrics_collector = true"
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {api}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 50MB
{no_statistics}
"""


class BrokerStartError(RuntimeError):
    """No RabbitMQ could be had; the message says what to run."""


class Address(msgspec.Struct, frozen=True):
    """Where a broker answers: AMQP with its default virtual host, and the HTTP API of its management plugin."""

    amqp: str
    api: str


class Node(msgspec.Struct, frozen=True):
    """A node of our own: its address, and how its rabbitmqctl is called."""

    address: Address
    control: tuple[str, ...]
    environment: Mapping[str, str]
    description: str

    def stop_app(self) -> None:
        """RabbitMQ stops serving, its Erlang node stays: a broker that is down."""
        self._run("stop_app")

    def start_app(self) -> None:
        self._run("start_app")

    def _run(self, command: str) -> None:
        subprocess.run([*self.control, command], env=self.environment, check=True, capture_output=True, timeout=120)


class Broker:
    """One virtual host of a broker: `url` for AMQP, `api` for HTTP."""

    def __init__(self, address: Address, vhost: str) -> None:
        self.vhost = vhost
        self.url = f"{address.amqp.rstrip('/')}/{quote(vhost, safe='')}"
        self.api = address.api

    def request(self, method: str, path: str, *, json: object = None) -> httpx.Response:
        """Call the management API below /api/; 404 is an answer, any other refusal an error."""
        answer = httpx.request(method, f"{self.api}/api/{path}", timeout=30, json=json)
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()
        return answer

    async def ready(self, queue: str) -> int:
        """How many messages wait in a queue: counted by the broker now, where the HTTP API would be seconds late."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    def connections(self) -> list[str]:
        rows = self.request("GET", "connections").json()
        return [row["name"] for row in rows if row["vhost"] == self.vhost]

    def close_all_connections(self) -> None:
        """Cut every client of this virtual host, as an operator or a failing network would."""
        for name in self.connections():
            self.request("DELETE", f"connections/{quote(name, safe='')}")


@contextlib.contextmanager
def virtual_host(address: Address) -> Iterator[Broker]:
    broker = Broker(address, f"test-{uuid.uuid4().hex}")
    user = urlsplit(address.amqp).username or "guest"
    broker.request("PUT", f"vhosts/{broker.vhost}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.request("PUT", f"permissions/{broker.vhost}/{user}", json=everything)
    try:
        yield broker
    finally:
        broker.request("DELETE", f"vhosts/{broker.vhost}")


def given() -> Address | None:
    """The broker that the environment names, in our own variables or in the service's."""
    amqp = os.environ.get("TEST_AMQP_URL") or os.environ.get("AMQP_URL")
    if not amqp:
        return None
    parts = urlsplit(amqp)
    usual = f"http://{parts.username or 'guest'}:{parts.password or 'guest'}@{parts.hostname}:15672"
    return Address(amqp, os.environ.get("TEST_RABBITMQ_API") or usual)


@contextlib.contextmanager
def running() -> Iterator[Address]:
    """Yield the broker of the tests: the one that is given, or a node started for the while."""
    if address := given():
        yield address
        return
    with private_node() as node:
        yield node.address


@contextlib.contextmanager
def private_node() -> Iterator[Node]:
    """A node of one's own, up and answering: from the programs on this machine, else in a container."""
    if binaries := local_binaries():
        source = _local_node(binaries)
    elif docker_answers():
        source = _container()
    else:
        raise BrokerStartError(f"the tests need a RabbitMQ: give AMQP_URL, or run as root: {debian.command([PACKAGE])}")
    with source as node:
        yield node


def missing() -> list[str]:
    """Return the package without which there is no broker here."""
    return [] if given() or local_binaries() or docker_answers() else [PACKAGE]


def local_binaries() -> Path | None:
    """The folder of the real scripts; the ones on Debian's PATH insist on the system's own node."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path).resolve().parent if on_path else None


def docker_answers() -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=10).returncode == 0
    return False


@contextlib.contextmanager
def _local_node(binaries: Path) -> Iterator[Node]:
    place = tempfile.TemporaryDirectory(prefix="notification-ledger-rabbitmq-", dir=memory.folder())
    with place as name, contextlib.ExitStack() as started:
        folder, password = Path(name), secrets.token_hex(8)
        amqp, api, distribution, epmd = range(first := ports.free_in_a_row(4), first + 4)
        environment = _prepare(folder, distribution=distribution, epmd=epmd)
        configuration = CONFIGURATION.format(
            amqp=amqp, api=api, user=USER, password=password, no_statistics=NO_STATISTICS
        )
        (folder / "rabbitmq.conf").write_text(configuration)
        started.enter_context(_process(folder, environment, "epmd", "-port", str(epmd), "-address", "127.0.0.1"))
        server = started.enter_context(_process(folder, environment, str(binaries / "rabbitmq-server")))
        node = Node(
            _address(password, amqp=amqp, api=api),
            (str(binaries / "rabbitmqctl"),),
            environment,
            f"a RabbitMQ node of {binaries} (pid {server.pid})",
        )
        _wait_until_ready(node, lives=lambda: server.poll() is None, log=(folder / "log.txt").read_text)
        yield node


def _prepare(folder: Path, *, distribution: int, epmd: int) -> dict[str, str]:
    """Write the files that do not change, and return an environment that knows nothing of the system's own node."""
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (folder / "rabbitmq-env.conf").touch()
    foreign = ("RABBITMQ_", "ERL_", "AMQP_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        # Its Erlang cookie is made there.
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
        # Idle schedulers that spin would take the cores from the tests.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


@contextlib.contextmanager
def _process(folder: Path, environment: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with us, killed with all that it started: nothing of it is kept, so nothing is saved."""
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=child.before_exec(ends_by=signal.SIGTERM),  # noqa: PLW1509 - binds its life to ours
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _container() -> Iterator[Node]:
    password = secrets.token_hex(8)
    variables = (f"--env=RABBITMQ_DEFAULT_USER={USER}", f"--env=RABBITMQ_DEFAULT_PASS={password}")
    ports = ("--publish=127.0.0.1::5672", "--publish=127.0.0.1::15672")
    entry = f"echo '{NO_STATISTICS}' > /etc/rabbitmq/conf.d/90-test.conf && exec docker-entrypoint.sh rabbitmq-server"
    name = _docker("run", "--detach", "--rm", *ports, *variables, IMAGE, "sh", "-c", entry)
    try:
        amqp, api = (int(_docker("port", name, port).splitlines()[0].rsplit(":", 1)[1]) for port in ("5672", "15672"))
        address = _address(password, amqp=amqp, api=api)
        node = Node(address, ("docker", "exec", name, "rabbitmqctl"), os.environ, f"container {name[:12]} of {IMAGE}")
        listed = ("ps", "--quiet", "--filter", f"id={name}")
        _wait_until_ready(node, lives=lambda: bool(_docker(*listed)), log=lambda: _docker("logs", name))
        yield node
    finally:
        _docker("rm", "--force", name)


def _docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=True, timeout=300
    ).stdout.strip()


def _wait_until_ready(node: Node, *, lives: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(node.address):
        if not lives() or time.monotonic() > deadline:
            raise BrokerStartError(f"{node.description} did not start: {log()[-2000:]}")
        time.sleep(0.1)


def _answers(address: Address) -> bool:
    """Whether it is up: of its two doors, the HTTP API is the last to open."""
    try:
        return httpx.get(f"{address.api}/api/overview", timeout=5).is_success
    except httpx.TransportError:
        return False


def _address(password: str, *, amqp: int, api: int) -> Address:
    user = f"{USER}:{password}@127.0.0.1"
    return Address(f"amqp://{user}:{amqp}", f"http://{user}:{api}")
