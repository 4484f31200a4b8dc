"""The service as it runs: its roles as processes of their own, ended with the test whatever becomes of it."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx

from tests.support import ports
from tests.support.forked import start
from tests.support.postgres import INSTALLATION, KEY_ENCRYPTION_KEY

ROOT = Path(__file__).resolve().parents[2]
# How long a busy machine may take for what a quiet one does in a second.
SOON = timedelta(seconds=120)
# Characters of a process's log.
SHOWN = 4_000
CLI = "ops.cli"
WORKER = "tests.support.worker"


class Process:
    """One process and what it has written."""

    def __init__(self, forked: ForkServerProcess, log: Path, *, ops_port: int) -> None:
        self.ops_port = ops_port
        self._forked = forked
        self._log = log

    @property
    def pid(self) -> int:
        assert self._forked.pid is not None
        return self._forked.pid

    def lives(self) -> bool:
        return self._forked.is_alive()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End it by SIGKILL, with all that it has started."""
        self._forked.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._forked.join()

    def send(self, number: signal.Signals) -> None:
        if self.lives():
            os.kill(self.pid, number)

    async def ended(self, *, within: timedelta = SOON) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        await until(lambda: not self.lives(), f"the end of process {self.pid}", within=within)
        return self._exit_code()

    def _exit_code(self) -> int:
        assert self._forked.exitcode is not None
        return self._forked.exitcode

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as an orchestrator does, and return its exit code."""
        self.send(number)
        return await self.ended()

    async def says(self, words: str, *, within: timedelta = SOON) -> None:
        """Wait until its log holds these words; an end before that is an error that shows the log."""
        await until(lambda: words in self.log() or not self.lives(), f"{words!r} in the log", within=within)
        assert words in self.log(), f"it ended with {self._exit_code()}: {self.log()[-3000:]}"

    def ask(self, path: str) -> httpx.Response:
        """Ask its port of health and metrics."""
        return httpx.get(f"http://127.0.0.1:{self.ops_port}{path}", timeout=60)

    def answers(self, path: str) -> bool:
        """Whether it answers on its port of operations, and with success."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ops_port}{path}", timeout=10).is_success
        except httpx.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample of its metrics; 0 where it has none yet."""
        page = self.ask("/metrics").text
        wanted = sorted(f'{label}="{value}"' for label, value in labels.items())
        for line in page.splitlines():
            sample, _, value = line.rpartition(" ")
            family, _, shown = sample.partition("{")
            if family == name and sorted(filter(None, shown.rstrip("}").split(","))) == wanted:
                return float(value)
        return 0.0


class Service:
    """Starts processes in one environment. Each leaves a log; `logs` is all that any of them has written."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.processes: list[Process] = []
        self._folder = folder
        self._environment = environment

    async def start(self, *arguments: str, program: str = CLI, **settings: str) -> Process:
        """Start a role (or a program of the tests) and wait until it is ready."""
        process = self.launch(*arguments, program=program, **settings)
        await process.says('"event":"ready"')
        return process

    def launch(self, *arguments: str, program: str = CLI, **settings: str) -> Process:
        """Start a process and wait for nothing."""
        log = self._folder / f"process-{len(self.processes)}.log"
        ops_port = int(settings.get("OPS_PORT") or ports.free())
        log.touch()
        forked = start(
            program,
            arguments,
            # Not the checkout: a .env that lies there is not the test's.
            folder=self._folder,
            environment={**self._environment, "OPS_PORT": str(ops_port), **settings},
            log=log,
        )
        process = Process(forked, log, ops_port=ops_port)
        self.processes.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(process.log() for process in self.processes)

    async def stop_all(self) -> None:
        """Ask all that still live to end; each must do so in order."""
        ending = [process for process in self.processes if process.lives()]
        for process in ending:
            process.send(signal.SIGTERM)
        for process in ending:
            code = await process.ended()
            assert code == 0, f"it ended with {code}: {process.log()[-3000:]}"

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()


@contextlib.asynccontextmanager
async def running(folder: Path, **settings: str) -> AsyncIterator[Service]:
    """A service with these settings over those that every test shares; no process of it outlives the block.

    What its processes said last is shown beside a test that fails.
    """
    service = Service(folder, {**_inherited(), **SHARED, **settings})
    try:
        yield service
    finally:
        service.kill_all()
        for number, process in enumerate(service.processes):
            sys.stderr.write(f"process {number}: {process.log()[-SHOWN:]}\n")


SHARED = {
    "KEY_ENCRYPTION_KEY": base64.b64encode(KEY_ENCRYPTION_KEY).decode(),
    "INSTALLATION": INSTALLATION,
    "RECIPIENT_ALLOW_LIST": "*",
    # Much of what tests send goes to one person.
    "RECIPIENT_CEILING": "100000",
    "AWS_REGION": "eu-west-1",
    "PUBLIC_URL": "https://notifications.shop.example",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    # Nothing of what the tests' server holds need outlive it, so it does not wait for the disk.
    "ALLOW_UNSAFE_DATABASE": "true",
}


def _inherited() -> dict[str, str]:
    """What a process needs of this one: no setting of the service that happens to stand in the environment."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}


async def until(condition: Callable[[], bool], what: str, *, within: timedelta = SOON) -> None:
    """Wait for a condition; TimeoutError names what did not come."""
    deadline, pause = time.monotonic() + within.total_seconds(), 0.01
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within.total_seconds():.0f} s for {what}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 0.5)


async def reached(measure: Callable[[], int], amount: int, what: str) -> None:
    """Wait until there are so many of something."""
    await until(lambda: measure() >= amount, f"{amount} {what}")
