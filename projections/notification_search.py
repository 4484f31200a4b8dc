"""What can be asked of notification_log: filters, and pages that neither skip nor repeat while rows are added."""

import base64
import binascii
import contextlib
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
    """What the rows must be; None = anything. `since` is inclusive, `until` exclusive, both by `created_at`."""

    user_id: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    category: Category | None = None
    type: str | None = None
    template: str | None = None
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
    query, given = _query(filters, before=before, limit=limit + 1)
    if not all(_storable(value) for value in given.values()):
        return Page([], None)
    # Planned for these very values: a generic plan would serve the rare and the frequent user alike.
    found = await connection.execute(query, given, prepare=False, binary=True)
    rows = [LogRow(*row) for row in await found.fetchall()]
    more = len(rows) > limit
    return Page(rows[:limit], _cursor(rows[limit - 1].notification) if more else None)


def _query(filters: Filters, *, before: UUID | None, limit: int) -> tuple[sql.Composed, dict[str, Any]]:
    given: dict[str, Any] = {
        **{name: str(value) for name, value in msgspec.structs.asdict(filters).items() if isinstance(value, str)},
        **_times(filters),
        "before": before,
        "limit": limit,
    }
    given = {name: value for name, value in given.items() if value is not None}
    query = sql.SQL("SELECT {} FROM views.notification_log l{} WHERE true{} ORDER BY l.notification DESC LIMIT {}")
    return query.format(
        sql.SQL(", ").join(sql.Identifier("l", name) for name in LogRow.__struct_fields__),
        sql.SQL("").join(_JOINS[name] for name in given if name in _JOINS),
        sql.SQL("").join(_condition(name) for name in given if name != "limit"),
        _placeholder("limit"),
    ), given


def _times(filters: Filters) -> dict[str, Any]:
    """Times as given, and as the ids made around them: ids are in the order of the answer and have an index."""
    return {
        "since": filters.since,
        "since_id": filters.since and _id_at(filters.since - _AROUND),
        "until": filters.until,
        "until_id": filters.until and _id_at(filters.until + _AROUND),
    }


def _condition(name: str) -> sql.Composed:
    if name in _CONDITIONS:
        return _CONDITIONS[name].format(_placeholder(name))
    return sql.SQL(" AND l.{} = {}").format(sql.Identifier(name), _placeholder(name))


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
_JOINS = {
    "address_hash": sql.SQL(" JOIN views.notification_log_address a USING (notification)"),
    "status": sql.SQL(" JOIN views.notification_log_status s USING (notification)"),
    "provider_message_id": sql.SQL(" JOIN views.notification_log_reference p USING (notification)"),
}
_CONDITIONS = {
    "address_hash": sql.SQL(" AND a.address_hash = {}"),
    "before": sql.SQL(" AND l.notification < {}"),
    "since": sql.SQL(" AND l.created_at >= {}"),
    "since_id": sql.SQL(" AND l.notification >= {}"),
    "until": sql.SQL(" AND l.created_at < {}"),
    "until_id": sql.SQL(" AND l.notification <= {}"),
    "status": sql.SQL(" AND s.status = {}"),
    "provider_message_id": sql.SQL(" AND p.reference = {}"),
}
