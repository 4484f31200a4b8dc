"""What was said is said once more: by a new notification that is linked to the first one, once for each command."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from handlers.by_hand import NoSuchNotificationError
from handlers.dry_run import DryRun, Tried
from ledger import notification
from ledger.archive import Archive
from ledger.decision import Decision, Guard, NewFact
from ledger.errors import LedgerError
from ledger.ids import notification_id
from ledger.ledger import Ledger, Loaded
from ledger.notification import Origin, Requested, SentAgain, WhyNot
from ledger.values import Lane, Personal

# Who asks for the same twice within this time, without a command of its own for each, has clicked twice.
AT_ONCE = timedelta(minutes=1)

_SENTENCES: Mapping[WhyNot, str] = {
    WhyNot.STILL_TO_COME: "the first one is still on its way; call that off before, or wait for it",
    WhyNot.HELD: "the first one may have been sent, and is held for somebody to decide; release it",
    WhyNot.OUTLIVED: "what a security message says is good for its own time, and that is over; the person has to ask"
    " for a new one where they asked for this",
    WhyNot.NO_WORDS: "there were no words for it when it was asked for; have its message published anew, under another"
    " id",
    WhyNot.ERASED: "its person was erased, and nobody can read what it said",
    WhyNot.ARCHIVED: "it lies in the archive by now; have its message published anew, under another id",
    WhyNot.UNREADABLE: "it cannot be read here: a data key is missing, or a newer release wrote of it; tell operations",
}


class NotAgainError(LedgerError):
    """The notification is not sent again; `why` says it for programs, the text for people."""

    def __init__(self, why: WhyNot) -> None:
        super().__init__(f"it is not sent again: {_SENTENCES[why]}")
        self.why = why


class OtherReasonError(LedgerError):
    """The same command came before, with another reason."""


class Resent(msgspec.Struct, frozen=True):
    """The notification by which it is sent again; `is_new` = not before this."""

    notification: UUID
    is_new: bool


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants it, and why. A `cause` of the same name makes no second one; None = a new one, if it is no double
    click. Where `only_once`, whatever has been sent again before stays as it is.
    """

    by: str
    reason: str
    cause: str | None
    lane: Lane | None = None
    only_once: bool = False


async def resend(
    ledger: Ledger, archive: Archive, stream: UUID, *, by: str, reason: str, command: str | None = None
) -> Resent:
    """Send a notification again: the same words to the same person by the same channel, judged by the rules of now.

    The same `command` of the same caller is carried out once; without one, whoever asks twice within a minute gets the
    first answer again. Raises NoSuchNotificationError, NotAgainError, OtherReasonError.
    """
    cause = None
    if command is not None:
        cause = f"command:{ledger.identity.intake_key('resend', by, command, str(stream)).hex()}"
    return await _resend(ledger, archive, stream, _Order(by=by, reason=reason, cause=cause))


async def resend_of_bulk(
    ledger: Ledger, archive: Archive, stream: UUID, *, by: str, reason: str, cause: str
) -> Resent | None:
    """Send it again as one of many; None where it has been sent again before, by whatever command: then it stays so.

    It goes behind what somebody waits for: never in the urgent lane. Raises as `resend`.
    """
    order = _Order(by=by, reason=reason, cause=cause, lane=Lane.HIGH, only_once=True)
    try:
        return await _resend(ledger, archive, stream, order)
    except _SentAgainBeforeError:
        return None


async def would_resend(ledger: Ledger, archive: Archive, dry_run: DryRun, stream: UUID) -> Tried:
    """Say what would be sent again, to whom, and what the rules say of it now. Raises as `resend`."""
    loaded = await ledger.load(stream)
    if loaded is None:
        raise await _missing(archive, stream)
    asked = again(loaded, Origin(now=loaded.now(), cause="dry_run", by="dry_run"))
    (tried,) = await dry_run.of([asked])
    return tried


def again(loaded: Loaded, origin: Origin, *, lane: Lane | None = None) -> Requested:
    """Return what would be asked for. Raises NotAgainError."""
    why = why_not(loaded, origin.now)
    if why is not None:
        raise NotAgainError(why)
    # The urgent lane alone is left: another one is no faster than the first was.
    slower = lane if lane is not None and loaded.state.requested.lane is Lane.URGENT else None
    return notification.request_again(loaded.state.requested, loaded.stream, loaded.personal, origin, lane=slower)


def why_not(loaded: Loaded, now: datetime) -> WhyNot | None:
    """Say why a notification cannot be sent again now; None where it can be."""
    if loaded.is_erased:
        return WhyNot.ERASED
    if not isinstance(loaded.state.requested.personal, Personal):
        return WhyNot.UNREADABLE
    return notification.why_not_again(loaded.state, now)


class _SentAgainBeforeError(LedgerError):
    """Another command has sent it again."""


async def _resend(ledger: Ledger, archive: Archive, stream: UUID, order: _Order) -> Resent:
    """Both notifications change in one decision, so that there is one resend or none. It is guarded by the person's
    stream: what was said before an erasure is not said again under a new key.
    """
    told: SentAgain | None = None
    is_new = False

    def decide(loaded: Loaded, now: datetime) -> Decision | None:
        nonlocal told, is_new
        told, is_new = _before(loaded, order, now), False
        if told is not None:
            return None
        origin = Origin(now=now, cause=order.cause or f"command:{uuid4()}", by=order.by)
        asked = again(loaded, origin, lane=order.lane)
        told, is_new = SentAgain(**origin.stamp(), to=notification_id(now), reason=order.reason), True
        return Decision(
            facts=(*loaded.next((told,)), NewFact(told.to, 1, asked)),
            guards=(Guard(loaded.recipient.stream, loaded.recipient.version),),
        )

    await ledger.change(stream, decide)
    if told is None:
        raise await _missing(archive, stream)
    return Resent(told.to, is_new)


def _before(loaded: Loaded, order: _Order, now: datetime) -> SentAgain | None:
    """Return the fact by which this very order was carried out before."""
    for fact in loaded.state.resends:
        if fact.cause == order.cause:
            if fact.reason != order.reason:
                raise OtherReasonError("the same command came before, with another reason")
            return fact
    last = loaded.state.resends[-1] if loaded.state.resends else None
    if last is not None and order.only_once:
        raise _SentAgainBeforeError("it has been sent again before")
    is_double = last is not None and order.cause is None and last.by == order.by
    return last if is_double and last is not None and now - last.recorded_at < AT_ONCE else None


async def _missing(archive: Archive, stream: UUID) -> LedgerError:
    if await archive.facts(stream):
        return NotAgainError(WhyNot.ARCHIVED)
    return NoSuchNotificationError("there is no such notification")
