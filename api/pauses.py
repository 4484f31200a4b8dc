"""/v1/pauses: the stop button, over HTTP."""

from datetime import datetime
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from api.auth import Scope
from api.parameters import Parameters
from api.problems import MALFORMED, NOT_FOUND, TOO_LARGE, ProblemError, malformed
from api.reasons import reason_among, reason_in
from api.schemas import Pause, Why
from api.services import Call, services_of
from handlers.pauses import NoSuchPauseError, NothingSuchError
from ledger.operations import Paused, Selector
from ledger.values import Channel
from templates.envelope import Fault, is_identifier


class ShownPause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause in force: it stops what has all of type, channel and provider that it names; none named = everything."""

    id: UUID
    type: str | None
    channel: Channel | None
    provider: str | None
    since: datetime
    reason: str
    by: str


class ShownPauses(msgspec.Struct, frozen=True):
    """The pauses in force, the earliest first."""

    pauses: list[ShownPause]


_NAMES = ("type", "channel", "provider", "all")
_IDENTIFIER = "must be 1 to 200 printable characters"
_NOWHERE = "is not known here: a pause of it would stop nothing"
_SAME = {200: ResponseSpec(ShownPause, description="The same is paused already", generate_examples=False)}


@get(
    "/v1/pauses",
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="List what is paused",
    problems=[MALFORMED],
)
async def list_pauses(request: Call) -> ShownPauses:
    Parameters.of_query(request.scope, known=()).done()
    return ShownPauses([shown(pause) for pause in await services_of(request).pauses.listed()])


@post(
    "/v1/pauses",
    status_code=201,
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="Stop sending: by type, channel, provider, or all of it",
    body=Pause,
    problems=[MALFORMED, TOO_LARGE],
    responses=_SAME,
)
async def post_pause(request: Call) -> Response[ShownPause]:
    Parameters.of_query(request.scope, known=()).done()
    selector, reason = _read(await request.body())
    try:
        begun = await services_of(request).pauses.begin(selector, by=_by(request), reason=reason)
    except NothingSuchError as exc:
        raise malformed(*(Fault(name, _NOWHERE) for name in exc.names)) from None
    return Response(shown(begun.pause), status_code=201 if begun.is_new else 200)


@post(
    "/v1/pauses/{pause_id:uuid}/resume",
    status_code=204,
    scopes=[Scope.OPERATIONS],
    tags=["operations"],
    summary="End a pause",
    body=Why,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE],
)
async def post_resume(request: Call, pause_id: FromPath[UUID]) -> None:
    Parameters.of_query(request.scope, known=()).done()
    reason = reason_in(await request.body(), required=True)
    try:
        await services_of(request).pauses.end(pause_id, by=_by(request), reason=reason)
    except NoSuchPauseError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None


def shown(pause: Paused) -> ShownPause:
    """Show a pause."""
    return ShownPause(
        id=pause.pause,
        type=pause.type,
        channel=pause.channel,
        provider=pause.provider,
        since=pause.recorded_at,
        reason=pause.reason,
        by=pause.by,
    )


def _read(body: bytes) -> tuple[Selector, str]:
    """Read what is to be paused, and why; all faults at once. Everything is paused only where `all` says so."""
    raw, reason, faults = reason_among(body, beside=_NAMES)
    given = {name: value for name in _NAMES if (value := raw.get(name)) is not None}
    everything = given.pop("all", False)
    faults += [Fault(name, _IDENTIFIER) for name in ("type", "provider") if not is_identifier(given.get(name, "-"))]
    if given.get("channel", Channel.EMAIL) not in list(Channel):
        faults.append(Fault("channel", f"must be one of {', '.join(Channel)}"))
    if not isinstance(everything, bool):
        faults.append(Fault("all", "must be true or false"))
    elif bool(given) == everything:
        faults.append(Fault("", "must name a type, a channel or a provider, or else say all: true"))
    if faults:
        raise malformed(*faults)
    return msgspec.convert(given, Selector), reason


def _by(request: Call) -> str:
    return f"api:{request.user.subject}"
