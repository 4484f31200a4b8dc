"""How many messages wait in the broker's queues, as whoever reads them saw it last: for those who have no broker."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ledger.store import Store

_SEEN = """
INSERT INTO ledger.queue AS q (name, ready) SELECT * FROM unnest(%(names)s::text[], %(ready)s::bigint[])
ON CONFLICT (name) DO UPDATE SET ready = excluded.ready, seen_at = now()
"""
_WAITING = "SELECT name, ready, seen_at FROM ledger.queue ORDER BY name"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of the broker: so many of its messages were not taken in when it was last looked at."""

    name: str
    waiting: int
    seen_at: datetime


async def seen(store: Store, ready: Mapping[str, int]) -> None:
    """Record how many messages of each queue nobody has taken in yet."""
    async with store.connection() as connection:
        await connection.execute(_SEEN, {"names": list(ready), "ready": list(ready.values())})


async def waiting(store: Store) -> list[Queue]:
    """Return the queues as they were last seen; none where nobody has ever read from a broker."""
    async with store.connection() as connection:
        rows = await (await connection.execute(_WAITING)).fetchall()
    return [Queue(name=name, waiting=ready, seen_at=seen_at) for name, ready, seen_at in rows]
