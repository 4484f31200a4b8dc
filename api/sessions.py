"""Sessions of the console: the token that the API takes, in a cookie, and the proof that a form was one of ours."""

import re
import secrets
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie

from api.problems import FORM_REFUSED, UNAUTHENTICATED, AnyRequest, ProblemError, malformed
from ledger.keys import Identity
from templates.envelope import Fault

PATH = "/console"
SESSION = "console_session"
# Whoever has not signed in yet is known by this alone: the form that signs in is bound to it.
VISITOR = "console_visitor"
CSRF = "csrf"
# Browsers drop a cookie that is longer than 4096 bytes with its name and attributes, without a word (RFC 6265).
LONGEST_TOKEN = 3800
_MOST_FIELDS = 200
# How long browsers keep a cookie at most (RFC 6265bis), in seconds.
_LONGEST_LIFE = 400 * 86_400
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_HERE = re.compile(re.escape(PATH) + r"(?:[/?][!#-\[\]-~]*)?")

AnyConnection = ASGIConnection[Any, Any, Any, Any]


class Sessions:
    """Reads the cookies of the console, makes them, and lets no form in that is not its own.

    `public_url` is where people reach us from outside. `offered` mints a token for whoever asks: a sandbox's alone.
    """

    def __init__(self, identity: Identity, *, public_url: str, offered: Callable[[], str] | None = None) -> None:
        self._identity = identity
        self._public = urlsplit(public_url)
        self._offered = offered

    def token_of(self, connection: AnyConnection) -> str:
        """Return the token of a request's cookie. Raises ProblemError where there is none."""
        token = connection.cookies.get(SESSION)
        if not token:
            raise ProblemError(UNAUTHENTICATED, "nobody is signed in")
        return token

    def visitor_of(self, connection: AnyConnection) -> str:
        """Return what whoever is not signed in is known by; drawn where their browser has nothing yet."""
        return connection.cookies.get(VISITOR) or secrets.token_urlsafe(16)

    def csrf(self, connection: AnyConnection, visitor: str = "") -> str:
        """Return what each form of a page carries: it is good for the session (or the visitor) that got the page."""
        bound = connection.cookies.get(SESSION) or visitor or connection.cookies.get(VISITOR, "")
        return self._identity.signature("console", sha256(bound.encode("utf-8", "surrogateescape")).digest()).hex()

    async def check(self, connection: AnyConnection) -> None:
        """Refuse a request that changes something unless it comes from a page of ours, of the same session."""
        if not isinstance(connection, Request):
            raise ProblemError(FORM_REFUSED, "it was no form")
        if connection.method in _SAFE:
            return
        if not self._is_ours(connection.headers.get("origin", ""), connection.headers.get("host", "")):
            raise ProblemError(FORM_REFUSED, "it was sent from another site")
        given = (await form_of(connection)).get(CSRF, "")
        is_bound = connection.cookies.get(SESSION) or connection.cookies.get(VISITOR)
        if not is_bound or not compare_digest(given.encode(), self.csrf(connection).encode()):
            raise ProblemError(FORM_REFUSED, "the page that it was sent from is older than the sign-in; load it anew")

    def cookie(self, connection: AnyConnection, token: str, *, seconds: int) -> Cookie:
        """Return the cookie that carries a token for so long."""
        return _cookie(connection, SESSION, token, max_age=max(0, min(seconds, _LONGEST_LIFE)))

    def visitor(self, connection: AnyConnection, visitor: str) -> Cookie:
        """Return the cookie by which a visitor is known until the browser is closed."""
        return _cookie(connection, VISITOR, visitor, max_age=None)

    def offered(self, connection: AnyConnection) -> str | None:
        """Return a token for whoever asks; None but in a sandbox, asked from its own machine."""
        # By another name it may be somebody's website whose name was made to lead here.
        if self._offered is None or not _is_loopback(connection):
            return None
        return self._offered()

    def offers(self, connection: AnyConnection) -> bool:
        """Whether a token is had for the asking."""
        return self._offered is not None and _is_loopback(connection)

    def _is_ours(self, origin: str, host: str) -> bool:
        try:
            sent = urlsplit(origin)
        except ValueError:
            return False
        is_public = (sent.scheme, sent.netloc) == (self._public.scheme, self._public.netloc)
        return bool(sent.netloc) and (is_public or sent.netloc.lower() == host.lower())


async def form_of(request: AnyRequest) -> dict[str, str]:
    """Return the fields of a form that stand in it once; what stands there several times are boxes (`boxes_of`)."""
    pairs = await _pairs(request)
    names = [name for name, _ in pairs]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return {name: value for name, value in pairs if name not in twice}


async def boxes_of(request: AnyRequest, name: str) -> Sequence[str]:
    """Return the values of all boxes of one name that are ticked."""
    return [value for each, value in await _pairs(request) if each == name]


def is_here(target: str) -> bool:
    """Whether somebody may be sent there after signing in: a page of the console, and no other site."""
    return _HERE.fullmatch(target) is not None


def is_console(path: str) -> bool:
    """Whether a path is one of the console's."""
    return path == PATH or path.startswith(f"{PATH}/")


async def _pairs(request: AnyRequest) -> list[tuple[str, str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise malformed(Fault("", f"must be a form ({_FORM})"))
    try:
        text = (await request.body()).decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise malformed(Fault("", "is not a form that can be read")) from None


def _cookie(connection: AnyConnection, name: str, value: str, *, max_age: int | None) -> Cookie:
    is_local = connection.scope["scheme"] == "http" and _is_loopback(connection)
    return Cookie(
        key=name,
        value=value,
        max_age=max_age,
        path=PATH,
        httponly=True,
        samesite="strict",
        secure=not is_local,
    )


def _is_loopback(connection: AnyConnection) -> bool:
    try:
        name = urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
