"""notification_log: a row for each notification, how it stands and what it is searched by; its tables and its fold.

A third of it are the tables and their columns, which are read beside the fold that fills them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, sql

from ledger import arrays
from ledger.ids import is_standing
from ledger.mapping import Recorded, of_notification
from ledger.notification import Attempt, AttemptStarted, Dispatched, Requested, State, evolve
from ledger.status import Status
from ledger.values import REDACTED, Category, Channel, DoubtPolicy, Lane

# What changes of a notification is updated in place (HOT): no index here covers it, not even the status, and each page
# has room for a second version of all its rows, for those that came together also change together. A report then costs
# one heap tuple and no index entry. `progress` is what the fold goes on from; what never changes is written once.
_CREATE_TABLES = """
CREATE TABLE notification_log_v4 (
    notification uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    channel text NOT NULL,
    category text NOT NULL,
    type text NOT NULL,
    template text NOT NULL,
    user_id text,
    address_hash text,
    recipient text NOT NULL,
    lane text NOT NULL,
    locale text NOT NULL,
    source text NOT NULL,
    message_id text,
    correlation_id text,
    "references" jsonb NOT NULL,
    expires_at timestamptz NOT NULL,
    sealed bytea,
    sealed_version bigint NOT NULL,
    sealed_topic text NOT NULL,
    changed_at timestamptz NOT NULL,
    status text NOT NULL,
    reason text,
    attempts integer NOT NULL,
    provider text,
    provider_message_id text,
    dispatched_at timestamptz,
    delivered_at timestamptz,
    first_opened_at timestamptz,
    first_clicked_at timestamptz,
    opens integer NOT NULL,
    clicks integer NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    progress bytea NOT NULL,
    cost jsonb NOT NULL,
    template_version text NOT NULL,
    resend_of uuid,
    fell_back_from uuid,
    fell_back_to uuid
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE notification_log_v4 ALTER COLUMN sealed SET STORAGE EXTERNAL;
-- Each ends with the order of the answer: a page is a range of one index, or what two of them have in common. So there
-- is one for what half of all have, too: else those that have it, and something that is never beside it, are all read.
CREATE INDEX ON notification_log_v4 (user_id, notification) WHERE user_id IS NOT NULL;
CREATE INDEX ON notification_log_v4 (correlation_id, notification) WHERE correlation_id IS NOT NULL;
CREATE INDEX ON notification_log_v4 (message_id, notification) WHERE message_id IS NOT NULL;
CREATE INDEX ON notification_log_v4 (channel, notification);
CREATE INDEX ON notification_log_v4 (category, notification);
CREATE INDEX ON notification_log_v4 (type, notification);
CREATE INDEX ON notification_log_v4 (template, notification);
CREATE INDEX ON notification_log_v4 (template_version, notification);
CREATE INDEX ON notification_log_v4 (resend_of, notification) WHERE resend_of IS NOT NULL;
-- The provider's ids of all attempts: beside the log, for an index over them there would end updates in place.
CREATE TABLE notification_log_reference_v4 (
    reference text NOT NULL,
    notification uuid NOT NULL,
    PRIMARY KEY (reference, notification)
);
-- The addresses that it went to, by their hashes: that of the request, and those that were found for an attempt.
CREATE TABLE notification_log_address_v4 (
    address_hash text NOT NULL,
    notification uuid NOT NULL,
    PRIMARY KEY (address_hash, notification)
);
-- What the business knows it by (an order, an invoice), as the catalogue says: whoever calls knows the value alone.
CREATE TABLE notification_log_business_reference_v4 (
    name text NOT NULL,
    value text NOT NULL,
    notification uuid NOT NULL,
    PRIMARY KEY (value, notification, name)
);
-- Likewise the status: a change of it costs an entry in this one index, and what is rare is found as fast as the rest.
CREATE TABLE notification_log_status_v4 (
    status text NOT NULL,
    notification uuid NOT NULL,
    PRIMARY KEY (status, notification)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
"""
# What is asked for stands in these: they show the newest version that has caught up with the log. The tables of the
# version before stay for as long as its release may still run beside this one.
_SHOW = """
CREATE OR REPLACE VIEW notification_log AS SELECT * FROM notification_log_v4;
CREATE OR REPLACE VIEW notification_log_reference AS SELECT * FROM notification_log_reference_v4;
CREATE OR REPLACE VIEW notification_log_status AS SELECT * FROM notification_log_status_v4;
CREATE OR REPLACE VIEW notification_log_address AS SELECT * FROM notification_log_address_v4;
CREATE OR REPLACE VIEW notification_log_business_reference AS
    SELECT * FROM notification_log_business_reference_v4;
"""
_EXISTS = """
SELECT to_regclass('notification_log_v4') IS NOT NULL, to_regclass('notification_log_v3') IS NOT NULL
"""
_IS_SHOWN = "SELECT strpos(pg_get_viewdef('notification_log'::regclass), 'notification_log_v4') > 0"
_BEHIND = "SELECT count(*) FROM (SELECT FROM ledger.stored_events WHERE notification_id > %b LIMIT %b) AS ahead"
_LOAD = "SELECT notification, status, progress FROM notification_log_v4 WHERE notification = ANY(%b)"
_REFER = """
INSERT INTO notification_log_reference_v4 (reference, notification) SELECT * FROM unnest(%b, %b)
ON CONFLICT DO NOTHING
"""
_ADDRESS = """
INSERT INTO notification_log_address_v4 (address_hash, notification) SELECT * FROM unnest(%b, %b)
ON CONFLICT DO NOTHING
"""
_KNOW_AS = """
INSERT INTO notification_log_business_reference_v4 (name, value, notification) SELECT * FROM unnest(%b, %b, %b)
ON CONFLICT DO NOTHING
"""
_STAND = "INSERT INTO notification_log_status_v4 (status, notification) SELECT * FROM unnest(%b, %b)"
_STAND_ELSEWHERE = """
UPDATE notification_log_status_v4 s SET status = n.status FROM unnest(%b, %b, %b) AS n (status, was, notification)
WHERE s.status = n.was AND s.notification = n.notification
"""

_FIXED: dict[str, type[arrays.Column]] = {
    "notification": arrays.Uuids,
    "created_at": arrays.Times,
    "channel": arrays.Texts,
    "category": arrays.Texts,
    "type": arrays.Texts,
    "template": arrays.Texts,
    "user_id": arrays.Texts,
    "address_hash": arrays.Texts,
    "recipient": arrays.Texts,
    "lane": arrays.Texts,
    "locale": arrays.Texts,
    "source": arrays.Texts,
    "message_id": arrays.Texts,
    "correlation_id": arrays.Texts,
    "references": arrays.Texts,
    "expires_at": arrays.Times,
    "sealed": arrays.Bytes,
    "sealed_version": arrays.Bigints,
    "sealed_topic": arrays.Texts,
    "template_version": arrays.Texts,
    "resend_of": arrays.Uuids,
    "fell_back_from": arrays.Uuids,
}
_MOVING: dict[str, type[arrays.Column]] = {
    "changed_at": arrays.Times,
    "status": arrays.Texts,
    "reason": arrays.Texts,
    "attempts": arrays.Integers,
    "provider": arrays.Texts,
    "provider_message_id": arrays.Texts,
    "dispatched_at": arrays.Times,
    "delivered_at": arrays.Times,
    "first_opened_at": arrays.Times,
    "first_clicked_at": arrays.Times,
    "opens": arrays.Integers,
    "clicks": arrays.Integers,
    "version": arrays.Bigints,
    "position": arrays.Bigints,
    "progress": arrays.Bytes,
    "cost": arrays.Texts,
    "fell_back_to": arrays.Uuids,
}
COLUMNS = (*_FIXED, *_MOVING)
_JSON = frozenset({"references", "cost"})
# What version 3 did not have, and what stands for it while that one is shown.
_ADDED: dict[str, LiteralString] = {
    "template_version": "''",
    "resend_of": "NULL::uuid",
    "fell_back_from": "NULL::uuid",
    "fell_back_to": "NULL::uuid",
}
# So few facts behind the log, a version has caught up: it is never behind by less while much is going on.
CAUGHT_UP = 1_000


class LogRow(msgspec.Struct, frozen=True):
    """A notification in a list. `sealed` opens with the data key of `recipient`, beside (id, version, topic).

    Words of a fixed list are plain strings here: a newer release may already have written one that we do not know.
    `cost` is a list of Money, as it stands in JSON. The last three are other notifications for the same person: the one
    that it repeats, the one that it stands in for on another channel, and the one that stands in for it.
    """

    notification: UUID
    created_at: datetime
    channel: str
    category: str
    type: str
    template: str
    user_id: str | None
    address_hash: str | None
    recipient: str
    lane: str
    locale: str
    source: str
    message_id: str | None
    correlation_id: str | None
    references: dict[str, str]
    expires_at: datetime
    sealed: bytes | None
    sealed_version: int
    sealed_topic: str
    changed_at: datetime
    status: str
    reason: str | None
    attempts: int
    provider: str | None
    provider_message_id: str | None
    dispatched_at: datetime | None
    delivered_at: datetime | None
    first_opened_at: datetime | None
    first_clicked_at: datetime | None
    opens: int
    clicks: int
    version: int
    position: int
    cost: list[dict[str, str]]
    template_version: str
    resend_of: UUID | None
    fell_back_from: UUID | None
    fell_back_to: UUID | None


# ---------------------------------------------------------------------------------------------------------------
# The fold
# ---------------------------------------------------------------------------------------------------------------


class BrokenStreamError(ValueError):
    """The facts of a notification do not follow each other: one is missing, or its row is."""


class _Progress(msgspec.Struct, omit_defaults=True):
    """A State without its request."""

    version: int
    changed_at: datetime
    rendered: bytes | None = None
    attempts: tuple[Attempt, ...] = ()
    released_at: datetime | None = None
    ended: Status | None = None
    reason: str | None = None
    fell_back_to: UUID | None = None
    deferred_until: datetime | None = None


class _Folded(msgspec.Struct):
    """One notification in a batch. `fixed` is there where it begins here; `was` is the status that its row has."""

    state: State
    position: int
    was: str | None = None
    fixed: tuple[Any, ...] | None = None
    references: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    known_as: tuple[tuple[str, str], ...] = ()


class NotificationLog:
    """The view (ledger.follower.View); `caught_up` says how few facts behind the log it may be shown."""

    name = "notification_log"
    version = 4

    def __init__(self, *, caught_up: int = CAUGHT_UP) -> None:
        self._caught_up = caught_up
        self._is_shown = False

    async def create(self, connection: AsyncConnection[Any]) -> None:
        """Make the tables unless they are there; those of the version before are shown until these have caught up."""
        ((is_there, has_before),) = await (await connection.execute(_EXISTS)).fetchall()
        if not is_there:
            await connection.execute(_CREATE_TABLES, prepare=False)
            await connection.execute(_SHOW_BEFORE if has_before else _SHOW, prepare=False)

    async def fold(self, connection: AsyncConnection[Any], facts: Sequence[Recorded]) -> None:
        """Bring the rows up to date; BrokenStreamError when a notification's facts do not follow each other."""
        ours = [recorded for recorded in facts if not is_standing(recorded.originator_id)]
        begun = {recorded.originator_id for recorded in ours if recorded.originator_version == 1}
        folded = await _begun_before(connection, {recorded.originator_id for recorded in ours} - begun)
        for recorded in ours:
            folded[recorded.originator_id] = _next(folded.get(recorded.originator_id), recorded)
        await _write(connection, folded)
        if not self._is_shown and facts:
            await self._show(connection, facts[-1].position or 0)

    async def copy(self, connection: AsyncConnection[Any], streams: Sequence[Sequence[Recorded]]) -> None:
        """Add the rows of notifications, each of all its facts (ledger.rebuilding.Copied); BrokenStreamError as `fold`.

        In a batch no reference and no address of a notification stands twice: no index would notice.
        """
        whole = {facts[0].originator_id: _whole(facts) for facts in streams}
        statuses = {stream: each.state.status for stream, each in whole.items()}
        rows = [
            (each.fixed or ()) + _moving(each.state, statuses[stream], each.position) for stream, each in whole.items()
        ]
        for copy, types, values in (
            (_COPY, _COPIED, rows),
            (_COPY_STATUSES, (arrays.Texts, arrays.Uuids), [(status, stream) for stream, status in statuses.items()]),
            (_COPY_REFERENCES, (arrays.Texts, arrays.Uuids), _named(whole, "references")),
            (_COPY_ADDRESSES, (arrays.Texts, arrays.Uuids), _named(whole, "addresses")),
            (_COPY_KNOWN_AS, (arrays.Texts, arrays.Texts, arrays.Uuids), _known_as(whole)),
        ):
            async with connection.cursor().copy(copy) as copying:
                await copying.write(arrays.copied(types, values))

    async def _show(self, connection: AsyncConnection[Any], position: int) -> None:
        """Show this version from now on, if it has caught up: in the commit that brings it there."""
        ((self._is_shown,),) = await (await connection.execute(_IS_SHOWN)).fetchall()
        if self._is_shown:
            return
        ((behind,),) = await (await connection.execute(_BEHIND, (position, self._caught_up), binary=True)).fetchall()
        if behind < self._caught_up:
            await connection.execute(_SHOW, prepare=False)


async def _begun_before(connection: AsyncConnection[Any], streams: Collection[UUID]) -> dict[UUID, _Folded]:
    if not streams:
        return {}
    rows = await (await connection.execute(_LOAD, (arrays.Uuids(list(streams)),), binary=True)).fetchall()
    return {stream: _Folded(_state(_decode(progress)), 0, was=status) for stream, status, progress in rows}


def row_of(facts: Sequence[Recorded]) -> tuple[Any, ...]:
    """Fold all facts of one notification to its row, in the order of COLUMNS; BrokenStreamError as `fold`."""
    folded = _whole(facts)
    return (folded.fixed or ()) + _moving(folded.state, folded.state.status, folded.position)


def _whole(facts: Sequence[Recorded]) -> _Folded:
    folded: _Folded | None = None
    for recorded in facts:
        folded = _next(folded, recorded)
    if folded is None:
        raise BrokenStreamError("there is no fact that a notification begins with")
    return folded


def comparable(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row, as it is written or as it was read, so that rows that say the same are equal."""
    return tuple(_READ_AS[name](value) if name in _READ_AS else value for name, value in zip(COLUMNS, row, strict=True))


def _state(progress: _Progress) -> State:
    return State(requested=_UNREAD, **msgspec.structs.asdict(progress))


def _next(folded: _Folded | None, recorded: Recorded) -> _Folded:
    if recorded.originator_version != (folded.state.version if folded else 0) + 1:
        raise BrokenStreamError("a fact does not follow the last one that was folded")
    fact = of_notification(recorded.fact)
    if isinstance(fact, Requested):
        named = (fact.address_hash,) if fact.address_hash is not None else ()
        return _Folded(
            evolve(None, fact),
            recorded.position or 0,
            fixed=_fixed(recorded, fact),
            addresses=named,
            known_as=tuple(fact.references.items()),
        )
    if folded is None:
        raise BrokenStreamError("the first fact of a notification is `requested`")
    folded.state = evolve(folded.state, fact)
    folded.position = recorded.position or 0
    if isinstance(fact, Dispatched):
        folded.references += (fact.reference,)
    elif isinstance(fact, AttemptStarted) and fact.personal is not None:
        folded.addresses += (fact.address_hash,)
    return folded


def _fixed(recorded: Recorded, fact: Requested) -> tuple[Any, ...]:
    return (
        recorded.originator_id,
        fact.recorded_at,
        fact.channel,
        fact.category,
        fact.type,
        fact.template,
        fact.user_id,
        fact.address_hash,
        fact.recipient,
        fact.lane,
        fact.locale,
        fact.source,
        fact.message_id,
        fact.correlation_id,
        _encode(fact.references).decode(),
        fact.expires_at,
        fact.personal if isinstance(fact.personal, bytes) else None,
        recorded.originator_version,
        recorded.topic,
        fact.template_version,
        fact.resend_of,
        fact.fallback_of,
    )


def _moving(state: State, status: Status, position: int) -> tuple[Any, ...]:
    attempts = state.attempts
    last = attempts[-1] if attempts else None
    return (
        state.changed_at,
        status,
        state.reason,
        len(attempts),
        last and last.provider,
        next((a.reference for a in reversed(attempts) if a.reference), None),
        _first(a.dispatched_at for a in attempts),
        _first(a.delivered_at for a in attempts),
        _first(a.first_opened_at for a in attempts),
        _first(a.first_clicked_at for a in attempts),
        sum(a.opens for a in attempts),
        sum(a.clicks for a in attempts),
        state.version,
        position,
        _encode(_Progress(*(getattr(state, name) for name in _Progress.__struct_fields__))),
        _encode(state.cost).decode(),
        state.fell_back_to,
    )


def _first(times: Iterable[datetime | None]) -> datetime | None:
    return min((at for at in times if at is not None), default=None)


# ---------------------------------------------------------------------------------------------------------------
# Writing: one statement for each table and kind of change
# ---------------------------------------------------------------------------------------------------------------


_Write = tuple[str | sql.Composed, Sequence[type[arrays.Column]], list[tuple[Any, ...]]]


async def _write(connection: AsyncConnection[Any], folded: Mapping[UUID, _Folded]) -> None:
    inserts: list[tuple[Any, ...]] = []
    updates: list[tuple[Any, ...]] = []
    begun: list[tuple[Any, ...]] = []
    moved: list[tuple[Any, ...]] = []
    for stream, each in folded.items():
        status = each.state.status
        moving = _moving(each.state, status, each.position)
        if each.fixed is not None:
            inserts.append(each.fixed + moving)
            begun.append((status, stream))
            continue
        updates.append((stream, *moving))
        if each.was != status:
            moved.append((status, each.was, stream))
    writes: tuple[_Write, ...] = (
        (_INSERT, (*_FIXED.values(), *_MOVING.values()), inserts),
        (_UPDATE, (arrays.Uuids, *_MOVING.values()), updates),
        (_STAND, (arrays.Texts, arrays.Uuids), begun),
        (_STAND_ELSEWHERE, (arrays.Texts, arrays.Texts, arrays.Uuids), moved),
        (_REFER, (arrays.Texts, arrays.Uuids), _named(folded, "references")),
        (_ADDRESS, (arrays.Texts, arrays.Uuids), _named(folded, "addresses")),
        (_KNOW_AS, (arrays.Texts, arrays.Texts, arrays.Uuids), _known_as(folded)),
    )
    for statement, types, rows in writes:
        if rows:
            columns = [column(values) for column, values in zip(types, zip(*rows, strict=True), strict=True)]
            await connection.execute(statement, columns)


def _named(folded: Mapping[UUID, _Folded], field: str) -> list[tuple[str, UUID]]:
    """Return each name that a field gives a notification, once, with the notification."""
    return [(name, stream) for stream, each in folded.items() for name in dict.fromkeys(getattr(each, field))]


def _known_as(folded: Mapping[UUID, _Folded]) -> list[tuple[str, str, UUID]]:
    return [(*named, stream) for stream, each in folded.items() for named in each.known_as]


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _given(names: Sequence[str]) -> sql.Composed:
    """Compose the columns of a batch as a table n."""
    unnest = sql.SQL("unnest({}) AS n ({})")
    return unnest.format(sql.SQL(", ").join(sql.SQL("%b") for _ in names), _names(names))


def _value(name: str) -> sql.Composed:
    """Compose the value of a column: JSON comes as text."""
    value = sql.SQL("n.{}").format(sql.Identifier(name))
    return value + sql.SQL("::jsonb") if name in _JSON else value


def _show_before() -> sql.Composed:
    """Until then the version before goes on being shown, with what it knows.

    A view that is replaced keeps its columns in their order, so what a version adds stands at the end.
    """
    known = [name for name in COLUMNS if name not in _ADDED]
    nothing = sql.SQL(", ").join(sql.SQL(f"{empty} AS {name}") for name, empty in _ADDED.items())
    return sql.SQL("""
CREATE OR REPLACE VIEW notification_log AS SELECT {}, {} FROM notification_log_v3;
CREATE OR REPLACE VIEW notification_log_business_reference AS
    SELECT key AS name, value, notification FROM notification_log_v3, jsonb_each_text("references");
""").format(_names(known), nothing)


def _insert() -> sql.Composed:
    names = [*_FIXED, *_MOVING]
    values = [_value(name) for name in names]
    insert = sql.SQL("INSERT INTO notification_log_v4 ({}) SELECT {} FROM {}")
    return insert.format(_names(names), sql.SQL(", ").join(values), _given(names))


def _update() -> sql.Composed:
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), _value(name)) for name in _MOVING)
    update = sql.SQL("UPDATE notification_log_v4 l SET {} FROM {} WHERE l.notification = n.notification")
    return update.format(sets, _given(["notification", *_MOVING]))


_SHOW_BEFORE = _show_before()
_INSERT = _insert()
_UPDATE = _update()
_BINARY = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
_COPY = _BINARY.format(sql.Identifier("notification_log_v4"), _names(COLUMNS))
_COPIED = [arrays.Jsonbs if name in _JSON else column for name, column in (*_FIXED.items(), *_MOVING.items())]
_COPY_STATUSES = "COPY notification_log_status_v4 (status, notification) FROM STDIN (FORMAT binary)"
_COPY_REFERENCES = "COPY notification_log_reference_v4 (reference, notification) FROM STDIN (FORMAT binary)"
_COPY_ADDRESSES = "COPY notification_log_address_v4 (address_hash, notification) FROM STDIN (FORMAT binary)"
_COPY_KNOWN_AS = "COPY notification_log_business_reference_v4 (name, value, notification) FROM STDIN (FORMAT binary)"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Progress).decode
# JSON has many spellings, and an older release may have left a field out that a newer one spells.
_READ_AS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_JSON, lambda value: msgspec.json.decode(value) if isinstance(value, str) else value),
    "progress": _decode,
}
# Stands for a request that an earlier batch has put in the row: to evolve a state is to carry its request along unread.
_UNREAD = Requested(
    recorded_at=datetime.min.replace(tzinfo=UTC),
    cause="",
    by="",
    type="",
    channel=Channel.EMAIL,
    category=Category.TRANSACTIONAL,
    lane=Lane.NORMAL,
    recipient="",
    locale="",
    template="",
    template_version="",
    catalogue="",
    doubt=DoubtPolicy.DROP,
    expires_at=datetime.min.replace(tzinfo=UTC),
    retention="",
    source="",
    personal=REDACTED,
)
