"""The suppression list as people change it: by hand and with a reason, or each for themselves, by a link or a word."""

import contextlib
from collections.abc import Callable, Collection
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from handlers.receive import listed
from ledger import notification
from ledger.decision import Decision, Intake
from ledger.errors import KeyUnavailableError, LedgerError, Refusal, RefusedError, UnknownTopicError
from ledger.ledger import Ledger, Loaded
from ledger.notification import Origin
from ledger.suppression import (
    EntryName,
    Grounds,
    Reason,
    Suppression,
    SuppressionFact,
    delist,
    list_address,
    nothing,
    start,
    stop,
)
from ledger.unsubscribing import Unsubscribing
from ledger.values import Channel, Reply, Report, ReportKind, Word

# Whoever the address belongs to.
_PERSON = "person"
Decide = Callable[[Suppression, Origin], Collection[SuppressionFact]]


class NoSuchSuppressionError(LedgerError):
    """Nothing was ever listed under this id."""


class Changed(msgspec.Struct, frozen=True):
    """An address as it is known now; `is_new` unless that was known before."""

    known: Suppression
    is_new: bool


async def list_by_hand(ledger: Ledger, channel: Channel, address: str, grounds: Grounds, *, by: str) -> Changed:
    """List an address; what is listed so already stays as it is.

    When this returns, the fact is on disk, and no attempt that it forbids begins after it (promise I7).
    """
    empty = nothing(ledger.identity, channel, ledger.identity.address_hash(address))
    cause = f"command:{uuid4()}"
    return await _change(ledger, empty, lambda known, at: list_address(known, grounds, at), cause=cause, by=by)


async def unsubscribe(ledger: Ledger, said: Unsubscribing) -> bool:
    """Do what a link says; False where it was done before. It holds when this returns, as what is listed by hand.

    The notification tells of it, too, where it is still in the database; where it is not, the link has said enough.
    """
    report = Report(
        provider=_PERSON, reference="", kind=ReportKind.UNSUBSCRIBED, key=f"link:{said.attempt}", attempt=said.attempt
    )
    cause, is_new = f"unsubscribe:{said.notification}", False

    def decide(loaded: Loaded, now: datetime) -> Decision | None:
        nonlocal is_new
        tried = loaded.state.attempt(said.attempt)
        if tried is None or tried.address_hash != said.address_hash:
            return None
        origin = Origin(now=now, cause=cause, by=_PERSON)
        # Without the provider's own name for it, the attempt is still for the provider to tell of.
        told = notification.report(loaded.state, said.attempt, report, origin) if tried.reference else ()
        news = listed(loaded, said.attempt, Reason.UNSUBSCRIBE, origin, category=said.category)
        is_new = bool(news)
        return Decision(facts=(*loaded.next(told), *news)) if told or news else None

    after = None
    with contextlib.suppress(UnknownTopicError, KeyUnavailableError):
        after = await ledger.change(said.notification, decide)
    tried = after.state.attempt(said.attempt) if after is not None else None
    if tried is not None and tried.address_hash == said.address_hash:
        return is_new
    grounds = Grounds(
        reason=Reason.UNSUBSCRIBE, category=said.category, notification=said.notification, attempt=said.attempt
    )
    empty = nothing(ledger.identity, said.channel, said.address_hash)
    changed = await _change(ledger, empty, lambda known, at: list_address(known, grounds, at), cause=cause, by=_PERSON)
    return changed.is_new


async def take_reply(ledger: Ledger, reply: Reply) -> str:
    """Do what a person has answered; returns what came of it: recorded, known, or ignored.

    Each answer counts once, however often and late it is posted: a START that comes again must not undo the STOP after
    it. It holds when this returns, as what is listed by hand.
    """
    if reply.word is Word.OTHER:
        return "ignored"
    say = stop if reply.word is Word.STOP else start
    empty = nothing(ledger.identity, Channel.SMS, ledger.identity.address_hash(reply.address))
    key = ledger.identity.intake_key("reply", reply.provider, reply.key)
    result = "known"

    def decide(known: Suppression, now: datetime) -> Decision:
        nonlocal result
        facts = say(known, Origin(now=now, cause=f"reply:{reply.key}", by=_PERSON))
        result = "recorded" if facts else "known"
        return Decision(facts=known.next(facts), intake=Intake(key, key))

    try:
        await ledger.change_suppression(empty, decide)
    except RefusedError as exc:
        if exc.reason is not Refusal.TAKEN_IN:
            raise
        return "known"
    return result


async def release(
    ledger: Ledger, stream: UUID, names: Collection[EntryName] | None, *, by: str, note: str
) -> Suppression:
    """Let entries hold no longer, None = all; twice is the same as once. Raises NoSuchSuppressionError."""
    found = await ledger.suppression(stream)
    if found is None:
        raise NoSuchSuppressionError("there is no such suppression")
    empty = nothing(ledger.identity, found.channel, found.address_hash)

    def decide(known: Suppression, origin: Origin) -> Collection[SuppressionFact]:
        return delist(known, known.entries if names is None else names, origin, note=note)

    return (await _change(ledger, empty, decide, cause=f"command:{uuid4()}", by=by)).known


async def _change(ledger: Ledger, empty: Suppression, decide: Decide, *, cause: str, by: str) -> Changed:
    is_new = False

    def decided(known: Suppression, now: datetime) -> Decision | None:
        nonlocal is_new
        facts = tuple(decide(known, Origin(now=now, cause=cause, by=by)))
        is_new = bool(facts)
        return Decision(facts=known.next(facts)) if facts else None

    after = await ledger.change_suppression(empty, decided)
    return Changed(after, is_new)
