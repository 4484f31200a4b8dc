"""`rebuild agenda`: the rows that say what is due, made what the facts say."""

from collections import Counter
from collections.abc import Callable

import msgspec

from ledger import agenda_audit
from ledger.store import Store

_TOLD_EVERY = 100_000


class Rebuilt(msgspec.Struct, frozen=True):
    """How many notifications were looked at, and how many rows were not right; what is `unreadable` was left alone."""

    notifications: int
    missing: int
    wrong: int
    needless: int
    unreadable: int

    @property
    def is_whole(self) -> bool:
        """Whether every notification could be judged."""
        return not self.unreadable

    @property
    def line(self) -> str:
        """Say it for a terminal."""
        counts = msgspec.structs.asdict(self)
        looked_at = counts.pop("notifications")
        found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"agenda: {found or 'nothing to do'} ({looked_at} notifications)"


async def rebuild_agenda(store: Store, *, dry_run: bool, told: Callable[[str], None]) -> Rebuilt:
    """Compare each notification's row with its facts and set it right, while others go on. Leases are kept."""
    found: Counter[str] = Counter()
    looked_at = 0

    def seen(count: int) -> None:
        nonlocal looked_at
        before, looked_at = looked_at, looked_at + count
        if before // _TOLD_EVERY < looked_at // _TOLD_EVERY:
            told(f"agenda: {looked_at} notifications …")

    async for differing in agenda_audit.differing(store, seen=seen):
        found.update(one.what for one in differing)
        if not dry_run:
            await agenda_audit.set_right(store, differing)
    return Rebuilt(looked_at, found["missing"], found["wrong"], found["needless"], found["unreadable"])
