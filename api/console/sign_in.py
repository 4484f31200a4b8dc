"""Signing in with the token that the API takes, and out again."""

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from api.auth import ANY_TOKEN
from api.console.rendering import page
from api.parameters import Parameters
from api.problems import NOT_FOUND, AnyRequest, ProblemError
from api.services import Call, services_of
from api.sessions import LONGEST_TOKEN, PATH, SESSION, form_of, is_here
from api.tokens import KeysUnavailableError, TokenRefusedError

# A token, the page to go to, and the CSRF token.
_LARGEST = 32 * 1024

_log = structlog.get_logger("api.console")


@get("/console/sign-in", include_in_schema=False)
async def get_sign_in(request: AnyRequest) -> Response[str]:
    asked = Parameters.of_query(request.scope, known={"to"})
    target = _target(asked.text("to") or "")
    return _form(request, target)


@post("/console/sign-in", status_code=200, request_max_body_size=_LARGEST, include_in_schema=False)
async def post_sign_in(request: AnyRequest) -> Response[Any]:
    form = await form_of(request)
    token, target = form.get("token", "").strip().removeprefix("Bearer ").strip(), _target(form.get("to", ""))
    if not token:
        return _form(request, target, fault="Paste your token: the field is empty.")
    if len(token) > LONGEST_TOKEN:
        return _form(request, target, fault=f"The token is too long to be kept by a browser (over {LONGEST_TOKEN:,}).")
    return await _signed_in(request, token, target)


@post("/console/sign-in/sandbox", status_code=200, request_max_body_size=_LARGEST, include_in_schema=False)
async def post_sandbox_sign_in(request: AnyRequest) -> Response[Any]:
    token = services_of(request).sessions.offered(request)
    if token is None:
        raise ProblemError(NOT_FOUND)
    return await _signed_in(request, token, _target((await form_of(request)).get("to", "")))


@post("/console/sign-out", status_code=200, scopes=ANY_TOKEN, include_in_schema=False)
async def post_sign_out(request: Call) -> Response[Any]:
    leaving = Redirect(f"{PATH}/sign-in", status_code=HTTP_303_SEE_OTHER)
    leaving.set_cookie(services_of(request).sessions.cookie(request, "", seconds=0))
    return leaving


async def _signed_in(request: AnyRequest, token: str, target: str) -> Response[Any]:
    services = services_of(request)
    try:
        caller = await services.authenticator.caller(token)
        seconds = await services.authenticator.lifetime(token)
    except TokenRefusedError as exc:
        return _form(request, target, fault=f"The token is not valid: {exc}.")
    except KeysUnavailableError:
        fault = "The keys that tokens are checked by cannot be had just now. Try again in a moment."
        return _form(request, target, fault=fault, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
    _log.info("signed_in", subject=caller.subject)
    entering = Redirect(target, status_code=HTTP_303_SEE_OTHER)
    entering.set_cookie(services.sessions.cookie(request, token, seconds=seconds))
    return entering


def _form(request: AnyRequest, target: str, *, fault: str = "", status_code: int | None = None) -> Response[str]:
    sessions = services_of(request).sessions
    visitor = "" if SESSION in request.cookies else sessions.visitor_of(request)
    shown = page(
        request,
        "sign_in.html",
        status_code=status_code or (HTTPStatus.UNAUTHORIZED if fault else HTTPStatus.OK),
        visitor=visitor,
        target=target,
        fault=fault,
        offers=sessions.offers(request),
    )
    if visitor:
        shown.set_cookie(sessions.visitor(request, visitor))
    return shown


def _target(asked: str) -> str:
    """Return the page to go to: one of ours, whatever was asked for."""
    return asked if is_here(asked) else PATH
