"""A notification and its facts as they are shown: personal data masked, unless the reader may see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from handlers.waiting import Waiting
from ledger import telling
from ledger.errors import UnknownTopicError
from ledger.keys import DataKey
from ledger.mapping import FactMapper, of_notification, unseal
from ledger.notification import Attempt, AttemptStarted, Requested, State, fold
from ledger.operations import Operations
from ledger.recipient import Contact, ContactChanged
from ledger.status import Evidence, Status
from ledger.store import Row
from ledger.values import Category, Channel, Cost, Lane, Money, Personal, Redacted

_MAPPER = FactMapper()
_TOP = frozenset({"recorded_at", "occurred_at", "cause", "by", "personal"})


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told. Address and name are masked (`a…@e…`) without scope `pii:read`; `erased` = nobody can read them."""

    user_id: str | None
    address: str | None
    name: str | None
    erased: bool = False


class ShownAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to send. `status` is the strongest evidence of it; `reference` the provider's id of it.

    `device` is where a push went, by the id under which `/v1/recipients/{user_id}` lists it.
    """

    id: UUID
    provider: str
    device: str | None
    status: Evidence
    reference: str | None
    code: str | None
    started_at: datetime
    retry_at: datetime | None
    doubt_until: datetime | None
    dispatched_at: datetime | None
    delivered_at: datetime | None
    first_opened_at: datetime | None
    first_clicked_at: datetime | None
    opens: int
    clicks: int
    cost: Cost | None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """The pause that a notification waits for; of a single `provider`, it waits only where no other may be called."""

    id: UUID
    since: datetime
    reason: str
    provider: str | None


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """How one notification stands, folded from its facts. `version` counts them; times are UTC.

    `fell_back_to` is the notification that took its place on another channel, `fallback_of` the reverse. `resends` are
    those by which it was sent again, `resend_of` is the reverse. `cost` is an estimate by the price list, of each
    currency: the attempts that no provider has certainly refused.
    """

    id: UUID
    status: Status
    channel: Channel
    type: str
    category: Category
    lane: Lane
    template: str
    template_version: str
    locale: str
    recipient: Recipient
    attempts: list[ShownAttempt]
    cost: list[Money]
    reason: str | None
    fell_back_to: UUID | None
    fallback_of: UUID | None
    resends: list[UUID]
    resend_of: UUID | None
    source: str
    message_id: str | None
    correlation_id: str | None
    references: dict[str, str]
    created_at: datetime
    send_at: datetime | None
    expires_at: datetime
    changed_at: datetime
    version: int
    paused: Hold | None = None
    waiting: Waiting | None = None


class ShownFact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. `data` are its own fields; of an unknown topic, all that is not sealed, as it lies there."""

    version: int
    position: int
    topic: str
    recorded_at: datetime | None
    occurred_at: datetime | None
    cause: str | None
    by: str | None
    data: dict[str, Any]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Every fact of a notification, in order; `sent_twice` says in words that it may have been, and why."""

    id: UUID
    sent_twice: str | None
    facts: list[ShownFact]


def notification(
    stream: UUID,
    state: State,
    personal: Personal | Redacted,
    *,
    unmasked: bool,
    operations: Operations | None = None,
    waiting: Waiting | None = None,
) -> Notification:
    """Show how a notification stands; `operations` is what is paused now, `waiting` why it is not sent, None for how
    it stood then.
    """
    requested = state.requested
    return Notification(
        id=stream,
        status=state.status,
        channel=requested.channel,
        type=requested.type,
        category=requested.category,
        lane=requested.lane,
        template=requested.template,
        template_version=requested.template_version,
        locale=requested.locale,
        recipient=recipient(requested.user_id, personal, unmasked=unmasked),
        attempts=[_attempt(attempt, requested.channel) for attempt in state.attempts],
        cost=list(state.cost),
        reason=state.reason,
        fell_back_to=state.fell_back_to,
        fallback_of=requested.fallback_of,
        resends=[fact.to for fact in state.resends],
        resend_of=requested.resend_of,
        source=requested.source,
        message_id=requested.message_id,
        correlation_id=requested.correlation_id,
        references=requested.references,
        created_at=requested.recorded_at,
        send_at=requested.send_at,
        expires_at=requested.expires_at,
        changed_at=state.changed_at,
        version=state.version,
        paused=_hold(state, operations) if operations is not None else None,
        waiting=waiting,
    )


def _hold(state: State, operations: Operations) -> Hold | None:
    pause = operations.holding(state.requested.type, state.requested.channel)
    if pause is None or state.ended is not None or state.reached:
        return None
    return Hold(id=pause.pause, since=pause.recorded_at, reason=pause.reason, provider=pause.provider)


def recipient(user_id: str | None, personal: Personal | Redacted, *, unmasked: bool) -> Recipient:
    """Show a person as far as the reader may see them."""
    if isinstance(personal, Redacted):
        return Recipient(user_id=user_id, address=None, name=None, erased=True)
    if unmasked:
        return Recipient(user_id=user_id, address=personal.address, name=personal.name)
    return Recipient(user_id=user_id, address=masked(personal.address), name=initial(personal.name))


def history(stream: UUID, rows: Sequence[Row], *, key: DataKey | None, unmasked: bool) -> History:
    """Show every fact; `key` opens what is sealed."""
    return History(id=stream, sent_twice=sent_twice(rows), facts=facts(rows, key=key, unmasked=unmasked))


def facts(rows: Sequence[Row], *, key: DataKey | None = None, unmasked: bool = False) -> list[ShownFact]:
    """Show facts; `key` opens what is sealed."""
    return [_fact(row, key=key, unmasked=unmasked) for row in rows]


def sent_twice(rows: Sequence[Row]) -> str | None:
    """Say in words that a notification may have been sent twice; None, too, where its facts cannot all be read."""
    state = readable(rows)
    return None if state is None else telling.sent_twice(state)


def readable(rows: Sequence[Row]) -> State | None:
    """Fold a notification; None where there are no facts, or where they cannot all be read."""
    try:
        return fold([of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows])
    except (UnknownTopicError, msgspec.MsgspecError, ValueError):
        return None


def masked(address: str | None) -> str | None:
    """Return what tells two addresses apart for those who know them, and gives neither away: `a…@e…`, `…34`."""
    if address is None:
        return None
    local, at, domain = address.rpartition("@")
    return f"{initial(local)}@{initial(domain)}" if at else f"…{address[-2:]}"


def initial(text: str | None) -> str | None:
    """Return the first letter of a name and nothing more."""
    return None if text is None else f"{text[:1]}…"


def _attempt(attempt: Attempt, channel: Channel) -> ShownAttempt:
    return ShownAttempt(
        id=attempt.id,
        provider=attempt.provider,
        device=attempt.address_hash if channel is Channel.PUSH else None,
        status=attempt.evidence,
        reference=attempt.reference,
        code=attempt.code,
        started_at=attempt.started_at,
        retry_at=attempt.retry_at,
        doubt_until=attempt.doubt_until,
        dispatched_at=attempt.dispatched_at,
        delivered_at=attempt.delivered_at,
        first_opened_at=attempt.first_opened_at,
        first_clicked_at=attempt.first_clicked_at,
        opens=attempt.opens,
        clicks=attempt.clicks,
        cost=attempt.cost,
    )


def _fact(row: Row, *, key: DataKey | None, unmasked: bool) -> ShownFact:
    try:
        fact = _MAPPER.decode(row.topic, row.state)
    except UnknownTopicError:
        return _unknown(row)
    data = {name: _plain(getattr(fact, name)) for name in fact.__struct_fields__ if name not in _TOP}
    if isinstance(fact, Requested | AttemptStarted | ContactChanged) and fact.personal is not None:
        opened = unseal(fact, row.stream, version=row.version, topic=row.topic, key=key)
        data["personal"] = _personal(opened.personal, unmasked=unmasked)
    return ShownFact(
        version=row.version,
        position=row.position,
        topic=row.topic,
        recorded_at=fact.recorded_at,
        occurred_at=getattr(fact, "occurred_at", None),
        cause=fact.cause,
        by=fact.by,
        data=data,
    )


def _unknown(row: Row) -> ShownFact:
    fields: dict[str, Any] = msgspec.json.decode(row.state)
    return ShownFact(
        version=row.version,
        position=row.position,
        topic=row.topic,
        recorded_at=_time(fields.get("recorded_at")),
        occurred_at=_time(fields.get("occurred_at")),
        cause=fields.get("cause"),
        by=fields.get("by"),
        data={name: value for name, value in fields.items() if name not in _TOP},
    )


def _time(value: Any) -> datetime | None:
    return None if value is None else msgspec.convert(value, datetime)


def _personal(personal: Personal | Contact | Redacted | bytes | None, *, unmasked: bool) -> dict[str, Any] | None:
    match personal:
        case Personal() if unmasked:
            return {"address": personal.address, "name": personal.name, "data": personal.data}
        case Personal():
            return {"address": masked(personal.address), "name": initial(personal.name)}
        case Contact() if unmasked:
            return msgspec.structs.asdict(personal)
        case Contact():
            addresses = {"email": masked(personal.email), "phone": masked(personal.phone)}
            return {**addresses, "name": initial(personal.name)}
        case _:
            return None


def _plain(value: Any) -> Any:
    """Return a field as JSON can carry it; digests as people compare them, in hex."""
    return value.hex() if isinstance(value, bytes) else value
