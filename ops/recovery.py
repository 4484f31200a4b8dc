"""`recover`: what is done with a database that was restored, before any role begins on it."""

from datetime import datetime

import msgspec
from psycopg import AsyncConnection

from handlers.recover import Recover, Recovered, Told
from ledger import recovery
from ledger.recovery import Recovery
from ledger.store import connect
from ops.errors import OperationError
from ops.settings import Settings
from ops.wiring import parts


class Report(msgspec.Struct, frozen=True):
    """What was done, or would be; `readers` were ahead of the log and were set back."""

    done: Recovered
    readers: list[str]

    def lines(self) -> list[str]:
        """Say it for a terminal."""
        return [*self.done.lines(), *(f"reader set back, its view must be made anew: {name}" for name in self.readers)]


async def recover(settings: Settings, since: datetime, *, dry_run: bool, told: Told) -> Report:
    """Put in doubt what may have been sent since a moment. Raises OperationError while a role runs on the database."""
    async with await connect(settings.database_url) as connection:
        begun = await _begun(connection, since, dry_run=dry_run)
        readers = [] if dry_run else await _freed(connection)
    async with parts(settings) as given:
        done = await Recover(given.ledger, begun, told=told, dry_run=dry_run).run()
    if not dry_run:
        async with await connect(settings.database_url) as connection:
            await recovery.end(connection, begun)
    return Report(done, readers)


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
