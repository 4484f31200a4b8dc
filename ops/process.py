"""One process of the service: starts its roles, says when it is ready, and ends them in order."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import structlog
import uvloop

from ledger.signals import AGENDA, FACTS, TEMPLATES
from ops.errors import OperationError
from ops.expectations import check
from ops.logs import configure
from ops.roles import Roles
from ops.settings import Settings, require
from ops.wiring import parts

_log = structlog.get_logger("ops.process")


def run(settings: Settings, roles: Sequence[str], *, files: Mapping[str, Path]) -> None:
    """Run roles until SIGTERM or Ctrl-C. Raises OperationError when a role ends by itself.

    `files` are those that settings were read from: a secret that changes in its file is taken over.
    """
    require(settings, roles)
    configure(settings.log_level)
    uvloop.run(_run(settings, roles, files))


async def _run(settings: Settings, roles: Sequence[str], files: Mapping[str, Path]) -> None:
    stopping = stop_on_signals()
    async with working(settings, roles, failed=stopping.set, files=files) as given:
        _log.info("ready", roles=list(roles))
        await stopping.wait()
        _log.info("stopping")
    if given.failed:
        raise OperationError("a role ended by itself; the log says why")


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


@contextlib.asynccontextmanager
async def working(
    settings: Settings,
    roles: Sequence[str],
    *,
    failed: Callable[[], None],
    files: Mapping[str, Path] | None = None,
    offered: Callable[[], str] | None = None,
) -> AsyncIterator[Roles]:
    """Run roles while the block runs. They end in reverse: first what takes in, last what delivers and stores.

    `offered` mints a token for whoever asks the console: in a sandbox.
    """
    order = [role for role in ("deliver", "project", "maintain", "ingest", "api") if role in roles]
    async with parts(settings, listen=waits_for(roles), files=files) as given, contextlib.AsyncExitStack() as stack:
        async with given.ledger.store.connection() as connection:
            await check(connection, may_be_off=settings.allowed_off())
        running = Roles(given, failed, offered=offered)
        await stack.enter_async_context(running.wording())
        for role in order:
            await stack.enter_async_context(running.of(role))
        await stack.enter_async_context(running.reloading())
        await stack.enter_async_context(running.operations(order))
        _spare_the_collector()
        yield running


def waits_for(roles: Sequence[str]) -> set[str]:
    """Name the signals that some roles wait for: `api` has the live tail of the console, and all know the templates."""
    waits = {"deliver": AGENDA, "project": FACTS, "api": FACTS}
    return {TEMPLATES} | {waits[role] for role in roles if role in waits}


def _spare_the_collector() -> None:
    """Let the garbage collector pass over what stays for ever, and run less often (measured: a fifth of the CPU).

    What the service makes is freed by reference counts; cycles are few, and are still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
