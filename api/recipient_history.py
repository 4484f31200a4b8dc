"""/v1/recipients/{user_id}/history: a person's whole story, with what is listed of the addresses that they have."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import FromPath

from api import search, views
from api.auth import Scope
from api.disclosure import record_read
from api.parameters import Parameters
from api.paths import user_id_in
from api.problems import MALFORMED, NOT_FOUND, malformed
from api.recipients import unknown_person
from api.schemas import StoryFilters
from api.search import LIMIT, MOST, Listed
from api.services import Call, Services, services_of
from ledger import suppression
from ledger.errors import UnknownTopicError
from ledger.keys import DataKey
from ledger.mapping import TOPICS, FactMapper, StoredFact
from ledger.recipient import Erased, Recipient, RecipientFact, fold, nobody
from ledger.store import Row
from ledger.values import Channel
from projections.notification_search import CursorError, Filters, search_any
from templates.envelope import Fault

_MAPPER = FactMapper()
_MICROSECOND = timedelta(microseconds=1)
# Nothing is as late as this; what is asked for as of then is asked for as of now.
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_ERASED = next(topic for topic, fact in TOPICS.items() if fact is Erased)


class ListedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Every fact of the suppression list about an address that the person has; `id` is that of `/v1/suppressions`."""

    id: UUID
    channel: Channel
    facts: list[views.ShownFact]


class RecipientHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Every fact about a person, in order, and what was listed and released of the addresses that they have.

    `id` is the stream that explanations name. Positions order the facts of all streams. With `include=notifications`,
    `notifications` are a page of those that were meant for the person, or went to an address that they have, the newest
    first and as they stand now; `cursor` asks for the next page, null = this was the last.
    """

    user_id: str
    id: UUID
    facts: list[views.ShownFact]
    suppressions: list[ListedAddress]
    notifications: list[Listed] | None = None
    cursor: str | None = None


class _Recorded(msgspec.Struct):
    """What every fact says, a newer release's too."""

    recorded_at: datetime


@get(
    "/v1/recipients/{user_id:str}/history",
    scopes=[Scope.READ],
    tags=["recipients"],
    summary="Every fact about a person, in order, now or as of any moment, and what they were sent",
    query=StoryFilters,
    problems=[MALFORMED, NOT_FOUND],
)
async def get_recipient_history(request: Call, user_id: FromPath[str]) -> RecipientHistory:
    (at, page), user = _asked(request), user_id_in(user_id)
    unmasked = Scope.PII in request.user.scopes
    told = await history_of(services_of(request), user, at=at, unmasked=unmasked, page=page)
    if unmasked:
        await record_read(request, "recipient_history", user, logged_as=str(told.id))
    return told


class Wanted(msgspec.Struct, frozen=True):
    """Which page of a person's notifications."""

    cursor: str | None = None
    limit: int = LIMIT


class Include(StrEnum):
    """What is told besides."""

    NOTIFICATIONS = "notifications"


def _asked(request: Call) -> tuple[datetime | None, Wanted | None]:
    asked = Parameters.of_query(request.scope, known={"at", "include", "cursor", "limit"})
    at, include = asked.time("at"), asked.word("include", Include)
    cursor, limit = asked.text("cursor"), asked.whole("limit", least=1, most=MOST)
    if include is None:
        for name in [name for name, value in (("cursor", cursor), ("limit", limit)) if value is not None]:
            asked.refuse(name, "goes with include=notifications")
    asked.done()
    return at, None if include is None else Wanted(cursor, limit or LIMIT)


async def history_of(
    services: Services, user: str, *, at: datetime | None, unmasked: bool, page: Wanted | None = None
) -> RecipientHistory:
    """Return a person's story. Whoever shows it unmasked records that first.

    Raises ProblemError for a stranger, and for a cursor that no earlier page gave.
    """
    somebody = nobody(services.ledger.identity, user)
    rows = await services.ledger.store.load([somebody.stream])
    told = _until(rows, at)
    known = fold(somebody, (fact for fact in _readable(told) if isinstance(fact, RecipientFact)))
    sent = await _sent(services, user, known, at=at, page=page) if page is not None else None
    if not told and not (sent and (sent.notifications or (page and page.cursor))):
        raise unknown_person()
    listed = await _listed(services, known, at)
    key = await _key(services, somebody.recipient)
    return RecipientHistory(
        user_id=user,
        id=somebody.stream,
        facts=_shown(told, rows, key=key, unmasked=unmasked),
        suppressions=listed,
        notifications=sent.notifications if sent else None,
        cursor=sent.cursor if sent else None,
    )


async def _sent(services: Services, user: str, known: Recipient, *, at: datetime | None, page: Wanted) -> search.Found:
    """Return what was meant for a person, or went to an address that they have."""
    until = at + _MICROSECOND if at is not None and at < _LATEST else None
    wanted = [Filters(user_id=user, until=until)]
    wanted += [Filters(address_hash=address, until=until) for _, address in _addresses(known)]
    async with services.ledger.store.connection() as connection:
        try:
            found, _ = await search_any(connection, wanted, cursor=page.cursor, limit=page.limit)
        except CursorError:
            raise malformed(Fault("cursor", "is not one that an earlier page gave")) from None
        keys = await services.keys.read(connection, [row.recipient for row in found.rows])
    return search.Found([search.listed(row, keys) for row in found.rows], found.cursor)


def _until(rows: Sequence[Row], at: datetime | None) -> list[Row]:
    """Return the facts up to a moment, without a gap."""
    if at is None:
        return list(rows)
    return list(takewhile(lambda row: msgspec.json.decode(row.state, type=_Recorded).recorded_at <= at, rows))


def _readable(rows: Sequence[Row]) -> Iterator[StoredFact]:
    """Return the facts of topics that this release knows: of the others it cannot say what they change."""
    for row in rows:
        try:
            yield _MAPPER.decode(row.topic, row.state)
        except UnknownTopicError:
            continue


async def _listed(services: Services, known: Recipient, at: datetime | None) -> list[ListedAddress]:
    identity = services.ledger.identity
    channels = {suppression.stream_of(identity, *address): address[0] for address in _addresses(known)}
    rows = await services.ledger.store.load(channels)
    told = {stream: _until([row for row in rows if row.stream == stream], at) for stream in channels}
    return [
        ListedAddress(id=stream, channel=channels[stream], facts=views.facts(its))
        for stream, its in told.items()
        if its
    ]


def _addresses(known: Recipient) -> Iterator[tuple[Channel, str]]:
    """Return what the person can be reached at, by hashes: nobody's key is needed to see what is listed."""
    if known.email_hash is not None:
        yield Channel.EMAIL, known.email_hash
    if known.phone_hash is not None:
        yield Channel.SMS, known.phone_hash
    for device in known.devices:
        yield Channel.PUSH, device.address_hash


async def _key(services: Services, name: str) -> DataKey | None:
    async with services.ledger.store.connection() as connection:
        return (await services.keys.read(connection, [name])).get(name)


def _shown(told: Sequence[Row], rows: Sequence[Row], *, key: DataKey | None, unmasked: bool) -> list[views.ShownFact]:
    """Show facts; the person's key opens those since they were erased last, before that there was another."""
    erased = max((row.version for row in rows if row.topic == _ERASED), default=0)
    before = views.facts([row for row in told if row.version <= erased])
    return before + views.facts([row for row in told if row.version > erased], key=key, unmasked=unmasked)
