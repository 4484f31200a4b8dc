"""What becomes of notification_log in time: rows of archived weeks, old versions; and of parked streams of any list."""

from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from ledger.errors import LedgerError
from ledger.follower import parked, unpark
from projections.notification_log import NotificationLog
from projections.views import all_views

_EXISTS = "SELECT to_regclass('views.notification_log_v4') IS NOT NULL"
_HAS_ROWS = "SELECT EXISTS (SELECT FROM views.notification_log_v4 WHERE notification BETWEEN %b AND %b)"
# No index leads there by the notification: once a week all of it is read.
_FORGET_WAYS = (
    "DELETE FROM views.notification_log_reference_v4 WHERE notification BETWEEN %b AND %b",
    "DELETE FROM views.notification_log_address_v4 WHERE notification BETWEEN %b AND %b",
    "DELETE FROM views.notification_log_business_reference_v4 WHERE notification BETWEEN %b AND %b",
)
# A row and its status go together, so many at a time.
_FORGET_ROWS = """
WITH gone AS (
    DELETE FROM views.notification_log_v4 WHERE notification = ANY(ARRAY(
        SELECT notification FROM views.notification_log_v4 WHERE notification BETWEEN %b AND %b
        ORDER BY notification LIMIT 5000
    )) RETURNING notification, status
)
DELETE FROM views.notification_log_status_v4 s USING gone g
WHERE s.status = g.status AND s.notification = g.notification
"""
# Tables of versions before this one, once this one is what is shown and nobody has run the old one for a day.
_OLD_TABLES = r"""
SELECT relname FROM pg_class
WHERE relnamespace = 'views'::regnamespace AND relkind = 'r'
  AND substring(relname FROM '^notification_log(?:_[a-z_]+)?_v(\d+)$')::int < %(version)s
  AND strpos(pg_get_viewdef('views.notification_log'::regclass), 'notification_log_v' || %(version)s) > 0
  AND NOT EXISTS (
      SELECT FROM ledger.follower WHERE name = %(name)s AND version < %(version)s
                                    AND lease_until > now() - interval '1 day' AND isfinite(lease_until)
  )
ORDER BY relname
"""
_FORGET_OLD = "DELETE FROM ledger.{} WHERE name = %(name)s AND version < %(version)s"
_log = structlog.get_logger("projections.upkeep")


async def forget(connection: AsyncConnection[Any], first: UUID, last: UUID) -> None:
    """Take the notifications between two ids out of the lists; nothing where it was done before."""
    ids = (first, last)
    if not await _is_so(connection, _EXISTS) or not await _is_so(connection, _HAS_ROWS, ids):
        return
    # The rows go last: while there is one, the next run goes on here.
    for statement in _FORGET_WAYS:
        await connection.execute(statement, ids)
    while await _is_so(connection, _HAS_ROWS, ids):
        await connection.execute(_FORGET_ROWS, ids)


async def drop_old_versions(connection: AsyncConnection[Any]) -> None:
    """Drop the tables of versions that are shown no more, with the places of their readers. Needs autocommit."""
    view = NotificationLog()
    given = {"name": view.name, "version": view.version}
    if not await _is_so(connection, _EXISTS):
        return
    tables = [name for (name,) in await (await connection.execute(_OLD_TABLES, given)).fetchall()]
    if not tables:
        return
    async with connection.transaction():
        for table in tables:
            # Only a view of the old version may still show it.
            await connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier("views", table)))
        for places in ("parked", "follower"):
            await connection.execute(sql.SQL(_FORGET_OLD).format(sql.Identifier(places)), given)
    _log.info("old_views_dropped", tables=tables)


async def retry_parked(connection: AsyncConnection[Any]) -> None:
    """Fold again what a newer release may understand; what still cannot be folded stays parked. Needs autocommit."""
    for view in all_views():
        for one in await parked(connection, view):
            try:
                if await unpark(connection, view, one.stream):
                    _log.info("stream_unparked", notification_id=str(one.stream))
            except (psycopg.DataError, psycopg.IntegrityError, LedgerError, ValueError):
                # It is listed with its reason, and counted.
                continue


async def _is_so(connection: AsyncConnection[Any], question: str, given: tuple[Any, ...] = ()) -> bool:
    ((answer,),) = await (await connection.execute(question, given)).fetchall()
    return bool(answer)
