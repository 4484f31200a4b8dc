"""/console/live: the facts as they are committed, told to a browser as server-sent events (HTML, section 9.2)."""

from collections.abc import AsyncIterator
from datetime import UTC

import msgspec
from litestar import Response, get
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from api.auth import Scope
from api.console.asking import filled_in
from api.console.rendering import page
from api.parameters import Parameters
from api.problems import UNAVAILABLE, ProblemError
from api.services import Call, services_of
from api.tail import Beat, FullError, Line, Skipped, Told
from api.tokens import KeysUnavailableError, TokenRefusedError

_LAST_POSITION = 10**18 - 1
# How long a browser waits before it comes again, in milliseconds.
_RETRY = 2000
# What a fact is about, by the first word of its topic, and where that is looked at.
_PAGES = {"notification": "/console/notifications", "suppression": "/console/suppressions"}


class _Shown(msgspec.Struct, frozen=True):
    """A fact as it stands on the page, where the page's script puts it as text, too."""

    at: str
    words: str
    detail: str
    href: str | None


@get("/console/live", scopes=[Scope.READ], include_in_schema=False)
async def get_live(request: Call) -> Response[str]:
    lines = await services_of(request).tail.last()
    position = lines[0].position if lines else 0
    return page(request, "live.html", facts=[_shown(line) for line in lines], position=position)


@get("/console/live/facts", scopes=[Scope.READ], include_in_schema=False)
async def get_live_facts(request: Call) -> ServerSentEvent:
    """Tell every fact behind the one that the browser has seen last (`Last-Event-ID`, else `after`)."""
    services, after = services_of(request), _after(request)
    try:
        services.tail.check_room()
    except FullError:
        raise ProblemError(UNAVAILABLE, "as many watch already as one process serves") from None
    token = services.sessions.token_of(request)

    async def still_allowed() -> bool:
        try:
            caller = await services.authenticator.caller(token)
        except (TokenRefusedError, KeysUnavailableError):
            return False
        return Scope.READ in caller.scopes

    async def events() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage(data=None, comment="open", retry=_RETRY)
        async for told in services.tail.listen(after, still_allowed):
            yield _event(told)

    return ServerSentEvent(events())


def _after(request: Call) -> int | None:
    asked = filled_in(request.scope, known={"after"})
    # A browser says where it was when it comes again; the address that it comes by is still the first one.
    seen = request.headers.get("Last-Event-ID")
    given = asked if seen is None else Parameters({"Last-Event-ID": seen}, known={"Last-Event-ID"})
    after = given.whole("after" if seen is None else "Last-Event-ID", least=0, most=_LAST_POSITION)
    asked.done()
    given.done()
    return after


def _event(told: Told) -> ServerSentEventMessage:
    match told:
        case Beat():
            # A comment: the network sees that somebody is there, and the page has nothing to do.
            return ServerSentEventMessage(data=None, comment="still here")
        case Skipped(position):
            return ServerSentEventMessage(event="skipped", id=position, data="{}")
        case Line():
            return ServerSentEventMessage(event="fact", id=told.position, data=msgspec.json.encode(_shown(told)))


def _shown(line: Line) -> _Shown:
    at = line.recorded_at
    about = line.topic.partition(".")[0]
    return _Shown(
        at=f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at is not None else "",
        words=line.topic.replace("_", " ").replace(".", ": "),
        detail=line.detail,
        href=f"{_PAGES[about]}/{line.stream}" if about in _PAGES else None,
    )
