"""POST /v1/messages and POST /v1/notifications: what asks for notifications, taken in once and only once, or tried."""

import asyncio
from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.openapi import ResponseSpec

from api.auth import Scope
from api.disclosure import record_read
from api.dry_runs import DryRunAnswer, shown
from api.parameters import Parameters
from api.problems import CONFLICT, MALFORMED, REJECTED, TOO_LARGE, UNAVAILABLE, UNKNOWN_TYPE, ProblemError, malformed
from api.schemas import Message, NotificationRequest, Trying
from api.services import Call, Services, services_of
from handlers.intake import Conflicting, NotTaken, Result, TakenIn, Would, counted
from ledger.ledger import Ledger
from ledger.status import Status
from ledger.values import Channel
from templates.envelope import Fault, MessageRejectedError, UnknownMessageError, is_identifier

IDEMPOTENCY_KEY = "Idempotency-Key"


class Standing(msgspec.Struct, frozen=True):
    """A notification and how it stands now."""

    id: UUID
    channel: Channel
    status: Status


class Accepted(msgspec.Struct, frozen=True):
    """The notifications that a message or request asked for."""

    notifications: list[Standing]


_REPEATED_OR_TRIED = "A repeat: how they stand now. With `dry_run`: what it would make, and nothing is stored"
REPEATED = {200: ResponseSpec(Accepted | DryRunAnswer, description=_REPEATED_OR_TRIED, generate_examples=False)}


@post(
    "/v1/messages",
    status_code=202,
    scopes=[Scope.WRITE],
    tags=["messages"],
    summary="Take in a message of the platform",
    body=Message,
    query=Trying,
    problems=[MALFORMED, REJECTED, CONFLICT, TOO_LARGE, UNKNOWN_TYPE],
    responses=REPEATED,
)
async def post_message(request: Call) -> Response[Accepted] | Response[DryRunAnswer]:
    services, by = services_of(request), f"api:{request.user.subject}"
    if _is_dry_run(request):
        return await _tried(request, await services.take_in.would_take(await request.body(), by=by))
    (result,) = await services.take_in.messages([await request.body()], by=by)
    return await answer(services, result)


@post(
    "/v1/notifications",
    status_code=202,
    scopes=[Scope.WRITE],
    tags=["messages"],
    summary="Ask for one notification directly",
    body=NotificationRequest,
    query=Trying,
    problems=[MALFORMED, REJECTED, CONFLICT, TOO_LARGE, UNKNOWN_TYPE],
    responses=REPEATED,
)
async def post_notification(request: Call) -> Response[Accepted] | Response[DryRunAnswer]:
    services, caller, key = services_of(request), request.user.subject, idempotency_key(request)
    if _is_dry_run(request):
        body = await request.body()
        return await _tried(
            request, await services.take_in.would_take_request(body, caller=caller, idempotency_key=key)
        )
    result = await services.take_in.request(await request.body(), caller=caller, idempotency_key=key)
    return await answer(services, result)


async def answer(services: Services, result: Result) -> Response[Accepted]:
    """Answer what became of a message: 202 when it is new, 200 for a repeat; raises the problem of any other."""
    services.metrics.messages.labels(*counted(result)).inc()
    if not isinstance(result, TakenIn):
        raise problem_of(result)
    accepted = Accepted(await _standing(services.ledger, result))
    return Response(accepted, status_code=200 if result.repeated else 202)


def _is_dry_run(request: Call) -> bool:
    asked = Parameters.of_query(request.scope, known={"dry_run"})
    is_dry_run = asked.flag("dry_run")
    asked.done()
    return is_dry_run or False


async def _tried(request: Call, would: Would | NotTaken) -> Response[DryRunAnswer]:
    """Show what would become of a message. Whoever sees addresses and words is recorded: that alone is stored."""
    if not isinstance(would, Would):
        raise problem_of(would)
    unmasked = Scope.PII in request.user.scopes
    tried = await services_of(request).dry_run.of(would.asks) if isinstance(would.asks, tuple) else []
    if unmasked and tried:
        await record_read(request, "dry_run", would.counted_as)
    return Response(shown(would, tried, unmasked=unmasked), status_code=200)


def problem_of(result: Conflicting | MessageRejectedError | UnknownMessageError) -> ProblemError:
    """Return how a message that was not taken in is answered."""
    match result:
        case Conflicting():
            return ProblemError(CONFLICT, "nothing was sent; the conflict is recorded")
        case UnknownMessageError():
            return ProblemError(UNKNOWN_TYPE, faults=[Fault("messageType", "is not in the catalogue")])
        case MessageRejectedError(reason="key_unavailable"):
            return ProblemError(UNAVAILABLE)
        case MessageRejectedError(reason=reason, faults=faults):
            return ProblemError(TOO_LARGE if reason == "too_large" else REJECTED, faults=faults)


async def _standing(ledger: Ledger, taken: TakenIn) -> list[Standing]:
    """Say how the notifications stand; only what was there before is read."""
    before = [each for each in taken.notifications if each not in taken.channels]
    found = zip(before, await asyncio.gather(*map(ledger.load, before)), strict=True)
    loaded = {each: one for each, one in found if one is not None}
    return [
        Standing(each, channel, Status.REQUESTED)
        if (channel := taken.channels.get(each))
        else Standing(each, loaded[each].state.requested.channel, loaded[each].state.status)
        for each in taken.notifications
        if each in taken.channels or each in loaded
    ]


def idempotency_key(request: Call) -> str | None:
    """Return the key by which a request is taken in once, None where it names none."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not is_identifier(key):
        raise malformed(Fault(IDEMPOTENCY_KEY, "must be 1 to 200 printable characters"))
    return key
