"""Who may call what: every route declares its scopes, the public ones stand here with their reasons (promise I17)."""

from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from api.correlation import correlation_of
from api.problems import SCOPE_MISSING, UNAUTHENTICATED, UNAVAILABLE, ProblemError
from api.sessions import Sessions, is_console
from api.tokens import Authenticator, KeysUnavailableError, TokenRefusedError


class Scope(StrEnum):
    """What a token may allow."""

    WRITE = "notifications:write"
    READ = "notifications:read"
    ACT = "notifications:act"
    PII = "pii:read"
    RECIPIENTS = "recipients:write"
    TEMPLATES = "templates:write"
    OPERATIONS = "operations"


# Whoever has a valid token, whatever it allows: for what describes the service and holds no data.
ANY_TOKEN: Collection[Scope] = ()
PUBLIC = {
    "/callbacks/ses": "SNS has no token of ours; what it posts is verified by its signature",
    "/callbacks/twilio": "nor has Twilio; what it posts is verified by its signature over our public URL",
    "/callbacks/twilio/inbound": "as /callbacks/twilio",
    "/v1/receipts/{token}": "an app on a stranger's device has no token of ours; the receipt itself is signed",
    "/unsubscribe/{token}": "whoever got the mail has no token of ours but the link's own, which is signed",
    "/console/sign-in": "whoever is to sign in has not yet; holds no data",
    "/console/sign-in/sandbox": "a sandbox lets in whoever asks, and guards nothing; elsewhere there is no such thing",
    "/console/static/{name}": "how the console's pages look and what they are driven by; holds no data",
    "/health/liveness": "the orchestrator has no token; says only that the process runs",
    "/health/readiness": "the orchestrator has no token; names what is missing, no more",
    "/metrics": "served on OPS_PORT alone, which is not for the outside; holds no personal data",
    "/schema": "describes the interface, holds no data",
    "/schema/openapi.json": "as /schema",
    "/schema/openapi.yaml": "as /schema",
    "/schema/{path}": "as /schema; whatever else is asked for below it is not there",
}
_CHALLENGE = 'Bearer realm="notification-ledger"'


class UndeclaredRouteError(Exception):
    """A route declares no scope and is not among the public ones: the process does not start."""


class Guard:
    """Lets a request through to its handler, or not (Litestar guard).

    Ours instead of Litestar's JWT backend: that one needs PyJWT, verifies every token of every request anew, and
    opens what is not excluded by a pattern to any valid token; here nothing opens that does not say to whom.
    """

    def __init__(self, authenticator: Authenticator, sessions: Sessions) -> None:
        self._authenticator = authenticator
        self._sessions = sessions

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        correlation_of(connection.scope)
        path = connection.scope["path_template"]
        if is_console(path):
            await self._sessions.check(connection)
        if path in PUBLIC:
            return
        needed = declared(handler)
        # A browser sends its cookie along by itself, so it opens nothing but what `check` stands before.
        token = self._sessions.token_of(connection) if is_console(path) else _bearer(connection)
        try:
            caller = await self._authenticator.caller(token)
        except TokenRefusedError as exc:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            raise ProblemError(UNAUTHENTICATED, str(exc), headers={"WWW-Authenticate": challenge}) from None
        except KeysUnavailableError as exc:
            raise ProblemError(UNAVAILABLE, str(exc)) from None
        if needed is None or not needed <= caller.scopes:
            raise _lacking(sorted((needed or frozenset()) - caller.scopes))
        connection.scope["user"] = caller


def declared(handler: BaseRouteHandler) -> frozenset[str] | None:
    """Return the scopes that a route declares (`scopes=` of its decorator); None = nobody may call it."""
    scopes: Collection[str] | None = handler.opt.get("scopes")
    return None if scopes is None else frozenset(scopes)


def operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Return path, method and handler of everything that may be called.

    Litestar adds an OPTIONS handler to each path: it declares nothing, so nobody may call it.
    """
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise UndeclaredRouteError(f"{route.path_format} is not plain HTTP: no guard stands before it")
        for handler in route.route_handlers:
            for method in handler.http_methods - {HttpMethod.OPTIONS}:
                yield route.path_format, str(method), handler


def check_all_declared(app: Litestar) -> None:
    """Raise UndeclaredRouteError for a route without a scope that is not public."""
    for path, method, handler in operations(app):
        if path not in PUBLIC and declared(handler) is None:
            raise UndeclaredRouteError(f"{method} {path} declares no scope")


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ProblemError(UNAUTHENTICATED, "no bearer token", headers={"WWW-Authenticate": _CHALLENGE})
    return token.strip()


def _lacking(scopes: list[str]) -> ProblemError:
    named = " ".join(scopes)
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{named}"'
    detail = f"needs the scope {named}" if named else "nobody may call it"
    return ProblemError(SCOPE_MISSING, detail, headers={"WWW-Authenticate": challenge})
