"""/console/bulk: what a search finds is called off, sent again or let go: shown first, then begun, watched, stopped."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from api.auth import Scope
from api.bulk_actions import SEARCHED_BY, planned, told_of
from api.console.acting import REASON, by_hand
from api.console.asking import as_utc
from api.console.rendering import page
from api.parameters import Parameters
from api.problems import NOT_FOUND, ProblemError
from api.search import filters_of
from api.services import Call, services_of
from api.sessions import CSRF, form_of
from handlers.bulk import MOST, NoSuchActionError, Plan, Progress, TooOldError
from ledger.bulk import Action
from ledger.status import Status
from ledger.values import Category, Channel
from templates.envelope import Fault, is_identifier

_LARGEST: Final = 64 * 1024
_LISTED = 25
_SCOPES = (Scope.READ, Scope.ACT)
_DEEDS: Mapping[Action, str] = {
    Action.CANCEL: "call off",
    Action.RESEND: "send again",
    Action.RELEASE: "release from hold",
}
# The fields of the form that are typed, and what they are called.
_TYPED: Mapping[str, str] = {
    "recipient": "Address",
    "user_id": "User",
    "type": "Type",
    "template": "Template",
    "template_version": "Template version",
    "reference": "Reference",
    "message_id": "Message id",
    "correlation_id": "Correlation id",
    "provider_message_id": "Provider's id",
}


@get("/console/bulk", scopes=_SCOPES, include_in_schema=False)
async def get_bulk(request: Call) -> Response[str]:
    return await _start(request)


@post("/console/bulk", status_code=200, scopes=_SCOPES, request_max_body_size=_LARGEST, include_in_schema=False)
async def post_bulk(request: Call) -> Response[str]:
    """Show what would be done; nothing is."""
    form = await form_of(request)
    given = {name: as_utc(value.strip()) for name, value in form.items() if name != CSRF and value.strip()}
    action, services = given.pop("action", ""), services_of(request)
    faults = [] if action in set(Action) else [Fault("action", f"must be {' or '.join(Action)}")]
    asked = Parameters(given, known=SEARCHED_BY, faults=faults)
    filters = filters_of(services.ledger.identity, asked)
    if not told_of(filters):
        asked.refuse("", "Fill in at least one field: nobody means everything.")
    try:
        asked.done()
        plan = await planned(services, Action(action), filters, by=by_hand(request))
    except ProblemError as exc:
        return await _start(request, given={"action": action, **given}, faults=exc.faults, status_code=400)
    return _confirm(request, plan.id, plan=plan)


@post(
    "/console/bulk/{action_id:uuid}/begin",
    status_code=200,
    scopes=_SCOPES,
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_begin(request: Call, action_id: FromPath[UUID]) -> Response[Any]:
    """Have done what was shown, however often it is asked for."""
    reason = (await form_of(request)).get("reason", "").strip()
    if not is_identifier(reason):
        return _confirm(request, action_id, fault=REASON.message, status_code=400)
    try:
        await services_of(request).bulk.begin(action_id, by=by_hand(request), reason=reason)
    except NoSuchActionError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None
    except TooOldError as exc:
        return await _start(request, faults=[Fault("", str(exc))], status_code=409)
    return _watched(action_id)


@get("/console/bulk/{action_id:uuid}", scopes=_SCOPES, include_in_schema=False)
async def get_action(request: Call, action_id: FromPath[UUID]) -> Response[str]:
    return _progress(request, await _read(request, action_id))


@post(
    "/console/bulk/{action_id:uuid}/stop",
    status_code=200,
    scopes=_SCOPES,
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_stop(request: Call, action_id: FromPath[UUID]) -> Response[Any]:
    reason = (await form_of(request)).get("reason", "").strip()
    progress = await _read(request, action_id)
    if not is_identifier(reason):
        return _progress(request, progress, fault=REASON.message, status_code=400)
    await services_of(request).bulk.stop(action_id, by=by_hand(request), reason=reason)
    return _watched(action_id)


async def _read(request: Call, action_id: UUID) -> Progress:
    try:
        return await services_of(request).bulk.progress(action_id)
    except NoSuchActionError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None


def _watched(action_id: UUID) -> Redirect:
    return Redirect(f"/console/bulk/{action_id}", status_code=HTTP_303_SEE_OTHER)


async def _start(
    request: Call,
    *,
    given: Mapping[str, str] | None = None,
    faults: Sequence[Fault] = (),
    status_code: int = 200,
) -> Response[str]:
    return page(
        request,
        "bulk.html",
        status_code=status_code,
        begun=await services_of(request).bulk.listed(limit=_LISTED),
        deeds=_DEEDS,
        typed=_TYPED,
        words={
            "status": [str(status) for status in Status],
            "channel": [str(channel) for channel in Channel],
            "category": [str(category) for category in Category],
        },
        # An address that was typed is not said again by a page.
        given={name: value for name, value in (given or {}).items() if name != "recipient"},
        faults=faults,
        most=MOST,
    )


def _confirm(
    request: Call, action_id: UUID, *, plan: Plan | None = None, fault: str = "", status_code: int = 200
) -> Response[str]:
    return page(
        request,
        "bulk_confirm.html",
        status_code=status_code,
        id=action_id,
        plan=plan,
        fault=fault,
        deeds=_DEEDS,
    )


def _progress(request: Call, progress: Progress, *, fault: str = "", status_code: int = 200) -> Response[str]:
    refused = sum(one.count for one in progress.refused.values())
    return page(
        request,
        "bulk_action.html",
        status_code=status_code,
        progress=progress,
        refused=refused,
        is_over=progress.ended_at is not None,
        deed=_DEEDS[progress.action],
        fault=fault,
    )
