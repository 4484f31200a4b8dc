"""Ids that sort by time: notifications of one week lie together, in one partition."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM = (1 << 76) - 1 & ~(0xF << 76) & ~(0x3 << 62)


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
