"""Status messages: what other services are told, made of facts alone and so always the same."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Final, Literal
from uuid import UUID, uuid5

import msgspec

from handlers.preference_messages import Moment, ToldPreference, told_preference
from handlers.template_messages import ToldTemplate, told_template
from ledger import notification as n
from ledger.errors import UnavailableError, UnknownTopicError
from ledger.mapping import FactMapper, Recorded, of_notification
from ledger.status import Status
from ledger.store import Row, Store
from ledger.values import Category, Channel

SOURCE: Final = "notification-ledger"
# Streams are read so many at a time: a first fact holds the sealed data of its message, up to half a megabyte.
_STREAMS = 100
_MAPPER = FactMapper()
Name = Literal["notification-ledger"]


class MessageType(StrEnum):
    """The types that are published."""

    SENT = "NotificationSent"
    FAILED = "NotificationFailed"
    SUPPRESSED = "NotificationSuppressed"
    UPDATE = "NotificationDeliveryUpdate"
    PREFERENCE = "CommunicationPreferenceUpdated"
    TEMPLATE = "NotificationTemplateUpdated"


class Event(StrEnum):
    """What has happened; the status says what it amounts to."""

    DISPATCHED = "dispatched"
    FELL_BACK = "fell_back"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


# What is told; the other facts are our own affair.
_TOLD: Mapping[type, tuple[MessageType, Event]] = {
    n.Dispatched: (MessageType.SENT, Event.DISPATCHED),
    n.Suppressed: (MessageType.SUPPRESSED, Event.SUPPRESSED),
    n.Failed: (MessageType.FAILED, Event.FAILED),
    n.Expired: (MessageType.FAILED, Event.EXPIRED),
    n.Cancelled: (MessageType.SUPPRESSED, Event.CANCELLED),
    n.FellBack: (MessageType.UPDATE, Event.FELL_BACK),
    n.AttemptInDoubt: (MessageType.UPDATE, Event.IN_DOUBT),
    n.Delayed: (MessageType.UPDATE, Event.DELAYED),
    n.Delivered: (MessageType.UPDATE, Event.DELIVERED),
    n.Bounced: (MessageType.UPDATE, Event.BOUNCED),
    n.Rejected: (MessageType.UPDATE, Event.REJECTED),
    n.Complained: (MessageType.UPDATE, Event.COMPLAINED),
    n.Opened: (MessageType.UPDATE, Event.OPENED),
    n.Clicked: (MessageType.UPDATE, Event.CLICKED),
    n.Unsubscribed: (MessageType.UPDATE, Event.UNSUBSCRIBED),
}


class AskedBy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The message or request that the notification goes back to, as its envelope named itself."""

    source_service: str
    message_id: str | None
    correlation_id: str | None


class Told(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    tag_field="about",
    tag="notification",
    omit_defaults=True,  # what came later is not in messages that were made before it
):
    """How a notification stood after the fact of this version, and what the fact says. No personal data (promise I18).

    `reason` is a code: why we ended it, or what the doubt is. `evidence` holds the provider's codes. `resendOf` is
    there where somebody has sent another notification again by this one.
    """

    notification_id: UUID
    version: int
    position: int
    event: Event
    status: Status
    type: str
    channel: Channel
    category: Category
    user_id: str | None
    occurred_at: Moment
    provider: str | None
    attempt: UUID | None
    reason: str | None
    evidence: dict[str, str]
    origin: AskedBy
    resend_of: UUID | None = None


class StatusMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The platform's envelope. `source` repeats `sourceService`: the platform's readers know it by either name.

    `partitionKey` is the same for all about one notification, about what one person allows, or about one template.
    """

    message_id: UUID
    message_type: MessageType
    timestamp: Moment
    source_service: Name
    source: Name
    correlation_id: str | None
    partition_key: UUID
    payload: Told | ToldPreference | ToldTemplate


class Made(msgspec.Struct, frozen=True):
    """Messages in the order of the log, and the notifications of which none could be made, each with its error."""

    messages: list[StatusMessage]
    failed: dict[UUID, Exception]


class Page(msgspec.Struct, frozen=True):
    """A stretch of the log: its messages, the last position looked at, and the notifications that cannot be told."""

    messages: list[StatusMessage]
    next: int
    left_out: list[UUID]


def message_id(stream: UUID, version: int) -> UUID:
    """Return the id of the message about one fact: a UUIDv5 below the stream's own id, the same for ever."""
    return uuid5(stream, f"status/{version}")


class StatusMessages:
    """Makes messages of facts; those of a notification also need what came before in its stream, which is read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, facts: Iterable[Recorded]) -> Made:
        """Make the messages of those facts that are told. Raises UnavailableError, UnknownTopicError."""
        wanted: dict[UUID, set[int]] = defaultdict(set)
        made = Made([], {})
        for each in facts:
            if type(each.fact) in _TOLD:
                wanted[each.originator_id].add(each.originator_version)
            elif told := told_preference(each) or told_template(each):
                made.messages.append(_of_itself(each, told))
        streams = list(wanted)
        for first in range(0, len(streams), _STREAMS):
            rows = await self._store.load(streams[first : first + _STREAMS])
            for stream, its in groupby(rows, key=lambda row: row.stream):
                _add(made, stream, its, versions=wanted[stream])
        made.messages.sort(key=lambda message: message.payload.position)
        return made

    async def after(self, position: int, *, limit: int) -> Page:
        """Make the messages of at most so many facts behind a position, or of as many as 16 MiB hold.

        Raises UnknownTopicError where the first of them is a newer release's: what follows it must wait.
        """
        facts, last, unreadable = _readable(await self._store.read(after=position, limit=limit))
        made = await self.of(facts)
        return Page(made.messages, position if last is None else last, sorted({*unreadable, *made.failed}))


def _readable(rows: Sequence[Row]) -> tuple[list[Recorded], int | None, set[UUID]]:
    """Return the facts up to an unknown one, the position of the last, and the streams of what cannot be read."""
    facts: list[Recorded] = []
    unreadable: set[UUID] = set()
    last = None
    for row in rows:
        try:
            fact = _MAPPER.decode(row.topic, row.state)
        except UnknownTopicError:
            if last is None:
                raise
            break
        except msgspec.MsgspecError:
            unreadable.add(row.stream)
        else:
            facts.append(Recorded(row.stream, row.version, row.topic, fact, row.position))
        last = row.position
    return facts, last, unreadable


def _add(made: Made, stream: UUID, rows: Iterable[Row], *, versions: Collection[int]) -> None:
    try:
        messages = list(_messages(rows, versions))
    except (UnavailableError, UnknownTopicError):
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is: the other notifications are told
        made.failed[stream] = exc
    else:
        made.messages.extend(messages)


def _messages(rows: Iterable[Row], versions: Collection[int]) -> Iterator[StatusMessage]:
    state: n.State | None = None
    last = max(versions)
    for row in rows:
        if row.version > last:
            return
        fact = of_notification(_MAPPER.decode(row.topic, row.state))
        is_news = not _is_told_already(state, fact)
        state = n.evolve(state, fact)
        if row.version in versions and is_news:
            yield _message(row, state, fact)


def _is_told_already(state: n.State | None, fact: n.NotificationFact) -> bool:
    """Whether a provider's reply says only by which name it took what a report has shown to be taken before."""
    attempt = state.attempt(fact.attempt) if state is not None and isinstance(fact, n.Dispatched) else None
    return attempt is not None and attempt.reference is not None


def _message(row: Row, state: n.State, fact: n.NotificationFact) -> StatusMessage:
    message_type, event = _TOLD[type(fact)]
    if isinstance(fact, n.Cancelled) and state.reached:
        # It was sent before: only what would have followed was called off.
        message_type = MessageType.UPDATE
    requested = state.requested
    attempt = _attempt(state, fact)
    told = Told(
        notification_id=row.stream,
        version=row.version,
        position=row.position,
        event=event,
        status=state.status,
        type=requested.type,
        channel=requested.channel,
        category=requested.category,
        user_id=requested.user_id,
        occurred_at=_occurred_at(fact),
        provider=attempt.provider if attempt else None,
        attempt=attempt.id if attempt else None,
        reason=_reason(fact),
        evidence=fact.evidence if isinstance(fact, n.Reported) else {},
        origin=AskedBy(
            source_service=requested.source,
            message_id=requested.message_id,
            correlation_id=requested.correlation_id,
        ),
        resend_of=requested.resend_of,
    )
    return _enveloped(row.stream, told, message_type, at=fact.recorded_at, correlation_id=requested.correlation_id)


def _of_itself(each: Recorded, told: ToldPreference | ToldTemplate) -> StatusMessage:
    message_type = MessageType.PREFERENCE if isinstance(told, ToldPreference) else MessageType.TEMPLATE
    return _enveloped(each.originator_id, told, message_type, at=each.fact.recorded_at)


def _enveloped(
    stream: UUID,
    told: Told | ToldPreference | ToldTemplate,
    message_type: MessageType,
    *,
    at: datetime,
    correlation_id: str | None = None,
) -> StatusMessage:
    return StatusMessage(
        message_id=message_id(stream, told.version),
        message_type=message_type,
        timestamp=at,
        source_service=SOURCE,
        source=SOURCE,
        correlation_id=correlation_id,
        partition_key=stream,
        payload=told,
    )


def _attempt(state: n.State, fact: n.NotificationFact) -> n.Attempt | None:
    """Return the attempt that a fact is about; an ending is about the last one."""
    if isinstance(fact, n.Dispatched | n.AttemptInDoubt | n.Reported):
        return state.attempt(fact.attempt)
    return state.attempts[-1] if state.attempts else None


def _occurred_at(fact: n.NotificationFact) -> datetime:
    return (fact.occurred_at if isinstance(fact, n.Reported) else None) or fact.recorded_at


def _reason(fact: n.NotificationFact) -> str | None:
    match fact:
        case n.Suppressed():
            return fact.rule
        case n.Failed() | n.FellBack():
            return fact.reason
        case n.Expired():
            return "expired"
        case n.Cancelled():
            return "cancelled"
        case n.AttemptInDoubt():
            return fact.doubt
        case _:
            return None
