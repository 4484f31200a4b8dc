"""What is paused, as the delivery of one channel sees it: what had to wait for a pause goes on when that ends."""

import time
from datetime import timedelta
from uuid import UUID

from ledger import agenda
from ledger.ledger import Ledger, Loaded
from ledger.notification import waits_at_most_until
from ledger.operations import Operations
from ledger.values import Channel

# A row that waits for the end of a pause is looked at again after this at the latest, whatever went wrong in between.
_AT_MOST = timedelta(hours=1)
_AT_ONCE = 1_000
# Who has much to wake claims in between.
_AT_A_STRETCH = 0.25
_FIRST = UUID(int=0)


class Stopped:
    """Watches the pauses of one channel.

    It wakes by what it reads in the log, not by being told: whoever ends a pause may die right behind the commit. At
    its start it wakes everything, for nobody knows what ended while nobody delivered.
    """

    def __init__(self, ledger: Ledger, channel: Channel) -> None:
        self._ledger = ledger
        self._channel = channel
        self._version = -1
        self._wake_after: UUID | None = None

    async def look(self) -> Operations:
        """Return what is paused, as of now while anything is; what waits is woken when that has changed.

        Raises UnavailableError.
        """
        if self._ledger.operations.pauses:
            await self._ledger.look_at_operations()
        current = self._ledger.operations
        if current.version != self._version:
            self._version = current.version
            self._wake_after = _FIRST
        if self._wake_after is not None:
            await self._wake()
        return current

    def patience(self, loaded: Loaded) -> timedelta:
        """How long an item may wait for the end of a pause: what expires or falls back meanwhile must do so."""
        return max(timedelta(0), min(_AT_MOST, waits_at_most_until(loaded.state) - loaded.now()))

    def has_waited(self, loaded: Loaded) -> None:
        """Take note that an item was made to wait by what it knew: if that is old by now, it was woken before."""
        if loaded.operations.version != self._ledger.operations.version:
            self._wake_after = _FIRST

    async def _wake(self) -> None:
        until = time.monotonic() + _AT_A_STRETCH
        while self._wake_after is not None and time.monotonic() < until:
            async with self._ledger.store.connection() as connection:
                self._wake_after = await agenda.wake(connection, self._channel, after=self._wake_after, limit=_AT_ONCE)
