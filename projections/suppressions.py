"""suppressions: a row for each entry of the suppression list that has not been released, asked for in pages."""

import base64
import binascii
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import arrays
from ledger.mapping import Recorded
from ledger.suppression import Delisted, Listed, Reason
from ledger.values import Category, Channel
from projections.notification_search import CursorError

# The position of the fact that made an entry is the order of the answer: it never changes, and an entry that is made
# again is a new one. An empty category stands for all of them, since a key holds no NULL.
_CREATE = """
CREATE TABLE IF NOT EXISTS suppressions_v1 (
    stream uuid NOT NULL,
    reason text NOT NULL,
    category text NOT NULL,
    position bigint NOT NULL UNIQUE,
    version bigint NOT NULL,
    channel text NOT NULL,
    since timestamptz NOT NULL,
    expires_at timestamptz,
    notification uuid,
    attempt uuid,
    note text,
    "by" text NOT NULL,
    PRIMARY KEY (stream, reason, category)
);
"""
_REMOVE = """
DELETE FROM suppressions_v1 s USING unnest(%b, %b, %b) AS gone (stream, reason, category)
WHERE s.stream = gone.stream AND s.reason = gone.reason AND s.category = gone.category
"""
_ADD = """
INSERT INTO suppressions_v1
    (stream, reason, category, position, version, channel, since, expires_at, notification, attempt, note, "by")
SELECT * FROM unnest(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
"""
_TYPES: Sequence[type[arrays.Column]] = (
    arrays.Uuids,
    arrays.Texts,
    arrays.Texts,
    arrays.Bigints,
    arrays.Bigints,
    arrays.Texts,
    arrays.Times,
    arrays.Times,
    arrays.Uuids,
    arrays.Uuids,
    arrays.Texts,
    arrays.Texts,
)
_SEARCH = sql.SQL("""
SELECT stream, reason, nullif(category, ''), position, version, channel, since, expires_at, notification, attempt, note,
       "by"
FROM views.suppressions_v1
WHERE (expires_at IS NULL OR expires_at > now()) {conditions} ORDER BY position DESC LIMIT %(limit)s
""")
_Name = tuple[UUID, str, str]


class Row(msgspec.Struct, frozen=True):
    """An entry in a list; words of a fixed list are plain strings, for a newer release may have written another."""

    stream: UUID
    reason: str
    category: str | None
    position: int
    version: int
    channel: str
    since: datetime
    expires_at: datetime | None
    notification: UUID | None
    attempt: UUID | None
    note: str | None
    by: str


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries must be; None = anything. A category means entries for that one, not those for all."""

    channel: Channel | None = None
    reason: Reason | None = None
    category: Category | None = None


class Page(msgspec.Struct, frozen=True):
    """Entries in force, the newest first; `cursor` asks for those after them, None when there are none."""

    rows: list[Row]
    cursor: str | None


class Suppressions:
    """The view (ledger.follower.View)."""

    name = "suppressions"
    version = 1

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the table unless it is there."""
        await connection.execute(_CREATE, prepare=False)

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the rows up to date: of each entry the last fact decides, whatever was there before."""
        last: dict[_Name, tuple[Any, ...] | None] = {}
        for recorded in facts:
            fact = recorded.fact
            if isinstance(fact, Listed | Delisted):
                name = (recorded.originator_id, fact.reason.value, fact.category.value if fact.category else "")
                last[name] = _row(recorded, fact, name) if isinstance(fact, Listed) else None
        if last:
            await connection.execute(_REMOVE, _columns(list(last), _TYPES[:3]))
        if rows := [row for row in last.values() if row is not None]:
            await connection.execute(_ADD, _columns(rows, _TYPES))


def _row(recorded: Recorded, fact: Listed, name: _Name) -> tuple[Any, ...]:
    return (
        *name,
        recorded.position,
        recorded.originator_version,
        fact.channel.value,
        fact.recorded_at,
        fact.expires_at,
        fact.notification,
        fact.attempt,
        fact.note,
        fact.by,
    )


def _columns(rows: Sequence[tuple[Any, ...]], types: Sequence[type[arrays.Column]]) -> list[arrays.Column]:
    return [column(values) for column, values in zip(types, zip(*rows, strict=True), strict=True)]


async def search(
    connection: AsyncConnection[Any], filters: Filters, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """Return a page of at most `limit` entries; CursorError for a cursor that is none of ours."""
    given: dict[str, Any] = {name: str(value) for name, value in msgspec.structs.asdict(filters).items() if value}
    conditions = sql.Composed(
        [sql.SQL("AND {} = {} ").format(sql.Identifier(name), sql.Placeholder(name)) for name in given]
    )
    if cursor is not None:
        given["before"] = _opened(cursor)
        conditions += sql.SQL("AND position < %(before)s")
    query = _SEARCH.format(conditions=conditions)
    found = await connection.execute(query, {**given, "limit": limit + 1}, prepare=False)
    rows = [Row(*row) for row in await found.fetchall()]
    return Page(rows[:limit], _cursor(rows[limit - 1].position) if len(rows) > limit else None)


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(position.to_bytes(8)).decode().rstrip("=")


def _opened(cursor: str) -> int:
    with contextlib.suppress(binascii.Error, ValueError):
        position = int.from_bytes(base64.b64decode(cursor + "=", altchars=b"-_", validate=True))
        if position < 2**63 and _cursor(position) == cursor:
            return position
    raise CursorError("the cursor is not one that an earlier page gave")
