"""What a person decides of one notification: to send again what is held, or to call off what is still to come."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from ledger import notification
from ledger.decision import Decision
from ledger.errors import LedgerError
from ledger.ledger import Ledger, Loaded
from ledger.notification import Facts, Origin, State
from ledger.status import Status


class NoSuchNotificationError(LedgerError):
    """There is no notification with this id."""


class NotHeldError(LedgerError):
    """The notification waits for nobody's decision: its doubt may still be settled, was settled, or it has ended."""


class TooLateError(LedgerError):
    """Nothing of the notification is still to come that could be called off."""


class Called(msgspec.Struct, frozen=True):
    """A notification that is called off, as it stands after that; `is_new` = not before this."""

    after: Loaded
    is_new: bool


async def release(ledger: Ledger, stream: UUID, *, by: str, reason: str, cause: str | None = None) -> Loaded:
    """Let a held notification be sent again. `cause` names the command, None = one of its own.

    Raises NoSuchNotificationError, NotHeldError.
    """
    after, released = await _decide(
        ledger, stream, by=by, cause=cause, what=lambda state, at: notification.release(state, reason, at)
    )
    if not released:
        raise NotHeldError("the notification is not held: there is nothing to release")
    return after


async def cancel(ledger: Ledger, stream: UUID, *, by: str, reason: str, cause: str | None = None) -> Called:
    """Call off what is still to come of a notification; `cause` as of `release`.

    Raises NoSuchNotificationError, TooLateError.

    No attempt of it has a position in the log after this one (promise I7).
    """
    after, is_new = await _decide(
        ledger, stream, by=by, cause=cause, what=lambda state, at: notification.cancel(state, reason, at)
    )
    if not is_new and after.state.ended is not Status.CANCELLED:
        raise TooLateError(too_late(after.state))
    return Called(after, is_new)


def too_late(state: State) -> str:
    """Say why there is nothing to call off."""
    told = f"the notification is {state.status} already: nothing of it is still to come"
    return told if state.fell_back_to is None else f"{told}; its person is told by notification {state.fell_back_to}"


async def _decide(
    ledger: Ledger, stream: UUID, *, by: str, cause: str | None, what: Callable[[State, Origin], Facts]
) -> tuple[Loaded, bool]:
    """Store what is decided by hand; returns how it stands then, and whether that was news."""
    cause = cause or f"command:{uuid4()}"
    is_new = False

    def decide(loaded: Loaded, now: datetime) -> Decision | None:
        nonlocal is_new
        facts = what(loaded.state, Origin(now=now, cause=cause, by=by))
        is_new = bool(facts)
        return Decision(facts=loaded.next(facts)) if facts else None

    after = await ledger.change(stream, decide)
    if after is None:
        raise NoSuchNotificationError("there is no such notification")
    return after, is_new
