"""Wake-ups: what a commit made due is told to this process at once, and to the others by NOTIFY.

A signal only shortens a wait; nothing depends on it, every waiter also polls.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from ledger.errors import UnavailableError
from ledger.store import connect

_log = structlog.get_logger("ledger.signals")
_RECONNECT_AFTER = 1.0
FACTS = "facts"
AGENDA = "agenda"
TEMPLATES = "templates"


class Signals:
    """Named events of this process, joined over all processes by LISTEN and NOTIFY on one connection each.

    Names are `facts` (the log has grown), `agenda/<channel>` (something of that channel is due) and `templates`
    (something else is said).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # Of several that wait for one name at their own pace, none is to take the signal of another away.
        self._shared: dict[str, dict[str, asyncio.Event]] = defaultdict(lambda: defaultdict(asyncio.Event))
        self._outgoing: set[str] = set()
        self._send = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, listen: bool) -> None:
        """Begin to send, and to listen when this process waits for anything."""
        self._tasks.append(asyncio.create_task(self._keep(self._notify), name="signals-notify"))
        if listen:
            self._tasks.append(asyncio.create_task(self._keep(self._listen), name="signals-listen"))

    async def stop(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def use_url(self, url: str) -> None:
        """Open all further connections by this URL: the password has changed."""
        self._url = url

    def wake(self, name: str) -> None:
        """Wake who waits for a name in this process."""
        for event in (self._events[name], *self._shared[name].values()):
            event.set()

    def raise_(self, names: Iterable[str]) -> None:
        """Wake this process now, and the others soon; many signals of one name become one."""
        for name in names:
            self.wake(name)
            self._outgoing.add(name)
        self._send.set()

    async def wait(self, name: str, timeout: float, *, by: str = "") -> None:
        """Sleep until the signal or for `timeout` seconds; those who share a name say who they are."""
        event = self._shared[name][by] if by else self._events[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()
        event.clear()

    async def _keep(self, work: Any) -> None:
        while True:
            try:
                # No promise hangs on a signal, so its commit need not wait for the disk.
                async with await connect(self._url, options="-c synchronous_commit=off") as connection:
                    await work(connection)
            except (psycopg.Error, UnavailableError, OSError) as exc:
                _log.warning("signals_lost", error=type(exc).__name__)
                await asyncio.sleep(_RECONNECT_AFTER)

    async def _notify(self, connection: AsyncConnection[Any]) -> None:
        while True:
            await self._send.wait()
            self._send.clear()
            names, self._outgoing = self._outgoing, set()
            calls = (sql.SQL("pg_notify({}, {})").format(*_channel(name)) for name in sorted(names))
            if names:
                await connection.execute(sql.SQL("SELECT ") + sql.SQL(", ").join(calls), prepare=False)

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        await connection.execute("LISTEN facts")
        await connection.execute("LISTEN templates")
        await connection.execute("LISTEN agenda")
        for name in {*self._events, *self._shared}:
            self.wake(name)
        async for notice in connection.notifies():
            name = f"{AGENDA}/{notice.payload}" if notice.channel == AGENDA else notice.channel
            self.wake(name)


def _channel(name: str) -> tuple[str, str]:
    channel, _, payload = name.partition("/")
    return channel, payload
