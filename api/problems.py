"""Errors as they are answered: application/problem+json (RFC 9457), every fault of a request, no value of it."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from api.correlation import correlation_of
from ledger.errors import LedgerError, OverloadedError, RefusedError, UnavailableError, UnknownTopicError
from templates.envelope import Fault

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "1"

AnyRequest = Request[Any, Any, State]

_log = structlog.get_logger("api.problems")


class Kind(msgspec.Struct, frozen=True):
    """A kind of problem: `type` is a stable path, the same for all of its kind; programs decide by it."""

    type: str
    status: int
    title: str


MALFORMED = Kind("/problems/malformed-request", 400, "The request is malformed")
REJECTED = Kind("/problems/message-rejected", 400, "The message cannot become notifications as it stands")
UNAUTHENTICATED = Kind("/problems/unauthenticated", 401, "No valid bearer token")
SCOPE_MISSING = Kind("/problems/scope-missing", 403, "The token lacks a scope")
FORM_REFUSED = Kind("/problems/form-refused", 403, "The form was not sent from a page of this sign-in")
CALLBACK_REFUSED = Kind("/problems/callback-refused", 403, "The callback is not the provider's")
NOT_FOUND = Kind("/problems/not-found", 404, "There is no such thing")
WRONG_METHOD = Kind("/problems/method-not-allowed", 405, "The resource does not know this method")
CONFLICT = Kind("/problems/conflict", 409, "The same key came with other content before")
ALREADY_DECIDED = Kind("/problems/already-decided", 409, "Somebody has decided on it before")
NOT_HELD = Kind("/problems/not-held", 409, "The notification waits for nobody's decision")
DRAFT_MOVED = Kind("/problems/draft-moved", 409, "The draft is another by now")
TOO_LATE = Kind("/problems/too-late", 409, "Nothing of it is still to come")
NOT_AGAIN = Kind("/problems/not-again", 409, "It is not sent again")
DELETED = Kind("/problems/deleted-by-retention", 410, "It was kept for its time, and deleted")
TOO_LARGE = Kind("/problems/too-large", 413, "The body is too large")
TEMPLATE_REFUSED = Kind("/problems/template-refused", 422, "The draft is not in order")
UNKNOWN_TYPE = Kind("/problems/unknown-type", 422, "The catalogue does not know this type")
UNEXPECTED = Kind("/problems/unexpected", 500, "Something went wrong here")
UNAVAILABLE = Kind("/problems/unavailable", 503, "It cannot be done just now; try again")
NEWER_RELEASE = Kind("/problems/newer-release", 503, "A newer release wrote what this one cannot read")

KINDS = (
    MALFORMED,
    REJECTED,
    UNAUTHENTICATED,
    SCOPE_MISSING,
    CALLBACK_REFUSED,
    NOT_FOUND,
    WRONG_METHOD,
    CONFLICT,
    ALREADY_DECIDED,
    NOT_HELD,
    DRAFT_MOVED,
    TOO_LATE,
    NOT_AGAIN,
    DELETED,
    TOO_LARGE,
    TEMPLATE_REFUSED,
    UNKNOWN_TYPE,
    UNEXPECTED,
    UNAVAILABLE,
    NEWER_RELEASE,
)
_OF_STATUS = {404: NOT_FOUND, 405: WRONG_METHOD, 413: TOO_LARGE}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457). `faults` names every fault of the request, by its path in body, query or headers."""

    type: str
    title: str
    status: int
    detail: str | None = None
    faults: Sequence[Fault] = ()
    correlation_id: str | None = None


class ProblemError(Exception):
    """Raised by a handler, answered as a problem. `detail` and `faults` hold no value of the request."""

    def __init__(
        self,
        kind: Kind,
        detail: str | None = None,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind.title)
        self.kind = kind
        self.detail = detail
        self.faults = faults
        self.headers = headers


def malformed(*faults: Fault) -> ProblemError:
    """Return the error for a request with these faults."""
    return ProblemError(MALFORMED, faults=faults)


def _answer_problem(request: AnyRequest, error: ProblemError) -> Response[Problem]:
    headers = dict(error.headers or {})
    if error.kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER
    problem = Problem(
        type=error.kind.type,
        title=error.kind.title,
        status=error.kind.status,
        detail=error.detail,
        faults=error.faults,
        correlation_id=correlation_of(request.scope),
    )
    return Response(problem, status_code=error.kind.status, media_type=MEDIA_TYPE, headers=headers)


def _answer_http(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    """Answer what Litestar refuses; its own words may repeat the request, so only the status is taken over."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _answer_unexpected(request, error)
    kind = _OF_STATUS.get(error.status_code, MALFORMED)
    return _answer_problem(request, ProblemError(kind, headers=error.headers))


def _answer_ledger(request: AnyRequest, error: LedgerError) -> Response[Problem]:
    match error:
        case UnknownTopicError():
            return _answer_problem(request, ProblemError(NEWER_RELEASE))
        case UnavailableError() | OverloadedError() | RefusedError():
            _log.warning("unavailable", error=type(error).__name__)
            return _answer_problem(request, ProblemError(UNAVAILABLE))
        case _:
            return _answer_unexpected(request, error)


def _answer_unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    correlation_of(request.scope)
    _log.error("unexpected_error", route=request.scope.get("path_template"), exc_info=error)
    return _answer_problem(request, ProblemError(UNEXPECTED))


def answer_unavailable(request: AnyRequest, error: Exception) -> Response[Problem]:
    """Answer 503 for whatever went wrong: for callers who come again, and must."""
    correlation_of(request.scope)
    _log.error("unexpected_error", route=request.scope.get("path_template"), exc_info=error)
    return _answer_problem(request, ProblemError(UNAVAILABLE))


HANDLERS: ExceptionHandlersMap = {
    ProblemError: _answer_problem,
    HTTPException: _answer_http,
    LedgerError: _answer_ledger,
    Exception: _answer_unexpected,
}
