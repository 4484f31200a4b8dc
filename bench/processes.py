"""The bench's own processes: how they are started, given work, looked at through /proc, and ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ops import child

_PATIENCE = 60.0
_LOOK_AGAIN = 0.025
_TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class MeasurementError(Exception):
    """What was measured is not what was meant to be measured; the message says why."""


@contextlib.contextmanager
def running(
    *command: str, log: Path, environment: Mapping[str, str] | None = None, talks: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python COMMAND` while the block runs: asked to end by SIGTERM, and ended by the kernel should we die.

    What it says goes to the log, unless it `talks` with us over its standard input and output.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else output,
            stderr=output,
            preexec_fn=child.before_exec(ends_by=signal.SIGTERM),  # noqa: PLW1509 - binds its life to ours
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and insist."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def prepared(module: str, job: msgspec.Struct, *, result: type[T], log: Path) -> Iterator[Callable[[], T]]:
    """Start a module with a job and yield how it is told to begin, which returns its result.

    It says `ready` once everything is at hand, so that what it costs to get there is not measured.
    """
    with running("-m", module, log=log, talks=True) as process:
        _say(process, msgspec.json.encode(job))
        _heard(process, log)

        def go() -> T:
            _say(process, b"go")
            return msgspec.json.decode(_heard(process, log), type=result)

        yield go


def receive(kind: type[T]) -> T:
    """Read the job of this process, as `prepared` sends it."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)


def wait_for_go() -> None:
    """Say that everything is at hand, and wait until it is to begin."""
    answer({"ready": True})
    sys.stdin.buffer.readline()


def answer(result: object) -> None:
    """Send a result."""
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.buffer.flush()


def until(condition: Callable[[], bool], what: str, *, patience: float = _PATIENCE) -> None:
    """Wait for a condition; MeasurementError names what did not come within so many seconds."""
    give_up_at = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up_at:
            raise MeasurementError(f"waited {patience:.0f} s for {what}")
        time.sleep(_LOOK_AGAIN)


def cpu_seconds() -> float:
    """Return the user and system time of everything that this process has started, ended children included.

    Source: proc(5), /proc/PID/stat, fields 14 to 17.
    """
    times, children = {}, defaultdict(list)
    for pid, fields in _stats():
        times[pid] = sum(map(int, fields[11:15]))
        children[int(fields[1])].append(pid)
    ours, waiting = 0, list(children[os.getpid()])
    while waiting:
        pid = waiting.pop()
        ours += times[pid]
        waiting += children[pid]
    return ours / _TICKS


def cpu_seconds_of(pid: int) -> float:
    """Return the user and system time of one process of ours, without its children (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS


def resident_megabytes(pid: int) -> float:
    """Return the most memory that a process has had resident (proc(5), VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yield of every process its pid and the fields behind its name, which may hold anything."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_text().rpartition(")")[2].split()


def _say(process: subprocess.Popen[bytes], line: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(line + b"\n")
        process.stdin.flush()


def _heard(process: subprocess.Popen[bytes], log: Path) -> bytes:
    line = process.stdout.readline() if process.stdout is not None else b""
    if not line:
        raise MeasurementError(f"a process of the bench ended by itself: {log.read_text()[-2000:]}")
    return line
