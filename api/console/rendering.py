"""Pages made of templates: everything that comes from outside is escaped, and a name that is not given is an error."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response
from markupsafe import Markup

from api.auth import Scope
from api.console.assets import url_of
from api.problems import AnyRequest
from api.services import services_of
from api.sessions import CSRF
from api.tokens import Caller


class Link(msgspec.Struct, frozen=True):
    """An entry of the navigation, for whoever has the scope."""

    path: str
    name: str
    scope: Scope = Scope.READ


NAVIGATION = (
    Link("/console", "Search"),
    Link("/console/suppressions", "Suppression list"),
    Link("/console/bulk", "Many at once", Scope.ACT),
    Link("/console/templates", "Templates"),
    Link("/console/statistics", "Statistics"),
    Link("/console/live", "Live"),
)


def page(
    request: AnyRequest,
    template: str,
    *,
    status_code: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    visitor: str = "",
    **what: Any,
) -> Response[str]:
    """Return a page of `pages/`. Beside `what`, it knows `caller`, `may(scope)`, `navigation`, `csrf_field` and `here`.

    `visitor` is what whoever is not signed in is known by from now on.
    """
    caller: Caller | None = request.scope.get("user")
    html = (
        _environment()
        .get_template(template)
        .render(
            caller=caller,
            may=lambda scope: caller is not None and Scope(scope) in caller.scopes,
            navigation=[link for link in NAVIGATION if caller is not None and link.scope in caller.scopes],
            csrf_field=_csrf_field(services_of(request).sessions.csrf(request, visitor)),
            here=request.scope["path"].rstrip("/"),
            **what,
        )
    )
    return Response(html, status_code=status_code, media_type=MediaType.HTML, headers=dict(headers or {}))


def moment(time: datetime | None) -> Markup:
    """Return a time as people read it, in UTC and to the second, and as programs do."""
    if time is None:
        return Markup('<span class="none">not yet</span>')
    utc = time.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S} UTC")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def sentence(words: str) -> str:
    """Return what stands within sentences elsewhere as one of its own."""
    return f"{words[:1].upper()}{words[1:]}."


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("api.console", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The pages are part of the release: nobody changes them under a running process.
        auto_reload=False,
    )
    environment.globals["asset"] = url_of
    environment.filters |= {"moment": moment, "plural": plural, "listed": listed, "sentence": sentence}
    return environment


def _csrf_field(csrf: str) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF, csrf)
