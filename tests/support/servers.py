"""Brings the programs and starts the real servers that the tests need, runs a command, stops only what it started.

Usage: python -m tests.support.servers run -- COMMAND…
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

from tests.support import debian, postgres, rabbitmq


def main(arguments: list[str]) -> int:
    if arguments[:2] != ["run", "--"] or len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    try:
        _install()
        with _servers() as addresses:
            return _run(arguments[2:], environment={**os.environ, **addresses})
    except (debian.ProgramMissingError, rabbitmq.BrokerStartError, subprocess.CalledProcessError) as exc:
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
    with rabbitmq.private_node() as node:
        _say(f"started {node.description}")
        yield node.address


def _install() -> None:
    """Bring what is not on this machine; who is not root is told what to run."""
    packages = [*debian.missing(), *rabbitmq.missing()]
    if not packages:
        return
    if os.geteuid() != 0:
        raise debian.ProgramMissingError(f"the tests need more programs; run as root: {debian.command(packages)}")
    _say(f"installing what is missing: {debian.command(packages)}")
    debian.install(packages)


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
