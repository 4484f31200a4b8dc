"""The agenda beside the facts: where the two differ, and the agenda made right (promise I11)."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from ledger import arrays
from ledger.errors import UnknownTopicError
from ledger.mapping import FactMapper, of_notification
from ledger.notification import Due, fold, next_due
from ledger.ranges import Seen, each_range, ignored
from ledger.store import Store

_FACTS = """
SELECT originator_id, topic, state FROM ledger.stored_events
WHERE originator_id > %b AND originator_id <= %b ORDER BY originator_id, originator_version
"""
_ROWS = """
SELECT notification, due_at, channel, lane, version FROM ledger.agenda WHERE notification > %b AND notification <= %b
"""
# Older never overwrites newer, and what belongs to a claim is left alone: as an append does it.
_SET = """
INSERT INTO ledger.agenda AS a (notification, channel, lane, due_at, version)
SELECT * FROM unnest(%b, %b, %b, %b, %b) AS n (notification, channel, lane, due_at, version)
WHERE NOT EXISTS (
    SELECT FROM ledger.stored_events e
    WHERE e.originator_id = n.notification AND e.originator_version = n.version + 1
)
ON CONFLICT (notification) DO UPDATE SET
    channel = excluded.channel, lane = excluded.lane, due_at = excluded.due_at, version = excluded.version
WHERE a.version <= excluded.version
"""
_DELETE = """
DELETE FROM ledger.agenda a USING unnest(%b, %b) AS n (notification, version)
WHERE a.notification = n.notification AND NOT EXISTS (
    SELECT FROM ledger.stored_events e
    WHERE e.originator_id = n.notification AND e.originator_version = n.version + 1
)
"""

_Row = tuple[datetime, str, str, int]


class Difference(msgspec.Struct, frozen=True):
    """A notification whose row is not what its facts say: it must be `due` at `version`, and not at all where that is
    None. `what` is missing, wrong, needless, or unreadable (by this release, so nothing can be said of it).
    """

    notification: UUID
    what: str
    version: int
    due: Due | None


def differing(store: Store, *, seen: Seen = ignored) -> AsyncIterator[list[Difference]]:
    """Compare every notification's row with the fold of its facts. It may run while others append."""
    return each_range(store, _compared, seen=seen)


async def rebuild(store: Store, *, seen: Seen = ignored) -> int:
    """Make the agenda what the facts say, while others go on; returns how many rows were not. Leases are kept."""
    count = 0
    async for found in differing(store, seen=seen):
        await set_right(store, found)
        count += len(found)
    return count


async def set_right(store: Store, found: Sequence[Difference]) -> None:
    """Write what the facts say; where a newer fact has come meanwhile, its append has done so already."""
    due = [(one.notification, one.due.channel, one.due.lane, one.due.at, one.version) for one in found if one.due]
    needless = [(one.notification, one.version) for one in found if one.what == "needless"]
    async with store.connection() as connection:
        if due:
            kinds = (arrays.Uuids, arrays.Texts, arrays.Texts, arrays.Times, arrays.Bigints)
            columns = [kind(values) for kind, values in zip(kinds, zip(*due, strict=True), strict=True)]
            await connection.execute(_SET, columns)
        if needless:
            streams, versions = zip(*needless, strict=True)
            await connection.execute(_DELETE, (arrays.Uuids(streams), arrays.Bigints(versions)))


async def _compared(connection: AsyncConnection[Any], after: UUID, upto: UUID) -> list[Difference]:
    facts: dict[UUID, list[tuple[str, bytes]]] = defaultdict(list)
    for stream, topic, state in await (await connection.execute(_FACTS, (after, upto), binary=True)).fetchall():
        facts[stream].append((topic, state))
    rows: dict[UUID, _Row] = {}
    for stream, *row in await (await connection.execute(_ROWS, (after, upto), binary=True)).fetchall():
        rows[stream] = tuple(row)
    compared = (_difference(stream, facts.get(stream, []), rows) for stream in sorted({*facts, *rows}))
    return [one for one in compared if one is not None]


def _difference(stream: UUID, facts: Sequence[tuple[str, bytes]], rows: Mapping[UUID, _Row]) -> Difference | None:
    row = rows.get(stream)
    try:
        state = fold([of_notification(_MAPPER.decode(*fact)) for fact in facts])
    except (UnknownTopicError, msgspec.DecodeError, ValueError):
        return Difference(stream, "unreadable", len(facts), None)
    due, version = (next_due(state), state.version) if state else (None, 0)
    if due is None:
        return Difference(stream, "needless", version, None) if row else None
    if row == (due.at, due.channel, due.lane, version):
        return None
    return Difference(stream, "wrong" if row else "missing", version, due)


_MAPPER = FactMapper()
