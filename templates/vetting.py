"""Drafts are compiled and tried in a process of their own, which the kernel ends where it takes too much."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import msgspec

from templates.drafts import Draft, Finding, Vetted

# The limit that counts is one second of processor time, which the process sets itself. This one is for a machine so
# busy that a second of work takes many: a template that is in order must not be refused for that.
WALL_CLOCK = 30.0
_ROOT = Path(__file__).parent.parent


class Vetter:
    """Vets drafts, `at_once` of them at a time, each in a process of its own; the others wait in line."""

    def __init__(self, *, at_once: int = 1) -> None:
        self._places = asyncio.Semaphore(at_once)

    async def vet(self, draft: Draft) -> Vetted:
        """Compile a draft, look through it and try it: within 2 seconds where a core is free, whatever it says.

        The process gets no environment, one second of processor time and 128 MB. It is gone when this returns,
        also when the caller is cancelled.
        """
        async with self._places:
            # Who is cancelled while it starts still ends what has started.
            starting = asyncio.create_task(_start())
            try:
                process = await asyncio.shield(starting)
                told, _ = await asyncio.wait_for(process.communicate(msgspec.json.encode(draft)), WALL_CLOCK)
            except TimeoutError:
                told = b""
            finally:
                await _end(await starting)
        return _read(told, draft)


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "templates.vetting_child"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd=_ROOT,
        env={},
    )


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _read(told: bytes, draft: Draft) -> Vetted:
    """Return what the process found; where it did not come to an end, its last whole line says what it was at."""
    lines = [line for line in told.splitlines(keepends=True) if line.endswith(b"\n")] or [b'"its files"']
    found = msgspec.json.decode(lines[-1], type=str | Vetted)
    if isinstance(found, Vetted):
        return found
    fault = Finding("", 0, "too-costly", f"{found}: takes more time or memory than a template may")
    return Vetted(files=draft.files, faults=[fault])
