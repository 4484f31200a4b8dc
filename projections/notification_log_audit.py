"""notification_log beside the facts: each row is the fold of its notification's facts up to the view's position (I11).

It folds anew, in memory and so many at a time, and compares; it changes nothing.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import follower
from ledger.errors import UnknownTopicError
from ledger.mapping import FactMapper, Recorded
from ledger.ranges import Seen, each_range, ignored
from ledger.store import Store
from projections.notification_log import COLUMNS, BrokenStreamError, NotificationLog, comparable, row_of

_FACTS = """
SELECT originator_id, originator_version, topic, state, notification_id FROM ledger.stored_events
WHERE originator_id > %b AND originator_id <= %b AND notification_id <= %b ORDER BY originator_id, originator_version
"""
_ROWS = sql.SQL("SELECT {} FROM views.notification_log_v4 WHERE notification > %b AND notification <= %b").format(
    sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
)
# The status stands in a table of its own; each pair is found by its index.
_STATUSES = """
SELECT l.notification FROM views.notification_log_v4 l
LEFT JOIN views.notification_log_status_v4 s ON s.status = l.status AND s.notification = l.notification
WHERE l.notification > %b AND l.notification <= %b AND s.notification IS NULL
"""

_Stored = tuple[UUID, int, str, bytes, int]


class Difference(msgspec.Struct, frozen=True):
    """A notification whose row is not the fold of its facts: it is missing, wrong, needless (there are no
    facts), or cannot be compared, for the facts are unreadable: one is missing, or of a newer release.

    `columns` names what is wrong, without values.
    """

    notification: UUID
    what: str
    columns: tuple[str, ...] = ()


def differing(store: Store, *, seen: Seen = ignored) -> AsyncIterator[list[Difference]]:
    """Compare every row with the fold of its facts. Streams that the view has parked are left out."""
    return each_range(store, _compared, seen=seen)


async def _compared(connection: AsyncConnection[Any], after: UUID, upto: UUID) -> list[Difference]:
    view = NotificationLog()
    position = await follower.position(connection, view)
    parked = {one.stream for one in await follower.parked(connection, view)}
    facts: dict[UUID, list[_Stored]] = defaultdict(list)
    for row in await (await connection.execute(_FACTS, (after, upto, position), binary=True)).fetchall():
        if row[0] not in parked:
            facts[row[0]].append(row)
    rows = await (await connection.execute(_ROWS, (after, upto), binary=True)).fetchall()
    stored = {row[0]: row for row in rows if row[0] not in parked}
    unlisted = {row[0] for row in await (await connection.execute(_STATUSES, (after, upto), binary=True)).fetchall()}
    compared = (_difference(stream, facts, stored, unlisted - parked) for stream in sorted({*facts, *stored}))
    return [one for one in compared if one is not None]


def _difference(
    stream: UUID, facts: Mapping[UUID, Sequence[_Stored]], rows: Mapping[UUID, tuple[Any, ...]], unlisted: set[UUID]
) -> Difference | None:
    if stream not in facts:
        return Difference(stream, "needless")
    if stream not in rows:
        return Difference(stream, "missing")
    try:
        folded = comparable(row_of([_recorded(row) for row in facts[stream]]))
    except (BrokenStreamError, UnknownTopicError, msgspec.DecodeError):
        return Difference(stream, "unreadable")
    wrong = [name for name, one, other in zip(COLUMNS, folded, comparable(rows[stream]), strict=True) if one != other]
    if stream in unlisted:
        wrong.append("status")
    return Difference(stream, "wrong", tuple(sorted(set(wrong)))) if wrong else None


def _recorded(row: _Stored) -> Recorded:
    stream, version, topic, state, position = row
    return Recorded(stream, version, topic, _MAPPER.decode(topic, state), position)


_MAPPER = FactMapper()
