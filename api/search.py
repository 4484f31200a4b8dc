"""GET /v1/notifications and POST /v1/notifications/search: lists from notification_log, by filters and pages."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import get, post

from api.auth import Scope
from api.bodies import object_in
from api.parameters import Parameters
from api.problems import MALFORMED, TOO_LARGE, malformed
from api.schemas import ListFilters, SearchFilters
from api.services import Call, Services, services_of
from api.views import Recipient, recipient
from ledger.keys import Identity, Keyring
from ledger.mapping import open_personal
from ledger.status import Status
from ledger.values import Category, Channel, Money, Personal
from projections.notification_log import LogRow
from projections.notification_search import CursorError, Filters, search
from templates.addresses import read_phone
from templates.envelope import Fault, shown

LIMIT = 50
MOST = 200
_IN_QUERY = frozenset(ListFilters.__struct_encode_fields__)
_IN_BODY = frozenset(SearchFilters.__struct_encode_fields__)


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A notification in a list. Its person is always masked here: each unmasked read is recorded, one by one."""

    id: UUID
    status: str
    channel: str
    type: str
    category: str
    lane: str
    template: str
    locale: str
    recipient: Recipient
    reason: str | None
    attempt_count: int
    provider: str | None
    provider_message_id: str | None
    source: str
    message_id: str | None
    correlation_id: str | None
    references: dict[str, str]
    created_at: datetime
    expires_at: datetime
    changed_at: datetime
    dispatched_at: datetime | None
    delivered_at: datetime | None
    first_opened_at: datetime | None
    first_clicked_at: datetime | None
    cost: list[Money]
    version: int


class Found(msgspec.Struct, frozen=True):
    """A page, the newest first. `cursor` asks for the next page with the same filters; null = this was the last."""

    notifications: list[Listed]
    cursor: str | None


@get(
    "/v1/notifications",
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="List notifications by filters",
    query=ListFilters,
    problems=[MALFORMED],
)
async def list_notifications(request: Call) -> Found:
    asked = Parameters.of_query(request.scope, known=_IN_QUERY)
    return await _found(services_of(request), asked)


@post(
    "/v1/notifications/search",
    status_code=200,
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="List notifications by filters in the body, also by an address",
    body=SearchFilters,
    problems=[MALFORMED, TOO_LARGE],
)
async def search_notifications(request: Call) -> Found:
    asked = _read_body(await request.body())
    return await _found(services_of(request), asked)


async def _found(services: Services, asked: Parameters) -> Found:
    filters, cursor = filters_of(services.ledger.identity, asked), asked.text("cursor")
    limit = asked.whole("limit", least=1, most=MOST) or LIMIT
    asked.done()
    async with services.ledger.store.connection() as connection:
        try:
            page = await search(connection, filters, cursor=cursor, limit=limit)
        except CursorError:
            raise malformed(Fault("cursor", "is not one that an earlier page gave")) from None
        keys = await services.keys.read(connection, [row.recipient for row in page.rows])
    return Found([listed(row, keys) for row in page.rows], page.cursor)


def _hash(identity: Identity, address: str) -> str:
    """Numbers are kept in E.164; whoever searches may write them as on a letterhead."""
    return identity.address_hash(read_phone(address.strip()) or address)


def filters_of(identity: Identity, asked: Parameters) -> Filters:
    """Return what is asked for; what is wrong with it, `asked` keeps."""
    address = asked.text("recipient")
    if asked.text("reference_name") is not None and asked.text("reference") is None:
        asked.refuse("reference_name", "goes with reference: give both")
    return Filters(
        user_id=asked.text("user_id"),
        channel=asked.word("channel", Channel),
        status=asked.word("status", Status),
        category=asked.word("category", Category),
        type=asked.text("type"),
        template=asked.text("template"),
        template_version=asked.text("template_version"),
        reference=asked.text("reference"),
        reference_name=asked.text("reference_name"),
        correlation_id=asked.text("correlation_id"),
        message_id=asked.text("message_id"),
        provider_message_id=asked.text("provider_message_id"),
        address_hash=None if address is None else _hash(identity, address),
        since=asked.time("from"),
        until=asked.time("to"),
    )


def _read_body(body: bytes) -> Parameters:
    """Read filters from a JSON object: texts, and `limit` as a number; null is as good as absent."""
    raw, faults = object_in(body)
    return filters_in(raw, known=_IN_BODY, faults=faults)


def filters_in(raw: dict[str, Any], *, known: Collection[str], faults: list[Fault]) -> Parameters:
    """Read the filters of an object; `faults` are what is wrong with it already."""
    given = {name: value for name, value in raw.items() if value is not None}
    texts = {name: str(value) for name, value in given.items() if isinstance(value, str | int)}
    return Parameters(texts, known=known, faults=[*faults, *_mistyped(given)])


def _mistyped(given: dict[str, Any]) -> Iterable[Fault]:
    for name, value in given.items():
        wanted, expected = (int, "a number") if name == "limit" else (str, "a text")
        if not isinstance(value, wanted) or isinstance(value, bool):
            yield Fault(shown(name), f"must be {expected}")


def listed(row: LogRow, keys: Keyring) -> Listed:
    """Return a row as it is shown, its person masked."""
    return Listed(
        id=row.notification,
        status=row.status,
        channel=row.channel,
        type=row.type,
        category=row.category,
        lane=row.lane,
        template=row.template,
        locale=row.locale,
        recipient=_recipient(row, keys),
        reason=row.reason,
        attempt_count=row.attempts,
        provider=row.provider,
        provider_message_id=row.provider_message_id,
        source=row.source,
        message_id=row.message_id,
        correlation_id=row.correlation_id,
        references=row.references,
        created_at=row.created_at,
        expires_at=row.expires_at,
        changed_at=row.changed_at,
        dispatched_at=row.dispatched_at,
        delivered_at=row.delivered_at,
        first_opened_at=row.first_opened_at,
        first_clicked_at=row.first_clicked_at,
        cost=msgspec.convert(row.cost, list[Money]),
        version=row.version,
    )


def _recipient(row: LogRow, keys: Keyring) -> Recipient:
    if row.sealed is None:
        return recipient(row.user_id, Personal(), unmasked=False)
    key = keys.get(row.recipient)
    personal = open_personal(row.sealed, row.notification, version=row.sealed_version, topic=row.sealed_topic, key=key)
    return recipient(row.user_id, personal, unmasked=False)
