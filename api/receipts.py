"""POST /v1/receipts/{token}: the app on a device reports that a push was shown or opened."""

from typing import Any

import structlog
from litestar import post
from litestar.params import FromPath

from api.problems import MALFORMED, NOT_FOUND, TOO_LARGE, AnyRequest, ProblemError, answer_unavailable, malformed
from api.schemas import Receipt
from api.services import services_of
from ledger.values import ReportKind
from templates.envelope import Fault, MessageRejectedError, read_object

KINDS = {kind.value: kind for kind in (ReportKind.OPENED, ReportKind.DELIVERED)}

_log = structlog.get_logger("api.receipts")


@post(
    "/v1/receipts/{token:str}",
    status_code=204,
    # Our own trouble, of whatever kind, is a reason for the app to come again.
    exception_handlers={Exception: answer_unavailable},
    tags=["callbacks"],
    summary="Report that a push was shown or opened",
    body=Receipt,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE],
)
async def post_receipt(request: AnyRequest, token: FromPath[str]) -> None:
    services = services_of(request)
    report = services.receipts.read(token, _kind(await request.body()))
    if report is None:
        services.metrics.refused_callbacks.labels(services.receipts.provider).inc()
        _log.warning("receipt_refused", provider=services.receipts.provider)
        raise ProblemError(NOT_FOUND, "no push has this receipt, or it was sent too long ago")
    await services.receive.reports([report])


def _kind(body: bytes) -> ReportKind:
    """Read {"kind": "opened"}; without a body it was opened."""
    if not body:
        return ReportKind.OPENED
    try:
        raw, faults = read_object(body)
    except MessageRejectedError as exc:
        raise (ProblemError(TOO_LARGE) if exc.reason == "too_large" else malformed(*exc.faults)) from None
    faults += [Fault("", "holds more than a kind")] if set(raw) - {"kind"} else []
    given: Any = raw.get("kind", ReportKind.OPENED.value)
    kind = KINDS.get(given) if isinstance(given, str) else None
    if kind is None:
        faults.append(Fault("kind", f"must be {' or '.join(KINDS)}"))
    if kind is None or faults:
        raise malformed(*faults)
    return kind
