"""Held notifications: a doubt that the catalogue leaves to a person, and the person's decision to send again."""

from datetime import datetime
from uuid import UUID, uuid4

from ledger import notification
from ledger.decision import Decision
from ledger.errors import LedgerError
from ledger.ledger import Ledger, Loaded
from ledger.notification import Origin


class NoSuchNotificationError(LedgerError):
    """There is no notification with this id."""


class NotHeldError(LedgerError):
    """The notification waits for nobody's decision: its doubt may still be settled, was settled, or it has ended."""


async def release(ledger: Ledger, stream: UUID, *, by: str, reason: str) -> Loaded:
    """Let a held notification be sent again. Raises NoSuchNotificationError, NotHeldError."""
    cause = f"command:{uuid4()}"
    released = False

    def decide(loaded: Loaded, now: datetime) -> Decision | None:
        nonlocal released
        facts = notification.release(loaded.state, reason, Origin(now=now, cause=cause, by=by))
        released = bool(facts)
        return Decision(facts=loaded.next(facts)) if facts else None

    after = await ledger.change(stream, decide)
    if after is None:
        raise NoSuchNotificationError("there is no such notification")
    if not released:
        raise NotHeldError("the notification is not held: there is nothing to release")
    return after
