"""Ids that sort by time: notifications of one week lie together, in one partition."""

import os
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_WEEK = timedelta(days=7)
STANDING = "standing"
NEVER = "never"
_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM = (1 << 76) - 1 & ~(0xF << 76) & ~(0x3 << 62)


def _border(moment: datetime) -> UUID:
    return UUID(int=((moment - _EPOCH) // _MILLISECOND) << 80)


_LAST = _border(datetime.max.replace(tzinfo=UTC))


def notification_id(now: datetime) -> UUID:
    """Make a UUIDv7 (RFC 9562, 5.7) of the database's time: 48 bits of milliseconds, 74 random bits."""
    milliseconds = (now - _EPOCH) // _MILLISECOND
    return UUID(int=(milliseconds << 80) | _VERSION_7 | _VARIANT | (int.from_bytes(os.urandom(10)) & _RANDOM))


def made_at(notification: UUID) -> datetime:
    """Return when a notification was taken in, to the millisecond, as its id says."""
    return _EPOCH + (notification.int >> 80) * _MILLISECOND


def is_standing(stream: UUID) -> bool:
    """Whether a stream stands for a thing (a recipient, a suppression) and not for one notification."""
    return stream.bytes[0] >> 4 == 0xF


def week_of(stream: UUID) -> str:
    """Name the week that a stream lies in, as its partition is named: `2026w30`, or `standing`.

    An id that somebody has made up may lie behind the last year that there is: its week is `never`.
    """
    if is_standing(stream):
        return STANDING
    return f"{made_at(stream):%Gw%V}" if stream < _LAST else NEVER


def begins_at(week: str) -> datetime:
    """Return the Monday that a week begins with."""
    year, number = week.split("w")
    return datetime.combine(date.fromisocalendar(int(year), int(number), 1), time(), UTC)


def ids_of(week: str) -> tuple[UUID, UUID]:
    """Return the smallest and the largest id of a week's streams."""
    if week == STANDING:
        return UUID(int=0xF << 124), UUID(int=(1 << 128) - 1)
    monday = begins_at(week)
    return _border(monday), UUID(int=_border(monday + _WEEK).int - 1)
