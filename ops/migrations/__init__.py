"""The database's schema: numbered SQL files, applied forward only, by one process at a time, as the owner.

A file's name says when it runs: `pre` before the new release starts (old code must work on it), `post` after the old
one is gone. A release's `post` steps come behind its `pre` steps.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from importlib import resources

import psycopg
from psycopg import sql

from ledger.errors import LedgerError
from ledger.keys import KeyEncryption, make_identity_key

_LOCK = "SELECT pg_advisory_lock(hashtext('notification-ledger.migrate'))"
_DONE = """
CREATE TABLE IF NOT EXISTS public.ledger_migration (
    name text PRIMARY KEY, digest bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_APPLIED = "INSERT INTO public.ledger_migration (name, digest) VALUES (%s, %s)"
# Ten minutes, a third of which is waited for.
_TRIES, _PAUSE = 200, 2.0


class MigrationError(LedgerError):
    """The schema cannot be brought up to date; the message says what stands in the way."""


Step = tuple[str, str]


async def migrate(
    owner_url: str,
    *,
    application_role: str,
    installation: str,
    keys: KeyEncryption,
    identity_key: bytes | None = None,
    after_rollout: bool = False,
    archive_role: str = "",
) -> list[str]:
    """Bring the database up to date and return the names of the steps that were applied.

    Many processes may call it at once: the others wait, and find nothing left to do. Where an archive role is named, it
    alone may drop weeks.
    """
    wanted = steps() if after_rollout else before_rollout(steps())
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        await connection.execute(_LOCK)
        applied = await _apply_all(connection, wanted, application_role)
        await _set_installation(connection, installation, keys.wrap_identity(identity_key or make_identity_key()))
        if archive_role:
            await _give_drop_week(connection, to=archive_role, instead_of=application_role)
        await connection.execute("SELECT ledger.make_weeks()")
    return applied


async def _apply_all(connection: psycopg.AsyncConnection, wanted: Sequence[Step], application_role: str) -> list[str]:
    await connection.execute(_DONE)
    cursor = await connection.execute("SELECT name, digest FROM public.ledger_migration")
    known: dict[str, bytes] = dict(await cursor.fetchall())
    applied = []
    for name, text in wanted:
        digest = hashlib.sha256(text.encode()).digest()
        if name not in known:
            await _apply(connection, name, text, digest=digest, application_role=application_role)
            applied.append(name)
        elif known[name] != digest:
            raise MigrationError(f"step {name} was changed after it had been applied: add a new step instead")
    return applied


def steps() -> list[Step]:
    """Return name and text of every step, in order."""
    files = (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    return sorted((file.name, file.read_text("utf-8")) for file in files)


def before_rollout(given: Sequence[Step]) -> list[Step]:
    """Leave out the `post` steps at the end: those before a `pre` step waited for a release that is gone by now."""
    last = max((number for number, (name, _) in enumerate(given) if name.endswith(".pre.sql")), default=-1)
    return list(given[: last + 1])


async def _apply(
    connection: psycopg.AsyncConnection, name: str, text: str, *, digest: bytes, application_role: str
) -> None:
    """Apply a step as soon as nobody uses its tables: what waits for one keeps all who come after it waiting."""
    role = sql.Identifier(application_role).as_string(connection)
    for _ in range(_TRIES):
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '1s'")
                await connection.execute(text.replace("{application}", role).encode())
                await connection.execute(_APPLIED, (name, digest))
            return
        await asyncio.sleep(_PAUSE)
    raise MigrationError(
        f"step {name} needs tables that somebody reads all the time, such as a backup: try again later"
    )


async def _give_drop_week(connection: psycopg.AsyncConnection, *, to: str, instead_of: str) -> None:
    function = sql.SQL("FUNCTION ledger.drop_week(text, text, bigint, bytea)")
    role, other = sql.Identifier(to), sql.Identifier(instead_of)
    async with connection.transaction():
        await connection.execute(sql.SQL("REVOKE EXECUTE ON {} FROM {}").format(function, other))
        await connection.execute(sql.SQL("GRANT USAGE ON SCHEMA ledger TO {}").format(role))
        await connection.execute(sql.SQL("GRANT EXECUTE ON {} TO {}").format(function, role))


async def _set_installation(connection: psycopg.AsyncConnection, name: str, identity_key: bytes) -> None:
    await connection.execute(
        "INSERT INTO ledger.installation (name, identity_key) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (name, identity_key),
    )
    stored = await (await connection.execute("SELECT name FROM ledger.installation")).fetchone()
    if stored is None or stored[0] != name:
        raise MigrationError("INSTALLATION differs from the database's own: is this a copy of another installation?")
