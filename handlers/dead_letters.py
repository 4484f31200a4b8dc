"""What was refused, decided on: taken in again, the same bytes as if they had just come, or let be."""

from handlers.intake import Result, TakeIn, TakenIn
from ledger.errors import LedgerError
from ledger.set_aside import SetAside


class NoSuchLetterError(LedgerError):
    """There is no dead letter with this key; it may have been deleted after 30 days."""


class AlreadyDecidedError(LedgerError):
    """Somebody has decided the other way before; the message says how. Nothing was done."""


class DeadLetters:
    """What a person may do with a refused message beside looking at it."""

    def __init__(self, set_aside: SetAside, take_in: TakeIn) -> None:
        self._set_aside = set_aside
        self._take_in = take_in

    async def replay(self, key: bytes, *, by: str, reason: str) -> Result:
        """Take a refused message in again; where it is taken in, it waits no longer.

        Twice is the same as once (promise I16): the intake knows the message by then. Raises NoSuchLetterError, and
        AlreadyDecidedError for one that was discarded.
        """
        await self._must_not_be("discarded", key)
        body = await self._set_aside.body_of(key)
        if body is None:
            raise NoSuchLetterError("there is no such dead letter")
        (result,) = await self._take_in.messages([body], by=f"replay:{by}")
        if isinstance(result, TakenIn):
            await self._set_aside.decide(key, state="replayed", by=by, reason=reason)
        return result

    async def discard(self, key: bytes, *, by: str, reason: str) -> None:
        """Let a refused message be; twice is the same as once. Raises NoSuchLetterError, AlreadyDecidedError."""
        if not await self._set_aside.decide(key, state="discarded", by=by, reason=reason):
            await self._must_not_be("replayed", key)

    async def _must_not_be(self, state: str, key: bytes) -> None:
        letter = await self._set_aside.shown(key)
        if letter is None:
            raise NoSuchLetterError("there is no such dead letter")
        if letter.state == state:
            raise AlreadyDecidedError(f"the dead letter was {state} before")
