"""/v1/suppressions: who must not be contacted, why and since when; addresses never stand in a URL."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from api import views
from api.auth import Scope
from api.bodies import members_in
from api.parameters import Parameters
from api.problems import MALFORMED, NEWER_RELEASE, NOT_FOUND, TOO_LARGE, ProblemError, malformed
from api.reasons import reason_among
from api.schemas import AddressSearch, NewSuppression, Release, SuppressionFilters
from api.services import Call, Services, services_of
from handlers.suppressions import NoSuchSuppressionError, list_by_hand, release
from ledger.suppression import Entry, EntryName, Grounds, Reason, Suppression, nothing
from ledger.values import Category, Channel
from projections.notification_search import CursorError
from projections.suppressions import Filters, Row, search
from templates.addresses import is_email, read_phone
from templates.envelope import Fault, is_identifier, read_time

# A push goes to devices; one that is not to be used is taken off its person.
CHANNELS = (Channel.EMAIL, Channel.SMS)
BY_HAND = (Reason.MANUAL, Reason.LEGAL)
_ADDRESS = {Channel.EMAIL: "must be an e-mail address", Channel.SMS: "must be a phone number that begins with +"}
_TIME = "must be an ISO 8601 time with an offset that lies ahead"
_TAGS = ["suppressions"]
_LIMIT, _MOST = 50, 200
_Word = TypeVar("_Word", bound=StrEnum)


class ShownEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Why an address is listed: for a category, null = for all; until `expires_at`, null = for good.

    `version` is that of the fact in the suppression's history. Where it came of a notification, that and its attempt
    are the evidence; else `note` says why, and `by` who.
    """

    reason: Reason
    category: Category | None
    since: datetime
    expires_at: datetime | None
    notification: UUID | None
    attempt: UUID | None
    note: str | None
    by: str
    version: int


class ShownSuppression(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one address on one channel: without entries it may be used. `version` counts the facts."""

    id: UUID
    channel: Channel
    entries: list[ShownEntry]
    version: int


class ListedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry in a list, with the `id` of the suppression that it belongs to."""

    id: UUID
    channel: str
    reason: str
    category: str | None
    since: datetime
    expires_at: datetime | None
    notification: UUID | None
    attempt: UUID | None
    note: str | None
    by: str
    version: int


class ListedEntries(msgspec.Struct, frozen=True):
    """A page, the newest first. `cursor` asks for the next page with the same filters; null = this was the last."""

    entries: list[ListedEntry]
    cursor: str | None


class ShownSuppressions(msgspec.Struct, frozen=True):
    """What is known of an address, on each channel."""

    suppressions: list[ShownSuppression]


class SuppressionHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Every fact about one address on one channel, in order."""

    id: UUID
    facts: list[views.ShownFact]


_SAME = {200: ResponseSpec(ShownSuppression, description="It is listed so already", generate_examples=False)}


@get(
    "/v1/suppressions",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="List what is listed now, the newest entry first",
    query=SuppressionFilters,
    problems=[MALFORMED],
)
async def list_suppressions(request: Call) -> ListedEntries:
    asked = Parameters.of_query(request.scope, known=SuppressionFilters.__struct_encode_fields__)
    return await listed(services_of(request), asked)


async def listed(services: Services, asked: Parameters) -> ListedEntries:
    """Return a page of what is listed now. Raises ProblemError with every fault of what is asked."""
    filters = Filters(
        channel=asked.word("channel", Channel),
        reason=asked.word("reason", Reason),
        category=asked.word("category", Category),
    )
    cursor, limit = asked.text("cursor"), asked.whole("limit", least=1, most=_MOST) or _LIMIT
    asked.done()
    async with services.ledger.store.connection() as connection:
        try:
            page = await search(connection, filters, cursor=cursor, limit=limit)
        except CursorError:
            raise malformed(Fault("cursor", "is not one that an earlier page gave")) from None
    return ListedEntries([_listed(row) for row in page.rows], page.cursor)


@post(
    "/v1/suppressions",
    status_code=201,
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="List an address by hand",
    body=NewSuppression,
    problems=[MALFORMED, TOO_LARGE, NEWER_RELEASE],
    responses=_SAME,
)
async def post_suppression(request: Call) -> Response[ShownSuppression]:
    Parameters.of_query(request.scope, known=()).done()
    ledger = services_of(request).ledger
    raw, faults = members_in(await request.body(), NewSuppression.__struct_fields__)
    channel, address, grounds = listing_in(raw, faults, now=ledger.clock.now())
    changed = await list_by_hand(ledger, channel, address, grounds, by=_by(request))
    status = 201 if changed.is_new else 200
    return Response(shown(changed.known, now=ledger.clock.now()), status_code=status)


@post(
    "/v1/suppressions/search",
    status_code=200,
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="What is listed of an address",
    body=AddressSearch,
    problems=[MALFORMED, TOO_LARGE, NEWER_RELEASE],
)
async def search_suppressions(request: Call) -> ShownSuppressions:
    Parameters.of_query(request.scope, known=()).done()
    return await of_address(services_of(request), *members_in(await request.body(), AddressSearch.__struct_fields__))


@get(
    "/v1/suppressions/{suppression_id:uuid}",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="What is listed of the address that an id stands for",
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_suppression(request: Call, suppression_id: FromPath[UUID]) -> ShownSuppression:
    Parameters.of_query(request.scope, known=()).done()
    services = services_of(request)
    return shown(await known_suppression(services, suppression_id), now=services.ledger.clock.now())


@get(
    "/v1/suppressions/{suppression_id:uuid}/history",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="Everything that was ever listed and released of it, in order",
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_suppression_history(request: Call, suppression_id: FromPath[UUID]) -> SuppressionHistory:
    Parameters.of_query(request.scope, known=()).done()
    services = services_of(request)
    await known_suppression(services, suppression_id)
    rows = await services.ledger.store.load([suppression_id])
    return SuppressionHistory(id=suppression_id, facts=views.facts(rows))


@post(
    "/v1/suppressions/{suppression_id:uuid}/release",
    status_code=200,
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Let an address be used again, whatever it was listed for or in one respect",
    body=Release,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def post_suppression_release(request: Call, suppression_id: FromPath[UUID]) -> ShownSuppression:
    Parameters.of_query(request.scope, known=()).done()
    names, note = release_in(*reason_among(await request.body(), beside=("listed_for", "category")))
    ledger = services_of(request).ledger
    try:
        known = await release(ledger, suppression_id, names, by=_by(request), note=note)
    except NoSuchSuppressionError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None
    return shown(known, now=ledger.clock.now())


async def known_suppression(services: Services, suppression_id: UUID) -> Suppression:
    """Return what an id stands for. Raises ProblemError where it is none."""
    known = await services.ledger.suppression(suppression_id)
    if known is None:
        raise ProblemError(NOT_FOUND, "there is no such suppression")
    return known


# -- Bodies, all faults at once --------------------------------------------------------------------------------------


def listing_in(raw: Mapping[str, Any], faults: list[Fault], *, now: datetime) -> tuple[Channel, str, Grounds]:
    """Return what is to be listed, and why. Raises ProblemError with every fault, those that are known before too."""
    channel = _word(raw, "channel", CHANNELS, faults)
    reason = _word(raw, "reason", BY_HAND, faults)
    category = _word(raw, "category", Category, faults, required=False)
    address = _address(raw.get("address"), channel, faults)
    note, until = raw.get("note"), raw.get("expires_at")
    if not is_identifier(note):
        faults.append(Fault("note", "is required" if note is None else "must be 1 to 200 printable characters"))
    expires_at = read_time(until) if isinstance(until, str) and until.isprintable() else None
    if until is not None and (expires_at is None or expires_at <= now):
        faults.append(Fault("expires_at", _TIME))
    if channel is None or reason is None or address is None or faults:
        raise malformed(*faults)
    return channel, address, Grounds(reason=reason, category=category, expires_at=expires_at, note=note)


async def of_address(services: Services, raw: Mapping[str, Any], faults: list[Fault]) -> ShownSuppressions:
    """Return what is listed of the address that is asked for. Raises ProblemError with every fault."""
    address, channels = _address_asked(raw, faults)
    address_hash = services.ledger.identity.address_hash(read_phone(address.strip()) or address)
    streams = [nothing(services.ledger.identity, channel, address_hash).stream for channel in channels]
    found = [await services.ledger.suppression(stream) for stream in streams]
    return ShownSuppressions([shown(known, now=services.ledger.clock.now()) for known in found if known is not None])


def _address_asked(raw: Mapping[str, Any], faults: list[Fault]) -> tuple[str, Collection[Channel]]:
    channel = _word(raw, "channel", CHANNELS, faults, required=False)
    address: Any = raw.get("address")
    if not is_identifier(address):
        faults.append(Fault("address", "is required" if address is None else "must be 1 to 200 printable characters"))
    if faults:
        raise malformed(*faults)
    return address, CHANNELS if channel is None else (channel,)


def release_in(raw: Mapping[str, Any], note: str, faults: list[Fault]) -> tuple[Collection[EntryName] | None, str]:
    """Return which entries are released, None = all, and why. Raises ProblemError with every fault."""
    listed_for = _word(raw, "listed_for", Reason, faults, required=False)
    category = _word(raw, "category", Category, faults, required=False)
    if raw.get("category") is not None and raw.get("listed_for") is None:
        faults.append(Fault("category", "goes with listed_for: give both"))
    if faults:
        raise malformed(*faults)
    return None if listed_for is None else [(listed_for, category)], note


def _word(
    raw: Mapping[str, Any], name: str, words: Iterable[_Word], faults: list[Fault], *, required: bool = True
) -> _Word | None:
    """Return the word that a field holds."""
    given, known = raw.get(name), {str(word): word for word in words}
    if isinstance(given, str) and given in known:
        return known[given]
    if given is not None:
        faults.append(Fault(name, f"must be {' or '.join(known)}"))
    elif required:
        faults.append(Fault(name, "is required"))
    return None


def _address(given: Any, channel: Channel | None, faults: list[Fault]) -> str | None:
    """Return an address as it is kept: numbers in E.164."""
    if given is None:
        faults.append(Fault("address", "is required"))
        return None
    if channel is None:
        return None
    address = given.strip() if isinstance(given, str) else None
    if channel is Channel.SMS:
        address = read_phone(address)
    elif not is_email(address):
        address = None
    if address is None:
        faults.append(Fault("address", _ADDRESS[channel]))
    return address


# -- Views -----------------------------------------------------------------------------------------------------------


def shown(known: Suppression, *, now: datetime) -> ShownSuppression:
    """Show what is in force of an address now."""
    entries = [_entry(entry) for entry in known.in_force(now)]
    return ShownSuppression(id=known.stream, channel=known.channel, entries=entries, version=known.version)


def _entry(entry: Entry) -> ShownEntry:
    listed = entry.fact
    return ShownEntry(
        reason=listed.reason,
        category=listed.category,
        since=listed.recorded_at,
        expires_at=listed.expires_at,
        notification=listed.notification,
        attempt=listed.attempt,
        note=listed.note,
        by=listed.by,
        version=entry.version,
    )


def _listed(row: Row) -> ListedEntry:
    shown_as = {name: getattr(row, name) for name in Row.__struct_fields__ if name not in {"stream", "position"}}
    return msgspec.convert({"id": row.stream, **shown_as}, ListedEntry)


def _by(request: Call) -> str:
    return f"api:{request.user.subject}"
