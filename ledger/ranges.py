"""All notifications, a range of ids at a time, each in one snapshot: how what is derived is held against facts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection

from ledger.store import Store

# No notification has the first id; the last is before all standing streams.
FIRST, _LAST = UUID(int=0), UUID("efffffff-ffff-ffff-ffff-ffffffffffff")
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_AT_ONCE = 500
# The next notifications in the order of their ids; standing streams come behind them all.
_STREAMS = """
SELECT originator_id FROM ledger.stored_events
WHERE originator_id > %b AND originator_id <= %b AND originator_version = 1 ORDER BY originator_id LIMIT %b
"""

F = TypeVar("F")
# Looks at the ids behind the first, up to the second.
Look = Callable[[AsyncConnection[Any], UUID, UUID], Awaitable[list[F]]]
# Is told how many notifications were looked at.
Seen = Callable[[int], None]


def ignored(_: int) -> None:
    """Be told for nothing."""


async def each_range(store: Store, look: Look[F], *, seen: Seen = ignored) -> AsyncIterator[list[F]]:
    """Yield what `look` finds in each range that has something to be found; the ranges cover all notifications."""
    after: UUID | None = FIRST
    while after is not None:
        async with store.connection() as connection, connection.transaction():
            await connection.execute(_SNAPSHOT)
            rows = await (await connection.execute(_STREAMS, (after, _LAST, _AT_ONCE), binary=True)).fetchall()
            upto = rows[-1][0] if len(rows) == _AT_ONCE else _LAST
            found = await look(connection, after, upto)
        seen(len(rows))
        if found:
            yield found
        after = upto if upto != _LAST else None
