"""The stop button: pauses that somebody begins, lists and ends."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from ledger import operations
from ledger.errors import LedgerError
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.operations import Operations, Paused, Selector, selector_of


class NoSuchPauseError(LedgerError):
    """No such pause is in force, nor has one of this id ever been."""


class NothingSuchError(LedgerError):
    """A pause names what is not there; it would stop nothing. `names` are the fields at fault."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"nothing is known by this {' and this '.join(names)}: a pause of it would stop nothing")
        self.names = names


class Begun(msgspec.Struct, frozen=True):
    """A pause in force; `is_new` unless the same was paused already."""

    pause: Paused
    is_new: bool


class Pauses:
    """Begins and ends pauses. When a method returns, its fact is on disk, and no attempt that it stops begins after it.

    `types` and `providers` are all that there are: what is misspelt in haste must not look like a pause.
    """

    def __init__(self, ledger: Ledger, *, types: Collection[str], providers: Collection[str]) -> None:
        self._ledger = ledger
        self._known = {"type": types, "provider": providers}

    async def listed(self) -> tuple[Paused, ...]:
        """Return the pauses in force, the earliest first."""
        return (await self._ledger.look_at_operations()).pauses

    async def begin(self, selector: Selector, *, by: str, reason: str) -> Begun:
        """Stop what the selector names; what is stopped by the very same one already stays so.

        Raises NothingSuchError.
        """
        faults = [
            name for name, known in self._known.items() if (given := getattr(selector, name)) and given not in known
        ]
        if faults:
            raise NothingSuchError(faults)
        pause_id = uuid4()

        def decide(state: Operations, now: datetime) -> Sequence[Paused]:
            return operations.pause(state, pause_id, selector, reason, _origin(now, by))

        after = await self._ledger.change_operations(decide)
        for pause in after.pauses:
            if selector_of(pause) == selector:
                return Begun(pause, is_new=pause.pause == pause_id)
        raise NoSuchPauseError("the pause was ended by somebody else at once")

    async def end(self, pause_id: UUID, *, by: str, reason: str) -> None:
        """End a pause; twice is the same as once. Raises NoSuchPauseError for one that never was."""

        def decide(state: Operations, now: datetime) -> Sequence[operations.Resumed]:
            facts = operations.resume(state, pause_id, reason, _origin(now, by))
            if not facts and pause_id not in state.ended:
                raise NoSuchPauseError("there is no such pause")
            return facts

        await self._ledger.change_operations(decide)

    async def end_selected(self, selector: Selector, *, by: str, reason: str) -> Paused:
        """End the pause of exactly this selector. Raises NoSuchPauseError where none is in force."""
        for pause in await self.listed():
            if selector_of(pause) == selector:
                await self.end(pause.pause, by=by, reason=reason)
                return pause
        raise NoSuchPauseError("no pause of exactly this is in force")


def _origin(now: datetime, by: str) -> Origin:
    return Origin(now=now, cause=f"command:{uuid4()}", by=by)
