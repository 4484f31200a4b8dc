"""/console/: whatever a caller says is looked for; it comes in a form's body, for addresses never stand in a URL."""

from typing import Any

import msgspec
from litestar import Response, get, post

from api.auth import Scope
from api.console.asking import as_utc
from api.console.rendering import page
from api.finding import Found, find
from api.parameters import Parameters
from api.problems import ProblemError
from api.said import UnsearchableError
from api.search import filters_of
from api.services import Call, services_of
from api.sessions import CSRF, form_of
from ledger.status import Status
from ledger.values import Category, Channel
from projections.notification_search import CursorError
from templates.envelope import Fault

ROWS = 25
_LARGEST = 64 * 1024
_TEXT, _CURSOR = "text", "cursor"
_FILTERS = ("status", "channel", "category", "type", "template", "template_version", "from", "to")
_KNOWN = frozenset({_TEXT, _CURSOR, *_FILTERS})
# What something was found by, as people say it.
_BY = {
    "address": "address",
    "device": "device",
    "notification": "its own id",
    "user_id": "user",
    "reference": "reference",
    "message_id": "message id",
    "correlation_id": "correlation id",
    "provider_message_id": "provider's id",
}


class Asked(msgspec.Struct, frozen=True):
    """What stands in the form: as it was typed, so that it need not be typed again."""

    text: str
    filters: dict[str, str]

    @property
    def is_narrowed(self) -> bool:
        """Whether any filter is set."""
        return any(self.filters.values())


@get("/console", scopes=[Scope.READ], include_in_schema=False)
async def get_search(request: Call) -> Response[str]:
    return _page(request, Asked("", dict.fromkeys(_FILTERS, "")))


@post("/console", status_code=200, scopes=[Scope.READ], request_max_body_size=_LARGEST, include_in_schema=False)
async def post_search(request: Call) -> Response[str]:
    form = await form_of(request)
    asked = Asked(form.get(_TEXT, "").strip(), {name: form.get(name, "").strip() for name in _FILTERS})
    given = {name: as_utc(value.strip()) for name, value in form.items() if name != CSRF and value.strip()}
    try:
        found = await _found(request, asked, Parameters(given, known=_KNOWN))
    except ProblemError as exc:
        return _page(request, asked, faults=exc.faults, status_code=422)
    except UnsearchableError as exc:
        return _page(request, asked, faults=[Fault(_TEXT, str(exc))], status_code=422)
    except CursorError:
        return _page(request, asked, faults=[Fault(_CURSOR, "is not one that an earlier page gave")], status_code=422)
    return _page(request, asked, found=found, is_first=_CURSOR not in given)


async def _found(request: Call, asked: Asked, given: Parameters) -> Found:
    services = services_of(request)
    filters, cursor = filters_of(services.ledger.identity, given), given.text(_CURSOR)
    given.done()
    return await find(services, asked.text or None, narrowed=filters, cursor=cursor, limit=ROWS)


def _page(request: Call, asked: Asked, *, status_code: int = 200, **what: Any) -> Response[str]:
    return page(
        request,
        "search.html",
        status_code=status_code,
        asked=asked,
        choices={"status": list(Status), "channel": list(Channel), "category": list(Category)},
        known_by=_BY,
        **{"found": None, "is_first": True, "faults": [], **what},
    )
