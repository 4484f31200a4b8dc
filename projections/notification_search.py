"""What can be asked of notification_log: filters, and pages that neither skip nor repeat while rows are added."""

import base64
import binascii
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.adapt import PyFormat

from ledger.status import Status
from ledger.values import Category, Channel
from projections.notification_log import LogRow


class CursorError(ValueError):
    """The cursor is not one that an earlier page gave."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows must be; None = anything. `since` is inclusive, `until` exclusive, both by `created_at`.

    `reference` is a business reference by its value, under `reference_name` or, without it, under any name.
    """

    notification: UUID | None = None
    user_id: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    category: Category | None = None
    type: str | None = None
    template: str | None = None
    template_version: str | None = None
    reference: str | None = None
    reference_name: str | None = None
    correlation_id: str | None = None
    message_id: str | None = None
    provider_message_id: str | None = None
    address_hash: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Page(msgspec.Struct, frozen=True):
    """Rows, the newest first; `cursor` asks for those after them, None when there are none."""

    rows: list[LogRow]
    cursor: str | None


async def search(
    connection: AsyncConnection[Any], filters: Filters, *, cursor: str | None = None, limit: int = 50
) -> Page:
    """Return a page of at most `limit` rows; CursorError for a cursor that is none of ours."""
    before = _opened(cursor) if cursor is not None else None
    return _page(await _rows(connection, filters, before=before, limit=limit + 1), limit)


async def search_any(
    connection: AsyncConnection[Any], wanted: Sequence[Filters], *, cursor: str | None = None, limit: int = 50
) -> tuple[Page, list[list[int]]]:
    """Return a page of at most `limit` rows that any of the filters finds, and of each row which of them did.

    CursorError as `search`. Each filter's own page is in the same order, so their union holds the page of all.
    """
    before = _opened(cursor) if cursor is not None else None
    rows: dict[UUID, LogRow] = {}
    found_by: dict[UUID, list[int]] = {}
    for number, filters in enumerate(wanted):
        for row in await _rows(connection, filters, before=before, limit=limit + 1):
            rows[row.notification] = row
            found_by.setdefault(row.notification, []).append(number)
    page = _page(sorted(rows.values(), key=lambda row: row.notification, reverse=True), limit)
    return page, [found_by[row.notification] for row in page.rows]


def _page(rows: Sequence[LogRow], limit: int) -> Page:
    more = len(rows) > limit
    return Page(list(rows[:limit]), _cursor(rows[limit - 1].notification) if more else None)


async def _rows(connection: AsyncConnection[Any], filters: Filters, *, before: UUID | None, limit: int) -> list[LogRow]:
    query, given = _query(filters, before=before, limit=limit)
    if not all(_storable(value) for value in given.values()):
        return []
    # Planned for these very values: a generic plan would serve the rare and the frequent user alike.
    found = await connection.execute(query, given, prepare=False, binary=True)
    return [LogRow(*row) for row in await found.fetchall()]


def _query(filters: Filters, *, before: UUID | None, limit: int) -> tuple[sql.Composed, dict[str, Any]]:
    """Return the statement and what it is given: the ids of a page are found in indexes alone, and then read."""
    given: dict[str, Any] = {
        **{name: str(value) for name, value in msgspec.structs.asdict(filters).items() if isinstance(value, str)},
        "notification": filters.notification,
        **_times(filters),
        "before": before,
        "limit": limit,
    }
    given = {name: value for name, value in given.items() if value is not None}
    conditions = [name for name in given if name not in _NO_CONDITION]
    found = [_ids(name, given) for name in conditions]
    if not found or not _TIMES.keys().isdisjoint(given):
        times = (_TIMES[name].format(_placeholder(name)) for name in _TIMES if name in given)
        found.append(_AT.format(_NO_SQL.join(times), _stretch(given)))
    first, *others = found
    joined = [sql.SQL(" JOIN {} USING (notification)").format(each) for each in others]
    return _PAGE.format(
        columns=sql.SQL(", ").join(sql.Identifier("l", name) for name in LogRow.__struct_fields__),
        ids=first + _NO_SQL.join(joined),
        limit=_placeholder("limit"),
    ), given


def _times(filters: Filters) -> dict[str, Any]:
    """Times as given, and as the ids made around them: ids are in the order of the answer and have an index."""
    return {
        "since": filters.since,
        "since_id": filters.since and _id_at(filters.since - _AROUND),
        "until": filters.until,
        "until_id": filters.until and _id_at(filters.until + _AROUND),
    }


def _ids(name: str, given: Mapping[str, Any]) -> sql.Composed:
    """Return the ids that one filter leaves: a range of one index, in the order of the answer."""
    table, column = _BESIDE.get(name, ("notification_log", name))
    form = _ONCE if name == "reference" and "reference_name" not in given else _IDS
    named = _NAMED.format(_placeholder("reference_name")) if name == "reference" and form is _IDS else _NO_SQL
    return form.format(
        table=sql.Identifier(table),
        column=sql.Identifier(column),
        value=_placeholder(name),
        named=named,
        stretch=_stretch(given),
        alias=sql.Identifier(f"by_{name}"),
    )


def _stretch(given: Mapping[str, Any]) -> sql.Composed:
    return _NO_SQL.join(bound.format(_placeholder(name)) for name, bound in _STRETCH.items() if name in given)


def _placeholder(name: str) -> sql.Placeholder:
    return sql.Placeholder(name, PyFormat.BINARY)


def _storable(value: Any) -> bool:
    """Whether a column can hold it: a text with NUL or a lone surrogate equals nothing that is stored."""
    if not isinstance(value, str):
        return True
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment."""
    milliseconds = max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    return UUID(int=milliseconds << 80)


def _cursor(notification: UUID) -> str:
    return base64.urlsafe_b64encode(notification.bytes).decode().rstrip("=")


def _opened(cursor: str) -> UUID:
    with contextlib.suppress(binascii.Error, ValueError):
        notification = UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
        if _cursor(notification) == cursor:
            return notification
    raise CursorError("the cursor is not one that an earlier page gave")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An id is drawn shortly before its first fact is decided, and holds milliseconds only.
_AROUND = timedelta(minutes=1)
# Where a filter looks beside the log: a table in which each value has its ids in the order of the answer.
_BESIDE = {
    "address_hash": ("notification_log_address", "address_hash"),
    "status": ("notification_log_status", "status"),
    "provider_message_id": ("notification_log_reference", "reference"),
    "reference": ("notification_log_business_reference", "value"),
}
_PAGE = sql.SQL("""
SELECT {columns} FROM (
    SELECT notification FROM {ids} ORDER BY notification DESC LIMIT {limit}
) AS page JOIN views.notification_log l USING (notification) ORDER BY notification DESC
""")
_IDS = sql.SQL("(SELECT notification FROM views.{table} WHERE {column} = {value}{named}{stretch}) AS {alias}")
# By a value alone one may be known under two names. The order lets it stop where the page is full.
_ONCE = sql.SQL("""(
    SELECT DISTINCT notification FROM views.{table} WHERE {column} = {value}{stretch} ORDER BY notification DESC
) AS {alias}""")
_AT = sql.SQL("(SELECT notification FROM views.notification_log WHERE true{}{}) AS at")
_NAMED = sql.SQL(" AND name = {}")
_NO_SQL = sql.SQL("")
# Which stretch of ids: said of each filter's, for the planner takes no such thing from one to another.
_STRETCH = {
    "before": sql.SQL(" AND notification < {}"),
    "since_id": sql.SQL(" AND notification >= {}"),
    "until_id": sql.SQL(" AND notification <= {}"),
}
_TIMES = {"since": sql.SQL(" AND created_at >= {}"), "until": sql.SQL(" AND created_at < {}")}
_NO_CONDITION = frozenset({"limit", "reference_name", *_STRETCH, *_TIMES})
