"""`recover`: what is done with a database that was restored, before any role begins on it."""

from datetime import datetime
from pathlib import Path

import msgspec
from psycopg import AsyncConnection

from handlers.erasures import decode, erase_again, read_list
from handlers.recover import Recover, Recovered, Told
from ledger import recovery
from ledger.erasure import Erasure
from ledger.recovery import Recovery
from ledger.store import connect
from ops.errors import OperationError
from ops.settings import Settings
from ops.wiring import bulk_of, parts


class Report(msgspec.Struct, frozen=True):
    """What was done, or would be; `readers` were ahead of the log and were set back.

    `erased` were erased since the backup, and now again; None = nobody has said who. `bulk_actions` went on then, and
    were stopped: nothing tells what they have sent since.
    """

    done: Recovered
    readers: list[str]
    erased: int | None
    bulk_actions: int

    def lines(self) -> list[str]:
        """Say it for a terminal."""
        unknown = "not known: repeat it with --erasures, or with ARCHIVE_URL"
        return [
            f"erased since the backup: {unknown if self.erased is None else f'{self.erased} people, and now again'}",
            *self.done.lines(),
            *([f"actions on many, stopped: {self.bulk_actions}"] if self.bulk_actions else []),
            *(f"reader set back, its view must be made anew: {name}" for name in self.readers),
        ]


async def recover(
    settings: Settings, since: datetime, *, erasures: Path | None = None, dry_run: bool, told: Told
) -> Report:
    """Put in doubt what may have been sent since a moment, and erase again who was erased since, first of all.

    `erasures` is a file that lists them, as the command of that name prints it; so does what lies beside the archive.
    Raises OperationError while a role runs on the database.
    """
    listed = _read(erasures) if erasures else []
    async with await connect(settings.database_url) as connection:
        begun = await _begun(connection, since, dry_run=dry_run)
        readers = [] if dry_run else await _freed(connection)
    async with parts(settings) as given:
        if given.settings.archive_url:
            listed += await read_list(given.archive.shelf)
        erased = await erase_again(given.ledger, listed, since, dry_run=dry_run)
        stopped = await bulk_of(given).stop_open(by="recover", reason="the database was restored", dry_run=dry_run)
        done = await Recover(given.ledger, begun, told=told, dry_run=dry_run).run()
    if not dry_run:
        async with await connect(settings.database_url) as connection:
            await recovery.end(connection, begun)
    is_known = erasures is not None or bool(settings.archive_url)
    return Report(done, readers, len(erased) if is_known else None, stopped)


def _read(file: Path) -> list[Erasure]:
    try:
        return decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as exc:
        raise OperationError(f"{file} is no list of erasures") from exc


async def _freed(connection: AsyncConnection) -> list[str]:
    await recovery.end_leases(connection)
    return await recovery.set_readers_back(connection)


async def _begun(connection: AsyncConnection, since: datetime, *, dry_run: bool) -> Recovery:
    if since > await recovery.now(connection):
        raise OperationError("--since lies in the future: it is the moment that the database was restored to")
    if dry_run:
        return await recovery.look(connection, since)
    if count := await recovery.others(connection):
        raise OperationError(f"the service has {count} connections to this database: stop every role first")
    return await recovery.begin(connection, since)
