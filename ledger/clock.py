"""The database's time between two questions: a pod's own clock decides nothing (promise I24)."""

import time
from datetime import UTC, datetime, timedelta

TOLERATED = timedelta(seconds=30)


class Clock:
    """The database's time as last read, plus what the monotonic clock has counted since."""

    def __init__(self) -> None:
        self._read_at: datetime | None = None
        self._counted_from = 0.0

    def set(self, now: datetime) -> None:
        """Take over the time that a statement has just returned."""
        self._read_at = now
        self._counted_from = time.monotonic()

    def now(self) -> datetime:
        """Return the database's time. It must have been read once."""
        if self._read_at is None:
            raise RuntimeError("the database's time has not been read yet")
        return self._read_at + timedelta(seconds=time.monotonic() - self._counted_from)

    @property
    def skew(self) -> timedelta:
        """How far this pod's own clock is off, either way."""
        return abs(datetime.now(UTC) - self.now())

    @property
    def skewed(self) -> bool:
        """Whether this pod's own clock is so far off that it must claim nothing until somebody has mended it."""
        return self.skew > TOLERATED
