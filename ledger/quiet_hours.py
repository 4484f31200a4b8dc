"""When the hours end in which a person wants to be left alone, by the clock of where they are."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.preferences import QuietHours

# The clock of those of whom nobody has said where they are.
ELSEWHERE = "UTC"


def end(hours: QuietHours, zone: str, now: datetime) -> datetime | None:
    """Return when quiet hours that it is in end, in UTC; None where it is not in them.

    Hours that end as they start are none. Where the clock shows the end twice that day, the second one counts; where
    it leaves the end out, the same time as if it had not been set forward: nobody is woken early.
    """
    there = _zone(zone)
    local = now.astimezone(there)
    over_midnight, begun = hours.end < hours.start, hours.start <= local.time()
    if hours.start == hours.end or not (begun or over_midnight):
        return None
    day = local.date() + timedelta(days=1) if over_midnight and begun else local.date()
    wall = datetime.combine(day, hours.end, tzinfo=there)
    until = max(wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return until if now < until else None


def _zone(name: str) -> ZoneInfo:
    """Return a zone by its name; one that this machine does not know is taken for none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(ELSEWHERE)
