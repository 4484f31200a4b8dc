"""What `notification-ledger archive` does, with a process that ends itself behind a step of it.

Usage: python -m tests.support.archiver DATABASE_URL FOLDER STEP
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prometheus_client import CollectorRegistry

from handlers.archive import Archiving
from handlers.metrics import Metrics
from ledger.archive import Archive, Manifest
from ledger.store import Store, make_pool
from projections import notification_log_upkeep as upkeep
from providers.directory import Directory

FACTS_OF_PART = 60


class Steps:
    """Counts what was done, and ends the process behind the n-th."""

    def __init__(self, last: int) -> None:
        self._left = last

    def done(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


class CountedShelf(Directory):
    def __init__(self, root: Path, steps: Steps) -> None:
        super().__init__(root)
        self._steps = steps

    async def put(self, name: str, body: bytes) -> None:
        await super().put(name, body)
        self._steps.done()

    async def get(self, name: str) -> bytes | None:
        body = await super().get(name)
        self._steps.done()
        return body


class CountedArchiving(Archiving):
    steps: Steps

    async def _drop(self, manifest: Manifest) -> None:
        await super()._drop(manifest)
        self.steps.done()


async def archive(url: str, folder: Path, *, last: int) -> None:
    async with make_pool(url, size=4) as pool:
        store, steps = Store(url, pool), Steps(last)

        async def forget(first: UUID, until: UUID) -> None:
            async with store.connection() as connection:
                await upkeep.forget(connection, first, until)
            steps.done()

        archiving = CountedArchiving(
            store,
            Archive(store, CountedShelf(folder, steps)),
            after=timedelta(weeks=13),
            content={},
            release="test",
            forget=forget,
            metrics=Metrics(CollectorRegistry()),
            facts_of_part=FACTS_OF_PART,
        )
        archiving.steps = steps
        await archiving.archive()


if __name__ == "__main__":
    asyncio.run(archive(sys.argv[1], Path(sys.argv[2]), last=int(sys.argv[3])))
