"""`archive`: what a person at a terminal moves, and what is said of it."""

import msgspec

from handlers.archive import Archiving
from ops.errors import OperationError
from ops.jobs import archiving_of
from ops.wiring import Parts


class Told(msgspec.Struct, frozen=True):
    """A week, its facts, and what keeps it in the database; without a reason it is archived, or ready to be."""

    week: str
    facts: int
    kept_by: list[str]
    manifest: str | None = None

    @property
    def line(self) -> str:
        """Say it for a terminal."""
        state = f"archived as {self.manifest}" if self.manifest else "; ".join(self.kept_by) or "ready"
        return f"{self.week}  {self.facts} facts  {state}"


async def plan(given: Parts) -> list[Told]:
    """Say of each week that is in the database what keeps it there."""
    return [Told(week.name, week.facts, kept) async for week, kept in _archiving(given).plan()]


async def move(given: Parts, week: str | None) -> list[Told]:
    """Archive what may be archived now. Raises OperationError when another process is at it."""
    async with given.ledger.store.leased("maintain.archive") as ours:
        if not ours:
            raise OperationError("another process archives just now")
        moved = await _archiving(given).archive(week)
    return [Told(manifest.week, manifest.facts, [], manifest.name) for manifest in moved]


def _archiving(given: Parts) -> Archiving:
    return archiving_of(given.settings, given.ledger.store, given.archive, given.metrics)
