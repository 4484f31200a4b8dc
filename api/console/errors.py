"""What goes wrong below /console is said on a page in plain words; everywhere else it stays a problem for programs."""

from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from typing import Any
from urllib.parse import urlencode

from litestar import Response
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER
from litestar.types import ExceptionHandlersMap

from api.console.rendering import page
from api.problems import FORM_REFUSED, NEWER_RELEASE, AnyRequest, Problem
from api.sessions import PATH, is_console

SIGN_IN = f"{PATH}/sign-in"
# What htmx asks for is put in the place of the whole page, when it is an error.
_IN_PLACE = {"HX-Retarget": "main", "HX-Reselect": "main", "HX-Reswap": "outerHTML"}
_WORDS = {
    400: ("This cannot be understood", "Something in what was sent is not as it must be."),
    401: ("You are not signed in", "Your sign-in has ended, or there was none. Sign in, and do it again."),
    403: ("You may not do this", "Your sign-in does not allow it."),
    404: ("There is no such thing", "It may have been mistyped, or it is no longer kept."),
    405: ("This cannot be done here", "The address is right, but not for this. Go back, and use the page's own form."),
    409: ("It has changed meanwhile", "What you wanted to decide on is not as it was. Look again."),
    410: ("It is no longer kept", "It was kept for its time, and then deleted."),
    413: ("That is too much", "What was sent is larger than anything that is expected here."),
    422: ("That will not do", "Something in what was sent is not as it must be."),
    503: (
        "It cannot be done just now",
        "The service or its database is busy. Nothing was changed; try again soon.",
    ),
}
_OF_KIND = {
    FORM_REFUSED.type: ("This form was not taken", "It was not sent from a page of this sign-in, so nothing was done."),
    NEWER_RELEASE.type: (
        "It cannot be shown here yet",
        "A newer release wrote what this one cannot read.",
    ),
}
_UNEXPECTED = ("Something went wrong here", "It is our fault, not yours, and it has been noted. Try again in a moment.")

Handler = Callable[[AnyRequest, Any], Response[Any]]


def told_to_people(handlers: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """Return the handlers of the API, with what they say of the console's pages turned into pages."""
    return {kind: _told(handler) for kind, handler in handlers.items()}


def _told(handler: Any) -> Handler:
    def answer(request: AnyRequest, error: Any) -> Response[Any]:
        answered: Response[Problem] = handler(request, error)
        if not is_console(request.scope["path"]):
            return answered
        if answered.content.status == HTTPStatus.UNAUTHORIZED:
            return _sign_in(request, answered.content)
        return _page(request, answered.content)

    return answer


def _sign_in(request: AnyRequest, problem: Problem) -> Response[Any]:
    """Send whoever only looks to the sign-in and back; who was about to change something is told first."""
    back = urlencode({"to": _asked_for(request)})
    if request.headers.get("HX-Request"):
        return Response(None, status_code=HTTPStatus.OK, headers={"HX-Redirect": f"{SIGN_IN}?{back}"})
    if request.method == HTTPMethod.GET:
        return Redirect(f"{SIGN_IN}?{back}", status_code=HTTP_303_SEE_OTHER)
    return _page(request, problem)


def _asked_for(request: AnyRequest) -> str:
    if request.method != HTTPMethod.GET:
        return PATH
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _page(request: AnyRequest, problem: Problem) -> Response[str]:
    title, sentence = _OF_KIND.get(problem.type) or _WORDS.get(problem.status, _UNEXPECTED)
    return page(
        request,
        "error.html",
        status_code=problem.status,
        headers=_IN_PLACE if request.headers.get("HX-Request") else {},
        title=title,
        sentence=sentence,
        problem=problem,
    )
