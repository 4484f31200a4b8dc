"""POST /callbacks/…: what providers report, answered 2xx only when it is on disk (promise I9)."""

import structlog
from litestar import post

from api.problems import CALLBACK_REFUSED, TOO_LARGE, UNAVAILABLE, AnyRequest, ProblemError, answer_unavailable
from api.services import services_of
from providers.contract import CallbackRefusedError, CallbackUnavailableError

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
    services = services_of(request)
    try:
        reports = await services.ses.read(await request.body(), request.headers)
    except CallbackRefusedError as exc:
        services.metrics.refused_callbacks.labels(services.ses.provider).inc()
        _log.warning("callback_refused", provider=services.ses.provider, reason=str(exc))
        raise ProblemError(CALLBACK_REFUSED, str(exc)) from None
    except CallbackUnavailableError as exc:
        _log.warning("callback_unavailable", provider=services.ses.provider, reason=str(exc))
        raise ProblemError(UNAVAILABLE, str(exc)) from None
    await services.receive.reports(reports)
