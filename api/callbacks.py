"""POST /callbacks/…: what providers report, answered 2xx only when it is on disk (promise I9)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog
from litestar import post

from api.problems import CALLBACK_REFUSED, TOO_LARGE, UNAVAILABLE, AnyRequest, ProblemError, answer_unavailable
from api.services import services_of
from handlers.suppressions import take_reply
from providers.contract import CallbackRefusedError, Callbacks, CallbackUnavailableError

T = TypeVar("T")

_log = structlog.get_logger("api.callbacks")


@post(
    "/callbacks/ses",
    status_code=204,
    # Our own trouble, of whatever kind, is no reason for SNS to give a report up.
    exception_handlers={Exception: answer_unavailable},
    tags=["callbacks"],
    summary="Take what SES reports through SNS",
    problems=[CALLBACK_REFUSED, TOO_LARGE],
)
async def post_ses(request: AnyRequest) -> None:
    await _record(request, services_of(request).ses)


@post(
    "/callbacks/twilio",
    status_code=204,
    exception_handlers={Exception: answer_unavailable},
    tags=["callbacks"],
    summary="Take what Twilio reports of an SMS",
    problems=[CALLBACK_REFUSED, TOO_LARGE],
)
async def post_twilio(request: AnyRequest) -> None:
    await _record(request, services_of(request).twilio)


# Twilio takes an answer in TwiML alone; this one says nothing to the person.
_SAY_NOTHING = '<?xml version="1.0" encoding="UTF-8"?><Response></Response>'


@post(
    "/callbacks/twilio/inbound",
    status_code=200,
    media_type="text/xml",
    exception_handlers={Exception: answer_unavailable},
    tags=["callbacks"],
    summary="Take what people answer to an SMS: STOP and START",
    problems=[CALLBACK_REFUSED, TOO_LARGE],
)
async def post_twilio_inbound(request: AnyRequest) -> str:
    services = services_of(request)
    reply = await _verified(request, services.replies.provider, services.replies.reply)
    result = await take_reply(services.ledger, reply)
    services.metrics.replies.labels(reply.provider, reply.word.value, result).inc()
    _log.info("reply", provider=reply.provider, word=reply.word, result=result)
    return _SAY_NOTHING


async def _record(request: AnyRequest, callbacks: Callbacks) -> None:
    await services_of(request).receive.reports(await _verified(request, callbacks.provider, callbacks.read))


async def _verified(
    request: AnyRequest, provider: str, read: Callable[[bytes, Mapping[str, str], str], Awaitable[T]]
) -> T:
    services, query = services_of(request), request.scope["query_string"].decode("latin-1")
    try:
        return await read(await request.body(), request.headers, query)
    except CallbackRefusedError as exc:
        services.metrics.refused_callbacks.labels(provider).inc()
        _log.warning("callback_refused", provider=provider, reason=str(exc))
        raise ProblemError(CALLBACK_REFUSED, str(exc)) from None
    except CallbackUnavailableError as exc:
        _log.warning("callback_unavailable", provider=provider, reason=str(exc))
        raise ProblemError(UNAVAILABLE, str(exc)) from None
