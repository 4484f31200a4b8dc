"""`rebuild`: the agenda is made what the facts say row by row, a view beside the one that serves."""

import gc
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from ledger import agenda_audit, rebuilding
from ledger.follower import View
from ledger.rebuilding import Progress
from ledger.store import Store

_TOLD_EVERY = 100_000
_SECONDS_BETWEEN = 2.0


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


class RebuiltView(msgspec.Struct, frozen=True):
    """Of how many facts a view was made anew, in how many seconds; `parked` are the streams that it leaves out."""

    view: str
    facts: int
    seconds: float
    parked: int

    @property
    def is_whole(self) -> bool:
        """Whether every stream could be folded."""
        return not self.parked

    @property
    def line(self) -> str:
        """Say it for a terminal."""
        parked = f"; {self.parked} streams could not be folded, and are parked" if self.parked else ""
        speed = round(self.facts / self.seconds)
        return f"{self.view}: made anew of {self.facts} facts in {self.seconds:.0f} s ({speed} facts/s){parked}"


async def rebuild_view(url: str, view: View, *, told: Callable[[str], None]) -> RebuiltView:
    """Make a view anew while it is read and kept; `told` hears how far it is, and when it will be there.

    Raises as `ledger.rebuilding.rebuild`.
    """
    # What is folded is freed by reference counts, and there is much of it (measured: a quarter of the CPU).
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    begun = said_at = time.monotonic()

    def taken(progress: Progress) -> None:
        nonlocal said_at
        if (now := time.monotonic()) - said_at >= _SECONDS_BETWEEN:
            said_at = now
            told(f"{view.name}: {_said(progress, now - begun)}")

    def waits() -> None:
        told(f"{view.name}: all facts are taken in; somebody reads the view for long, which is waited for …")

    rebuilt = await rebuilding.rebuild(url, view, told=taken, waits=waits)
    return RebuiltView(view.name, rebuilt.facts, time.monotonic() - begun, rebuilt.parked)


def _said(progress: Progress, seconds: float) -> str:
    speed = progress.done / seconds
    left = (progress.of - progress.done) / max(speed, 1)
    return f"{progress.done} of {progress.of} facts, {speed:.0f} facts/s, {left:.0f} s to go …"
