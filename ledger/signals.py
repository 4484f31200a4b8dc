"""Wake-ups: what a commit made due is told to this process at once, and to the others by NOTIFY.

A signal only shortens a wait; nothing depends on it, every waiter also polls.
"""

import asyncio
import contextlib
import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
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
# Who reads the log reads it in batches: to be told of each commit costs more than it spares.
_FACTS_EVERY = 0.05


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
        self._facts_told_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, listen: Collection[str] = ()) -> None:
        """Begin to send, and listen for what is waited for here: `facts`, `templates`, `agenda` (of any channel)."""
        self._tasks.append(asyncio.create_task(self._keep(self._notify), name="signals-notify"))
        if listen:
            work = functools.partial(self._listen, channels=sorted(listen))
            self._tasks.append(asyncio.create_task(self._keep(work), name="signals-listen"))

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
        """Wake this process now, and the others soon; many signals of one name become one.

        Others hear that the log has grown at most 20 times a second, unless they are told of something else as well.
        """
        for name in names:
            self.wake(name)
            self._outgoing.add(name)
        if self._outgoing == {FACTS}:
            asyncio.get_running_loop().call_at(self._facts_told_at + _FACTS_EVERY, self._send.set)
        else:
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
            if FACTS in names:
                self._facts_told_at = asyncio.get_running_loop().time()
            calls = (sql.SQL("pg_notify({}, {})").format(*_channel(name)) for name in sorted(names))
            if names:
                await connection.execute(sql.SQL("SELECT ") + sql.SQL(", ").join(calls), prepare=False)

    async def _listen(self, connection: AsyncConnection[Any], *, channels: Sequence[str]) -> None:
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        for name in {*self._events, *self._shared}:
            self.wake(name)
        async for notice in connection.notifies():
            name = f"{AGENDA}/{notice.payload}" if notice.channel == AGENDA else notice.channel
            self.wake(name)


def _channel(name: str) -> tuple[str, str]:
    channel, _, payload = name.partition("/")
    return channel, payload
