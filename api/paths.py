"""Ids of the platform in paths: any text, percent-encoded (RFC 3986, section 2.1), whatever it holds."""

import string
from urllib.parse import quote, unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from api.problems import NOT_FOUND, ProblemError
from templates.envelope import is_identifier

BELOW = ("/v1/recipients/", "/console/recipients/")


def as_sent(app: ASGIApp) -> ASGIApp:
    """Wrap an app: what stands below `BELOW` is routed as it was sent, for an encoded slash parts no path."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(BELOW):
            scope["path"] = quote(scope["raw_path"], safe=string.printable)
        await app(scope, receive, send)

    return routed


def user_id_in(segment: str) -> str:
    """Return the user id that a segment of such a path stands for; one that nobody can have is not found."""
    try:
        user_id = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        user_id = ""
    if not is_identifier(user_id):
        raise ProblemError(NOT_FOUND, "no user has this id")
    return user_id
