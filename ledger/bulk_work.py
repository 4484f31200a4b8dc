"""Actions on many notifications, while they are worked off: which notifications they are, and how far it is."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from ledger.arrays import Uuids
from ledger.bulk import Action
from ledger.store import Store

_SHOWN = """
INSERT INTO ledger.bulk_action (id, action, filters, count, notifications, shown_to)
VALUES (%(id)s, %(action)s, %(filters)s, %(count)s, %(notifications)b, %(by)s)
"""
_COLUMNS = """
id, action, filters, count, shown_at, by, reason, begun_at, stopped_at, ended_at, handled, refused, now()
"""
_READ = f"SELECT {_COLUMNS} FROM ledger.bulk_action WHERE id = %(id)s"  # noqa: S608 - our own column names
_LIST = f"""
SELECT {_COLUMNS} FROM ledger.bulk_action WHERE begun_at IS NOT NULL ORDER BY begun_at DESC, id LIMIT %(limit)s
"""  # noqa: S608 - likewise
# The action that was begun first of those that have not ended.
_OPEN = f"""
SELECT {_COLUMNS} FROM ledger.bulk_action WHERE begun_at IS NOT NULL AND ended_at IS NULL ORDER BY begun_at, id LIMIT 1
"""  # noqa: S608 - likewise
_BEGIN = """
UPDATE ledger.bulk_action SET by = %(by)s, reason = %(reason)s, begun_at = %(at)s WHERE id = %(id)s AND begun_at IS NULL
"""
_STOP = "UPDATE ledger.bulk_action SET stopped_at = now() WHERE id = %(id)s AND stopped_at IS NULL AND ended_at IS NULL"
_NEXT = """
SELECT notifications[handled + 1 : handled + %(limit)s::integer] FROM ledger.bulk_action WHERE id = %(id)s
"""
# Only from where the work was begun: another process may have done the same meanwhile.
_ADVANCE = """
UPDATE ledger.bulk_action SET handled = %(to)s, refused = %(refused)s WHERE id = %(id)s AND handled = %(since)s
"""
_END = """
UPDATE ledger.bulk_action SET ended_at = now(), notifications = '{}' WHERE id = %(id)s AND ended_at IS NULL
"""
# What was shown and never begun; who comes back after a day looks again.
_FORGET = "DELETE FROM ledger.bulk_action WHERE begun_at IS NULL AND shown_at < now() - interval '1 day'"


class Refusals(msgspec.Struct, frozen=True):
    """How many were refused for one reason, and the first of them."""

    count: int
    examples: tuple[UUID, ...]


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How far an action is: `handled` of `count`, the `refused` among them by reason. `now` is the database's time."""

    id: UUID
    action: Action
    filters: dict[str, str]
    count: int
    shown_at: datetime
    by: str | None
    reason: str | None
    begun_at: datetime | None
    stopped_at: datetime | None
    ended_at: datetime | None
    handled: int
    refused: dict[str, Refusals]
    now: datetime


class BulkWork:
    """The table of what is to be done to many."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def show(
        self, action_id: UUID, action: Action, filters: Mapping[str, str], notifications: Sequence[UUID], *, by: str
    ) -> None:
        """Fix which notifications an action is about."""
        given = {
            "id": action_id,
            "action": action.value,
            "filters": Jsonb(dict(filters)),
            "count": len(notifications),
            "notifications": Uuids(list(notifications)),
            "by": by,
        }
        await self._execute(_SHOWN, given)

    async def read(self, action_id: UUID) -> Work | None:
        """Read one; None where there is none."""
        found = await self._works(_READ, {"id": action_id})
        return found[0] if found else None

    async def begun(self, *, limit: int) -> list[Work]:
        """List what was begun, the newest first."""
        return await self._works(_LIST, {"limit": limit})

    async def open(self) -> Work | None:
        """Return what is to be worked at next; None where there is nothing."""
        found = await self._works(_OPEN, {})
        return found[0] if found else None

    async def begin(self, action_id: UUID, *, by: str, reason: str, at: datetime) -> None:
        """Let it be worked off; nothing where it is already."""
        await self._execute(_BEGIN, {"id": action_id, "by": by, "reason": reason, "at": at})

    async def stop(self, action_id: UUID) -> None:
        """Let the rest of it be."""
        await self._execute(_STOP, {"id": action_id})

    async def next(self, action_id: UUID, *, limit: int) -> list[UUID]:
        """Return the next notifications of it."""
        async with self._store.connection() as connection:
            row = await (await connection.execute(_NEXT, {"id": action_id, "limit": limit})).fetchone()
        return list(row[0]) if row else []

    async def advance(self, work: Work, by: int, refused: Mapping[str, Refusals]) -> None:
        """Remember that so many more were handled; nothing where somebody else has done that."""
        given = {"id": work.id, "since": work.handled, "to": work.handled + by}
        await self._execute(_ADVANCE, {**given, "refused": Jsonb(msgspec.to_builtins(refused))})

    async def end(self, action_id: UUID) -> None:
        """Remember that nothing of it is left to do."""
        await self._execute(_END, {"id": action_id})

    async def forget(self) -> None:
        """Delete what was shown a day ago and never begun."""
        await self._execute(_FORGET, {})

    async def _execute(self, statement: str, given: Mapping[str, Any]) -> None:
        async with self._store.connection() as connection:
            await connection.execute(statement, given)

    async def _works(self, statement: str, given: Mapping[str, Any]) -> list[Work]:
        async with self._store.connection() as connection:
            rows = await (await connection.execute(statement, given)).fetchall()
        return [_work(row) for row in rows]


def _work(row: Sequence[Any]) -> Work:
    fields = dict(zip(Work.__struct_fields__, row, strict=True))
    return Work(
        **fields
        | {"action": Action(fields["action"]), "refused": msgspec.convert(fields["refused"], dict[str, Refusals])}
    )
