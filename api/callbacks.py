"""POST /callbacks/…: what providers report, answered 2xx only when it is on disk (promise I9)."""

import structlog
from litestar import post

from api.problems import CALLBACK_REFUSED, TOO_LARGE, UNAVAILABLE, AnyRequest, ProblemError, answer_unavailable
from api.services import services_of
from providers.contract import CallbackRefusedError, Callbacks, CallbackUnavailableError

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


async def _record(request: AnyRequest, callbacks: Callbacks) -> None:
    services, query = services_of(request), request.scope["query_string"].decode("latin-1")
    try:
        reports = await callbacks.read(await request.body(), request.headers, query)
    except CallbackRefusedError as exc:
        services.metrics.refused_callbacks.labels(callbacks.provider).inc()
        _log.warning("callback_refused", provider=callbacks.provider, reason=str(exc))
        raise ProblemError(CALLBACK_REFUSED, str(exc)) from None
    except CallbackUnavailableError as exc:
        _log.warning("callback_unavailable", provider=callbacks.provider, reason=str(exc))
        raise ProblemError(UNAVAILABLE, str(exc)) from None
    await services.receive.reports(reports)
