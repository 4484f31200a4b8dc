"""Old weeks leave the database: first what was said, by its retention; then the facts, once they lie in the archive.

Each step may be the last one of its process: what is not dropped yet is copied again, to the same names.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from uuid import UUID

import structlog

from handlers.metrics import Metrics
from ledger import chain, old_weeks
from ledger.archive import Archive, Manifest, Part, packed
from ledger.errors import ArchiveUnavailableError, KeptError, UnavailableError
from ledger.ids import ids_of
from ledger.old_weeks import Lend, Week, ended_at
from ledger.store import Store

# A question for one notification reads one part.
FACTS_OF_PART = 2_000
# To copy takes a quarter of the time: the rest is for those who are waited for.
_REST = 3
_TRIES, _PAUSE = 20, 0.5
_log = structlog.get_logger("handlers.archive")

# Takes what answers for these ids out of the lists.
Forget = Callable[[UUID, UUID], Awaitable[None]]


class Archiving:
    """Moves weeks that are over for `after` to the archive, and drops content that is over for its class's time.

    Where another login than the application's drops weeks, `lend` opens its connections.
    """

    def __init__(
        self,
        store: Store,
        archive: Archive,
        *,
        after: timedelta,
        content: Mapping[str, timedelta],
        release: str,
        forget: Forget,
        metrics: Metrics,
        facts_of_part: int = FACTS_OF_PART,
        lend: Lend | None = None,
    ) -> None:
        self._lend = lend
        self._store = store
        self._archive = archive
        self._after = after
        self._content = content
        self._release = release
        self._forget = forget
        self._metrics = metrics
        self._facts_of_part = facts_of_part

    async def plan(self) -> AsyncIterator[tuple[Week, list[str]]]:
        """Say of each week that is in the database what keeps it there, the oldest first."""
        now, weeks = await old_weeks.weeks(self._store)
        for name in weeks:
            week = await old_weeks.stands(self._store, name)
            yield week, week.kept_by(now=now, after=self._after)

    async def archive(self, only: str | None = None) -> list[Manifest]:
        """Archive every week that nothing keeps, or only one; returns what was archived.

        Raises KeptError behind the last one when a week could not go: it keeps no other.
        """
        for name in await self._archive.weeks():
            await self._forget(*ids_of(name))
        ready = [week async for week, kept in self.plan() if not kept and only in {None, week.name}]
        moved: list[Manifest] = []
        refused: KeptError | None = None
        for week in ready:
            try:
                moved.append(await self._move(week))
            except KeptError as exc:
                _log.error("week_kept", week=week.name, reason=str(exc))
                refused = exc
        if refused is not None:
            raise refused
        return moved

    async def drop_content(self) -> None:
        """Drop what was said in weeks that are over for the time of its class, unless something is still due there."""
        now, weeks = await old_weeks.weeks(self._store)
        for name in weeks:
            over = [retention for retention, kept in self._content.items() if now - ended_at(name) >= kept]
            week = await old_weeks.stands(self._store, name) if over else None
            if week is None or week.due:
                continue
            for retention in set(over) & set(week.contents):
                await old_weeks.drop_content(self._store, retention, name)
                _log.info("content_dropped", week=name, retention=retention)

    async def _move(self, week: Week) -> Manifest:
        manifest = await self._copy(week)
        await self._read_back(manifest)
        await self._drop(manifest)
        await self._forget(*ids_of(week.name))
        self._metrics.archived_weeks.inc()
        _log.info("week_archived", week=week.name, facts=manifest.facts, manifest=manifest.name)
        return manifest

    async def _copy(self, week: Week) -> Manifest:
        """Write the parts, and what describes them last."""
        parts: list[Part] = []
        positions: list[int] = []
        begun = time.monotonic()
        async for facts in old_weeks.facts_of(self._store, week, at_once=self._facts_of_part):
            part, body = await asyncio.to_thread(packed, week.name, facts)
            await self._archive.shelf.put(part.name, body)
            parts.append(part)
            positions.append(min(fact.position for fact in facts))
            await asyncio.sleep(_REST * (time.monotonic() - begun))
            begun = time.monotonic()
        manifest = Manifest(
            week=week.name,
            release=self._release,
            facts=sum(part.facts for part in parts),
            first_position=min(positions, default=0),
            last_position=week.newest,
            chain=week.chain.hex(),
            parts=tuple(parts),
        )
        await self._archive.shelf.put(manifest.name, manifest.encoded)
        return manifest

    async def _read_back(self, manifest: Manifest) -> None:
        """Compare what the archive gives back, fact by fact, with what was sealed."""
        if await self._archive.manifest(manifest.name) != manifest:
            raise ArchiveUnavailableError("the archive returns another manifest than was written")
        async with self._store.connection() as connection:
            links = await chain.links(connection, manifest.week)
        comparison = chain.Comparison([link for link in links if link.last <= manifest.last_position])
        for part in manifest.parts:
            comparison.add(await self._archive.digests(part))
        if not comparison.is_equal:
            raise KeptError("the facts of a week are not those that were sealed: run `notification-ledger verify`")

    async def _drop(self, manifest: Manifest) -> None:
        """Drop it as soon as nobody reads it: the database waits for that only a moment at a time."""
        for _ in range(_TRIES):
            try:
                return await old_weeks.drop_week(self._store, manifest, lend=self._lend)
            except UnavailableError:
                await asyncio.sleep(_PAUSE)
        raise UnavailableError("the tables of an old week are in use: it is dropped another time")
