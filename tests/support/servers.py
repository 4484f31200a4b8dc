"""Starts the real servers that the tests need, runs a command with their addresses, stops only what it started.

Usage: python -m tests.support.servers run -- COMMAND…
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.support import postgres, rabbitmq

POLICY = Path("/usr/sbin/policy-rc.d")


def main(arguments: list[str]) -> int:
    if arguments[:2] != ["run", "--"] or len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    try:
        with _servers() as addresses:
            return _run(arguments[2:], environment={**os.environ, **addresses})
    except (rabbitmq.BrokerStartError, subprocess.CalledProcessError) as exc:
        print(f"servers: {exc}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _servers() -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        if not (os.environ.get("TEST_DATABASE_URL") and rabbitmq.given()):
            stack.callback(_say, "stopped what was started")
        database = stack.enter_context(postgres.running())
        _say("found Postgres" if os.environ.get("TEST_DATABASE_URL") else "started a Postgres of our own")
        broker = stack.enter_context(_broker())
        yield {"TEST_DATABASE_URL": database, "TEST_AMQP_URL": broker.amqp, "TEST_RABBITMQ_API": broker.api}


def _say(what: str) -> None:
    print(f"servers: {what}", flush=True)


@contextlib.contextmanager
def _broker() -> Iterator[rabbitmq.Address]:
    if address := rabbitmq.given():
        _say("found RabbitMQ")
        yield address
        return
    if not rabbitmq.local_binaries() and not rabbitmq.docker_answers() and os.geteuid() == 0:
        install()
    with rabbitmq.private_node() as node:
        _say(f"started {node.description}")
        yield node.address


def install() -> None:
    """Install the Debian package, which must not start a node of its own (policy-rc.d, see invoke-rc.d(8))."""
    _say(f"no RabbitMQ on this machine, installing it: {rabbitmq.INSTALL}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with starts_no_services(POLICY):
        for command in (("update",), ("install", "--yes", "--no-install-recommends", "rabbitmq-server")):
            subprocess.run(["apt-get", "--quiet", *command], env=quiet, check=True)


@contextlib.contextmanager
def starts_no_services(policy: Path) -> Iterator[None]:
    """Forbid package scripts to start services, and leave the machine's own policy as it was."""
    before = policy.read_bytes() if policy.exists() else None
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            policy.unlink()
        else:
            policy.write_bytes(before)


def _run(command: list[str], *, environment: dict[str, str]) -> int:
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
