"""`verify`: is what is stored what once was stored, and does what is derived from it follow from it."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import msgspec

from ledger import agenda_audit, chain, refolding
from ledger.archive import Archive
from ledger.errors import ArchiveUnavailableError
from ledger.follower import View, prepare
from ledger.ids import week_of
from ledger.store import Store
from projections import notification_log_audit
from projections.notification_log import NotificationLog
from projections.views import all_views

# More faults of one kind tell nothing more.
_MOST = 100
_TOLD_EVERY = 100_000

Told = Callable[[str], None]
Faults = AsyncIterator[dict[str, Any]]


class Checked(msgspec.Struct):
    """What one check has looked at (facts, or notifications) and found; it goes on behind the last of the `faults`
    that are shown, and counts them all in `found`. `heads` is what each week's chain has come to, in hex.
    """

    name: str
    of: str
    looked_at: int = 0
    found: int = 0
    faults: list[dict[str, Any]] = []
    heads: dict[str, str] = {}
    unsealed: int = 0

    @property
    def is_right(self) -> bool:
        """Whether nothing differs."""
        return not self.found

    def lines(self) -> list[str]:
        """Say it for a terminal."""
        unsealed = f", {self.unsealed} not sealed yet" if self.unsealed else ""
        verdict = f"{self.found} {'fault' if self.found == 1 else 'faults'}" if self.found else "ok"
        shown = [" ".join(f"{name}={value}" for name, value in fault.items()) for fault in self.faults]
        return [f"{self.name}: {verdict} ({self.looked_at} {self.of}{unsealed})", *(f"  {line}" for line in shown)]


async def verify(store: Store, archive: Archive, *, told: Told, only: str | None = None) -> list[Checked]:
    """Run every check, or that of one name, one after the other; `told` hears of the progress."""
    checks: list[tuple[Checked, Callable[[Checked], Faults]]] = [
        (Checked("chain", "facts"), lambda checked: _chain(store, archive, checked, told)),
        (Checked("agenda", "notifications"), lambda checked: _agenda(store, checked, told)),
        *((_checked(view), partial(_view, store, archive, view, told=told)) for view in all_views()),
        (Checked("archive", "facts"), lambda checked: _archive(store, archive, checked, told)),
    ]
    wanted = [(checked, look) for checked, look in checks if only in {None, checked.name}]
    for checked, look in wanted:
        await _check(checked, look(checked), told)
    return [checked for checked, _ in wanted]


def _checked(view: View) -> Checked:
    return Checked(view.name, "notifications" if view.name == NotificationLog.name else "facts")


def _view(store: Store, archive: Archive, view: View, checked: Checked, *, told: Told) -> Faults:
    if view.name == NotificationLog.name:
        return _notification_log(store, archive, checked, told)
    return _refolded(store, view, checked, told)


async def _refolded(store: Store, view: View, checked: Checked, told: Told) -> Faults:
    for one in await refolding.differing(store, view, seen=_counting(checked, told)):
        yield msgspec.structs.asdict(one)


async def _check(checked: Checked, faults: Faults, told: Told) -> None:
    async for fault in faults:
        checked.found += 1
        if len(checked.faults) < _MOST:
            checked.faults.append({name: value for name, value in fault.items() if value not in (None, ())})
    told(f"{checked.name}: {checked.looked_at} {checked.of}")


def _counting(checked: Checked, told: Told) -> Callable[[int], None]:
    def seen(count: int) -> None:
        before, checked.looked_at = checked.looked_at, checked.looked_at + count
        if before // _TOLD_EVERY < checked.looked_at // _TOLD_EVERY:
            told(f"{checked.name}: {checked.looked_at} {checked.of} …")

    return seen


async def _chain(store: Store, archive: Archive, checked: Checked, told: Told) -> Faults:
    async with store.connection() as connection:
        end = await chain.end(connection)
        checked.unsealed = end.unsealed
        for week, is_here in (await chain.weeks(connection)).items():
            links = await chain.links(connection, week)
            if links:
                checked.heads[week] = links[-1].hash.hex()
            if not is_here:
                if week not in await archive.weeks():
                    yield {"week": week, "what": "missing", "position": links[-1].last}
                continue
            found = chain.faults(connection, week, upto=end.position, seen=_counting(checked, told))
            async for fault in found:
                # A week may have gone to the archive since the weeks were listed.
                if week not in await archive.weeks():
                    yield msgspec.structs.asdict(fault)


async def _agenda(store: Store, checked: Checked, told: Told) -> Faults:
    async for found in agenda_audit.differing(store, seen=_counting(checked, told)):
        for one in found:
            yield {"notification": one.notification, "what": one.what}


async def _notification_log(store: Store, archive: Archive, checked: Checked, told: Told) -> Faults:
    async with refolding.undisturbed(store) as connection:
        await prepare(connection, NotificationLog())
        async for found in notification_log_audit.differing(store, seen=_counting(checked, told)):
            # A week that has just been archived leaves the lists a moment later.
            archived = await archive.weeks() if any(one.what == "needless" for one in found) else {}
            for one in found:
                if one.what != "needless" or week_of(one.notification) not in archived:
                    yield {"notification": one.notification, "what": one.what, "columns": one.columns}


async def _archive(store: Store, archive: Archive, checked: Checked, told: Told) -> Faults:
    seen = _counting(checked, told)
    for week, name in (await archive.weeks()).items():
        async with store.connection() as connection:
            comparison = chain.Comparison(await chain.links(connection, week))
        try:
            manifest = await archive.manifest(name)
        except ArchiveUnavailableError as exc:
            yield {"week": week, "name": name, "what": str(exc)}
            continue
        is_read = True
        for part in manifest.parts:
            try:
                digests = await archive.digests(part)
            except ArchiveUnavailableError as exc:
                is_read = False
                yield {"week": week, "name": part.name, "what": str(exc)}
                continue
            comparison.add(digests)
            seen(len(digests))
        if is_read and not comparison.is_equal:
            yield {"week": week, "name": name, "what": "not of the facts that were sealed"}
