"""/console/suppressions: who must not be contacted, why and since when; listed and released by those who may."""

from typing import Any, Final
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from api import suppressions, views
from api.auth import Scope
from api.console.acting import by_hand
from api.console.asking import as_utc, filled_in
from api.console.rendering import page
from api.problems import ProblemError
from api.reasons import fault_of_reason
from api.schemas import SuppressionFilters
from api.services import Call, services_of
from api.sessions import CSRF, form_of
from api.suppressions import BY_HAND, CHANNELS, known_suppression
from handlers.suppressions import list_by_hand, release
from ledger.suppression import Reason
from ledger.values import Category, Channel
from templates.envelope import Fault

_LARGEST: Final = 16 * 1024
_EDIT = (Scope.READ, Scope.RECIPIENTS)


@get("/console/suppressions", scopes=[Scope.READ], include_in_schema=False)
async def get_suppressions(request: Call) -> Response[str]:
    return await _listed(request)


@post(
    "/console/suppressions/search",
    status_code=200,
    scopes=[Scope.READ],
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_search(request: Call) -> Response[str]:
    """Look one address up; it stands in no URL, and not on the answer's page either."""
    form = await _form(request)
    try:
        found = await suppressions.of_address(services_of(request), form, [])
    except ProblemError as exc:
        return await _listed(request, search_faults=exc.faults, status_code=exc.kind.status)
    return await _listed(request, found=found.suppressions)


@post(
    "/console/suppressions",
    status_code=200,
    scopes=_EDIT,
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_suppression(request: Call) -> Response[Any]:
    """List an address; listed so already, it stays as it is."""
    form, ledger = await _form(request), services_of(request).ledger
    try:
        channel, address, grounds = suppressions.listing_in(form, [], now=ledger.clock.now())
    except ProblemError as exc:
        return await _listed(request, add_faults=exc.faults, given=form, status_code=exc.kind.status)
    changed = await list_by_hand(ledger, channel, address, grounds, by=by_hand(request))
    return Redirect(f"/console/suppressions/{changed.known.stream}", status_code=HTTP_303_SEE_OTHER)


@get("/console/suppressions/{suppression_id:uuid}", scopes=[Scope.READ], include_in_schema=False)
async def get_suppression(request: Call, suppression_id: FromPath[UUID]) -> Response[str]:
    return await _one(request, suppression_id)


@post(
    "/console/suppressions/{suppression_id:uuid}/release",
    status_code=200,
    scopes=_EDIT,
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_release(request: Call, suppression_id: FromPath[UUID]) -> Response[Any]:
    """Let an address be used again; what is released already stays so."""
    form, ledger = await _form(request), services_of(request).ledger
    # What is released is one word: why it is listed, and after a slash for which category where it is for one alone.
    reason, _, category = form.pop("entry", "").partition("/")
    form |= {name: value for name, value in (("listed_for", reason), ("category", category)) if value}
    try:
        names, note = suppressions.release_in(form, form.get("reason", ""), fault_of_reason(form.get("reason")))
    except ProblemError as exc:
        return await _one(request, suppression_id, faults=exc.faults, status_code=exc.kind.status)
    await known_suppression(services_of(request), suppression_id)
    await release(ledger, suppression_id, names, by=by_hand(request), note=note)
    return Redirect(f"/console/suppressions/{suppression_id}", status_code=HTTP_303_SEE_OTHER)


async def _form(request: Call) -> dict[str, str]:
    """Return what a form's fields hold; one that is left empty is not given."""
    fields = {name: as_utc(value.strip()) for name, value in (await form_of(request)).items() if name != CSRF}
    return {name: value for name, value in fields.items() if value}


async def _listed(request: Call, *, status_code: int = 200, **what: Any) -> Response[str]:
    known = SuppressionFilters.__struct_encode_fields__
    asked = filled_in(request.scope, known=known)
    chosen = {name: asked.text(name) or "" for name in ("channel", "reason", "category")}
    listed = await suppressions.listed(services_of(request), asked)
    given: dict[str, Any] = {"found": None, "search_faults": (), "add_faults": (), "given": {}, **what}
    return page(
        request,
        "suppressions.html",
        status_code=status_code,
        listed=listed,
        chosen=chosen,
        channels=[str(channel) for channel in Channel],
        reasons=[str(reason) for reason in Reason],
        categories=[str(category) for category in Category],
        listing_channels=[str(channel) for channel in CHANNELS],
        listing_reasons=[str(reason) for reason in BY_HAND],
        **given,
    )


async def _one(
    request: Call, suppression_id: UUID, *, faults: tuple[Fault, ...] | Any = (), status_code: int = 200
) -> Response[str]:
    services = services_of(request)
    known = await known_suppression(services, suppression_id)
    rows = await services.ledger.store.load([suppression_id])
    return page(
        request,
        "suppression.html",
        status_code=status_code,
        shown=suppressions.shown(known, now=services.ledger.clock.now()),
        facts=views.facts(rows),
        faults=faults,
    )
