"""/v1/bulk-actions: what a search has found is called off, sent again or let go: shown first, then begun."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from api.auth import Scope
from api.bodies import members_in
from api.parameters import Parameters
from api.problems import MALFORMED, NOT_FOUND, TOO_LARGE, TOO_LATE, ProblemError, malformed
from api.reasons import reason_in
from api.schemas import BulkAction, SearchFilters, Why
from api.search import filters_in, filters_of
from api.services import Call, Services, services_of
from handlers.bulk import MOST, Found, NoSuchActionError, Plan, Progress, TooManyError, TooOldError
from ledger.bulk import Action
from ledger.store import Store
from ledger.values import Channel
from projections.notification_search import Filters, search
from templates.envelope import Fault, is_identifier

# A search without its pages.
SEARCHED_BY = tuple(name for name in SearchFilters.__struct_encode_fields__ if name not in {"cursor", "limit"})
_MEMBERS = BulkAction.__struct_encode_fields__
_PAGE = 1_000
_LISTED = 100
_PLANNED = {200: ResponseSpec(Plan, description="With `dry_run`: what would be done", generate_examples=False)}


class BulkActions(msgspec.Struct, frozen=True):
    """What was begun, the newest first."""

    actions: list[Progress]


class _Confirmed(msgspec.Struct, frozen=True):
    """Somebody has seen what would be done, and wants it."""

    plan: UUID
    reason: str


class _Asked(msgspec.Struct, frozen=True):
    """Somebody wants to see what would be done."""

    action: Action
    filters: Filters


@post(
    "/v1/bulk-actions",
    status_code=202,
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="Call off, send again or let go what a search finds",
    description="In two steps. With `dry_run`, `action` and `filters`: 200, how many there are and what would become of"
    f" them; nothing is done. Then, within an hour, with its id as `confirm` and a `reason`: exactly those are dealt"
    f" with, in the background, and 202 says how far it is. At most {MOST} at once. A confirmation may be repeated.",
    body=BulkAction,
    problems=[MALFORMED, TOO_LATE, TOO_LARGE],
    responses=_PLANNED,
)
async def post_bulk_action(request: Call) -> Response[Progress] | Response[Plan]:
    Parameters.of_query(request.scope, known=()).done()
    services, by = services_of(request), f"api:{request.user.subject}"
    asked = _read(services, await request.body())
    if isinstance(asked, _Asked):
        return Response(await planned(services, asked.action, asked.filters, by=by), status_code=200)
    try:
        return Response(await services.bulk.begin(asked.plan, by=by, reason=asked.reason), status_code=202)
    except NoSuchActionError:
        raise malformed(Fault("confirm", "is none that a dry run has given")) from None
    except TooOldError as exc:
        raise ProblemError(TOO_LATE, str(exc)) from None


@get(
    "/v1/bulk-actions",
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary=f"List the last {_LISTED} actions on many notifications",
    problems=[MALFORMED],
)
async def list_bulk_actions(request: Call) -> BulkActions:
    Parameters.of_query(request.scope, known=()).done()
    return BulkActions(await services_of(request).bulk.listed(limit=_LISTED))


@get(
    "/v1/bulk-actions/{action_id:uuid}",
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="How far an action on many notifications is",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_bulk_action(request: Call, action_id: FromPath[UUID]) -> Progress:
    Parameters.of_query(request.scope, known=()).done()
    try:
        return await services_of(request).bulk.progress(action_id)
    except NoSuchActionError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None


@post(
    "/v1/bulk-actions/{action_id:uuid}/stop",
    status_code=200,
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="Let the rest of an action on many notifications be",
    description="What was done stays so. Where it has ended already, nothing happens.",
    body=Why,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE],
)
async def post_bulk_stop(request: Call, action_id: FromPath[UUID]) -> Progress:
    Parameters.of_query(request.scope, known=()).done()
    reason = reason_in(await request.body(), required=True)
    try:
        return await services_of(request).bulk.stop(action_id, by=f"api:{request.user.subject}", reason=reason)
    except NoSuchActionError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None


async def found_by(store: Store, filters: Filters) -> list[Found]:
    """Return what a search finds, the newest first, and one more than one action may be about where there are more."""
    found: list[Found] = []
    cursor = None
    async with store.connection() as connection:
        while len(found) <= MOST:
            page = await search(connection, filters, cursor=cursor, limit=_PAGE)
            found += [Found(row.notification, row.status, row.type, Channel(row.channel)) for row in page.rows]
            if (cursor := page.cursor) is None:
                break
    return found[: MOST + 1]


def told_of(filters: Filters) -> dict[str, str]:
    """Return filters as the record of an action keeps them: an address stands there as its hash."""
    given = msgspec.to_builtins(filters)
    return {name: str(value) for name, value in given.items() if value}


async def planned(services: Services, action: Action, filters: Filters, *, by: str) -> Plan:
    """Say what would be done to what a search finds; nothing is. Raises ProblemError where that is too much."""
    found = await found_by(services.ledger.store, filters)
    try:
        return await services.bulk.show(action, found, told_of(filters), by=by)
    except TooManyError as exc:
        raise malformed(Fault("filters", str(exc))) from None


def _read(services: Services, body: bytes) -> _Asked | _Confirmed:
    """Read what is wanted; all faults at once. Nothing is done that was not shown before."""
    raw, faults = members_in(body, _MEMBERS)
    given = {name: value for name, value in raw.items() if value is not None}
    is_dry_run = given.pop("dry_run", False)
    if not isinstance(is_dry_run, bool):
        faults.append(Fault("dry_run", "must be true or false"))
    if "reason" in given and not is_identifier(given["reason"]):
        faults.append(Fault("reason", "must be 1 to 200 printable characters"))
    read = _asked(services, given, faults) if is_dry_run is True else _confirmed(given, faults)
    if faults or read is None:
        raise malformed(*faults)
    return read


def _confirmed(given: dict[str, Any], faults: list[Fault]) -> _Confirmed | None:
    faults += [Fault(name, "goes with dry_run alone") for name in ("action", "filters") if name in given]
    if "reason" not in given:
        faults.append(Fault("reason", "is required"))
    try:
        plan = UUID(given["confirm"])
    except KeyError:
        faults.append(Fault("confirm", "is required: the id that a dry run has given"))
    except (ValueError, AttributeError, TypeError):
        faults.append(Fault("confirm", "must be the id that a dry run has given"))
    else:
        return None if faults else _Confirmed(plan, given["reason"])
    return None


def _asked(services: Services, given: dict[str, Any], faults: list[Fault]) -> _Asked | None:
    if "confirm" in given:
        faults.append(Fault("confirm", "does not go with dry_run"))
    if given.get("action") not in list(Action):
        faults.append(Fault("action", f"must be {' or '.join(Action)}"))
    raw = given.get("filters")
    if not isinstance(raw, dict) or not raw:
        faults.append(Fault("filters", "must be an object with at least one filter: nobody means everything"))
        return None
    asked = filters_in(raw, known=SEARCHED_BY, faults=[])
    filters = filters_of(services.ledger.identity, asked)
    try:
        asked.done()
    except ProblemError as exc:
        faults += [Fault(f"filters.{fault.path}", fault.message) for fault in exc.faults]
    if not faults and not told_of(filters):
        faults.append(Fault("filters", "must hold at least one filter: nobody means everything"))
    return None if faults else _Asked(Action(given["action"]), filters)
