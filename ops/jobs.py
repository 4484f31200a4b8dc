"""The jobs of the clock that need more than the ledger: old weeks, the upkeep of the lists, what is done to many."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from handlers.archive import Archiving
from handlers.bulk import Bulk
from handlers.erasures import copy_list
from handlers.maintain import Job
from handlers.metrics import Metrics
from ledger.archive import Archive
from ledger.rebuilding import clear
from ledger.store import Store, connect
from ops.settings import Settings
from projections import notification_log_upkeep as upkeep

_HOUR, _SECONDS, _SOON = timedelta(hours=1), timedelta(seconds=10), timedelta(seconds=5)
_Upkeep = Callable[[AsyncConnection[Any]], Awaitable[object]]


def archiving_of(
    settings: Settings, store: Store, archive: Archive, metrics: Metrics, *, now: Callable[[], Settings] | None = None
) -> Archiving:
    """Build what moves old weeks, by the settings; `now` tells those that were renewed since."""

    @asynccontextmanager
    async def dropping() -> AsyncIterator[AsyncConnection[Any]]:
        async with await connect((now() if now else settings).archive_database_url) as connection:
            yield connection

    async def forget(first: UUID, last: UUID) -> None:
        async with store.connection() as connection:
            await upkeep.forget(connection, first, last)

    return Archiving(
        store,
        archive,
        after=timedelta(weeks=settings.archive_after),
        content=settings.content_kept(),
        release=version("notification-ledger"),
        forget=forget,
        metrics=metrics,
        lend=dropping if settings.archive_database_url else None,
    )


def jobs_of(
    settings: Settings, store: Store, archive: Archive, metrics: Metrics, *, bulk: Bulk, now: Callable[[], Settings]
) -> Mapping[str, tuple[timedelta, Job]]:
    """Name the jobs, how often each runs, and what it does; weeks are archived only where it is said whereto."""

    async def on_lists(work: _Upkeep) -> None:
        async with store.connection() as connection:
            await work(connection)

    archiving = archiving_of(settings, store, archive, metrics, now=now)
    jobs: dict[str, tuple[timedelta, Job]] = {
        "bulk_actions": (_SOON, bulk.run),
        "drop_content": (_HOUR, archiving.drop_content),
        "retry_parked": (_HOUR, partial(on_lists, upkeep.retry_parked)),
        "drop_old_views": (_HOUR, partial(on_lists, upkeep.drop_old_versions)),
        "clear_rebuilds": (_HOUR, partial(on_lists, clear)),
    }
    if not settings.archive_url:
        return jobs
    archived: dict[str, tuple[timedelta, Job]] = {
        "archive": (_HOUR, archiving.archive),
        "copy_erasures": (_SECONDS, partial(copy_list, store, archive.shelf)),
    }
    return jobs | archived
