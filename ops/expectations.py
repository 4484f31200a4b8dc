"""What every role expects of its database, looked at before it begins: what is not so would lose or alter facts."""

from collections.abc import Container
from typing import Any

import psycopg
from psycopg import AsyncConnection

from ops.errors import NotReadyError
from ops.migrations import steps

OLDEST = 15
# What the session has set by the way that it was opened (ledger.store), and how it stands with the facts.
_SERVER = """
SELECT current_setting('server_version_num')::int / 10000 AS version, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('enable_seqscan') = 'off' AS options_arrived
"""
_ROLE = """
SELECT rolsuper AS superuser,
       pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = 'ledger.stored_events'::regclass), 'MEMBER')
       AS owner,
       (SELECT bool_or(has_table_privilege(relid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
        FROM pg_partition_tree('ledger.stored_events')) AS changes_facts
FROM pg_roles WHERE rolname = current_user
"""
_APPLIED = "SELECT name FROM public.ledger_migration"


async def check(connection: AsyncConnection[Any], *, may_be_off: Container[str] = ()) -> None:
    """Raise NotReadyError that names all that is not as it must be; what keeps a commit on disk may be off by name."""
    found = [
        *await _of_server(connection, may_be_off=may_be_off),
        *await _of_role(connection),
        *await _of_schema(connection),
    ]
    if found:
        raise NotReadyError("the database is not what it must be: " + "; ".join(found))


async def _of_server(connection: AsyncConnection[Any], *, may_be_off: Container[str]) -> list[str]:
    version, fsync, pages, commit, options_arrived = await _row(connection, _SERVER)
    faults = [] if version >= OLDEST else [f"it is Postgres {version}, and {OLDEST} is the oldest that will do"]
    if not options_arrived:
        faults.append("a pooler stands before it that does not pass session options on: connect to Postgres itself")
    given = {"fsync": fsync, "full_page_writes": pages, "synchronous_commit": commit}
    off = [name for name in given if given[name] == "off" and name not in may_be_off]
    return [*faults, *(f"{name} is off: a crash would lose what was confirmed" for name in off)]


async def _of_role(connection: AsyncConnection[Any]) -> list[str]:
    superuser, owner, changes_facts = await _row(connection, _ROLE)
    if superuser:
        return ["DATABASE_URL logs in as a superuser, who may change facts"]
    if owner:
        return ["DATABASE_URL logs in as the owner of the facts, who may change them"]
    return ["the role of DATABASE_URL may change facts: take that right from it"] if changes_facts else []


async def _of_schema(connection: AsyncConnection[Any]) -> list[str]:
    try:
        rows = await (await connection.execute(_APPLIED)).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        rows = []
    # What is for after the rollout is not awaited before it.
    awaited = {name for name, _ in steps() if name.endswith(".pre.sql")}
    missing = sorted(awaited - {name for (name,) in rows})
    return [f"its schema lacks {missing[-1]}: run `notification-ledger migrate` of this release"] if missing else []


async def _row(connection: AsyncConnection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await (await connection.execute(query.encode())).fetchone()
    if row is None:
        raise NotReadyError("the database does not say how it is")
    return row
