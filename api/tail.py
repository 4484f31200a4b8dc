"""Facts as they are committed, for those who watch: in order, without personal data, and no more than can be read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.errors import LedgerError
from ledger.signals import FACTS, Signals
from ledger.store import Row, Store

# Whoever watches wants to see the last of them; who lags further behind than this is shown where the gap is.
LAST: Final = 50
FURTHEST: Final = 1000
MOST_LISTENERS: Final = 20
# A busy log is read no more often than this, and a silent one no more seldom than listeners are told that we live.
_PAUSE = timedelta(milliseconds=250)
HEARTBEAT: Final = timedelta(seconds=10)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One fact: where it stands in the log, and what of it is nobody's secret."""

    position: int
    recorded_at: datetime | None
    topic: str
    stream: UUID
    version: int
    detail: str


class Skipped(msgspec.Struct, frozen=True):
    """Facts that are left out, up to this position: there were too many to look at."""

    position: int


class Beat(msgspec.Struct, frozen=True):
    """Nothing has happened, and we are there."""


Told = Line | Skipped | Beat
StillAllowed = Callable[[], Awaitable[bool]]


class FullError(Exception):
    """As many watch already as one process serves, or it is about to end."""


class Tail:
    """The end of the log, for a bounded number of listeners; none of them holds a connection while nothing happens."""

    def __init__(
        self,
        store: Store,
        signals: Signals,
        *,
        most: int = MOST_LISTENERS,
        heartbeat: timedelta = HEARTBEAT,
        furthest: int = FURTHEST,
    ) -> None:
        self._store = store
        self._signals = signals
        self._heartbeat = heartbeat.total_seconds()
        self._furthest = furthest
        # A signal is waited for by a name of one's own; a name is used again, for the signals keep every one.
        self._free = [f"tail-{number}" for number in range(most)]
        self._closing = False

    def close(self) -> None:
        """End every listening: the process is about to end, and is not to wait for those who watch."""
        self._closing = True
        self._signals.wake(FACTS)

    async def last(self, limit: int = LAST) -> list[Line]:
        """Return the last facts of the log, the newest first; fewer where positions are missing."""
        head = await self._store.head()
        rows = await self._store.read(after=max(0, head - limit), limit=limit)
        return [line(row) for row in reversed(rows)]

    def check_room(self) -> None:
        """Raise FullError where nobody more may listen."""
        if self._closing or not self._free:
            raise FullError

    async def listen(self, after: int | None, still_allowed: StillAllowed) -> AsyncIterator[Told]:
        """Tell every fact behind a position (None = from now on), as long as the listener may be told.

        Ends when the database does not answer, too: the listener comes again, with the position that it has.
        """
        # FullError: the last place was taken since there was room.
        with suppress(LedgerError, FullError), self._place() as place:
            # What was signalled to the one before at this place, or to nobody yet, is read below.
            await self._signals.wait(FACTS, 0, by=place)
            position = await self._store.head() if after is None else after
            while not self._closing and await still_allowed():
                position, told = await self._news(position)
                for each in told or [Beat()]:
                    yield each
                await asyncio.sleep(_PAUSE.total_seconds())
                if not told and not self._closing:
                    await self._signals.wait(FACTS, self._heartbeat, by=place)

    @contextmanager
    def _place(self) -> Iterator[str]:
        self.check_room()
        place = self._free.pop()
        try:
            yield place
        finally:
            self._free.append(place)

    async def _news(self, position: int) -> tuple[int, list[Told]]:
        told: list[Told] = []
        rows = await self._store.read(after=position, limit=LAST)
        if len(rows) == LAST and (head := await self._store.head()) - position > self._furthest:
            position = head - LAST
            told.append(Skipped(position))
            rows = await self._store.read(after=position, limit=LAST)
        told += [line(row) for row in rows]
        return (rows[-1].position if rows else position), told


class _Open(msgspec.Struct):
    """What of a fact is told, whatever its topic. No reason and no note is: people write them.

    A newer release may hold something else than a text under these names.
    """

    recorded_at: datetime | None = None
    type: Any = None
    channel: Any = None
    provider: Any = None
    template: Any = None
    rule: Any = None
    code: Any = None


def line(row: Row) -> Line:
    """Return what is told of a stored fact, of a topic that this release does not know, too."""
    said = msgspec.json.decode(row.state, type=_Open)
    told = ((name, getattr(said, name)) for name in _Open.__struct_fields__[1:])
    return Line(
        position=row.position,
        recorded_at=said.recorded_at,
        topic=row.topic,
        stream=row.stream,
        version=row.version,
        detail=", ".join(f"{name} {value}" for name, value in told if isinstance(value, str)),
    )
