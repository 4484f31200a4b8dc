"""/v1/notifications/{id}: one notification as of any moment, its history and content, and what is decided by hand."""

from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import FromPath

from api import views
from api.auth import Scope
from api.disclosure import record_read
from api.parameters import Parameters
from api.problems import DELETED, MALFORMED, NEWER_RELEASE, NOT_FOUND, NOT_HELD, TOO_LARGE, TOO_LATE, ProblemError
from api.reasons import reason_in
from api.schemas import Moment, Why
from api.services import Call, services_of
from api.standing import content_of, folded, key_of, opened, personal_of, rows_of, until
from handlers.by_hand import NoSuchNotificationError, NotHeldError, TooLateError, cancel, release
from handlers.explanation import explained
from handlers.waiting import waiting
from ledger.explaining import Explanation
from ledger.values import Content

_MOST_VERSIONS = 2**31


@get(
    "/v1/notifications/{notification_id:uuid}",
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="How a notification stands, now or at any moment",
    query=Moment,
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_notification(request: Call, notification_id: FromPath[UUID]) -> views.Notification:
    asked = Parameters.of_query(request.scope, known={"at", "version"})
    version, at = asked.whole("version", least=1, most=_MOST_VERSIONS), asked.time("at")
    if version is not None and at is not None:
        asked.refuse("at", "does not go with version: give one of them")
    asked.done()
    services, unmasked = services_of(request), Scope.PII in request.user.scopes
    rows = until(await rows_of(services, notification_id), version=version, at=at)
    state = folded(rows)
    if state is None or (version is not None and version > state.version):
        raise ProblemError(NOT_FOUND, "the notification was not there, or not at this version")
    personal = personal_of(rows, state, await key_of(services, rows))
    if unmasked:
        await record_read(request, "notification", str(notification_id))
    if version is not None or at is not None:
        return views.notification(notification_id, state, personal, unmasked=unmasked)
    ledger = services.ledger
    paused = await ledger.look_at_operations()
    why = await waiting(ledger, notification_id, state, operations=paused, reach=services.reach)
    return views.notification(notification_id, state, personal, unmasked=unmasked, operations=paused, waiting=why)


@get(
    "/v1/notifications/{notification_id:uuid}/history",
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="Every fact of a notification, in order",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_history(request: Call, notification_id: FromPath[UUID]) -> views.History:
    Parameters.of_query(request.scope, known=()).done()
    services, unmasked = services_of(request), Scope.PII in request.user.scopes
    rows = await rows_of(services, notification_id)
    key = await key_of(services, rows)
    if unmasked:
        await record_read(request, "history", str(notification_id))
    return views.history(notification_id, rows, key=key, unmasked=unmasked)


@get(
    "/v1/notifications/{notification_id:uuid}/explanation",
    scopes=[Scope.READ],
    tags=["notifications"],
    summary="Why it was sent or was not, and what would have had to differ",
    description="Each decision with its rule, what that looked at, and the facts that it goes back to; in plain words.",
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_explanation(request: Call, notification_id: FromPath[UUID]) -> Explanation:
    Parameters.of_query(request.scope, known=()).done()
    services = services_of(request)
    told = await explained(services.ledger, services.archive, services.reach, notification_id)
    if told is None:
        raise ProblemError(NOT_FOUND, "no such notification")
    return told


class SaidContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly what was said last; `sha256` is the digest that the fact `rendered` carries, in hex (promise I26).

    An e-mail has `sender`, `subject`, `html` and `text`; an SMS `sender` and `text`; a push `title`, `body` and perhaps
    a `link`.
    """

    sender: str | None = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    title: str | None = None
    body: str | None = None
    link: str | None = None
    sha256: str


@get(
    "/v1/notifications/{notification_id:uuid}/content",
    scopes=[Scope.PII],
    tags=["notifications"],
    summary="What was said, word for word",
    problems=[MALFORMED, NOT_FOUND, DELETED, NEWER_RELEASE],
)
async def get_content(request: Call, notification_id: FromPath[UUID]) -> SaidContent:
    Parameters.of_query(request.scope, known=()).done()
    content, digest = await content_of(services_of(request), notification_id)
    await record_read(request, "content", str(notification_id))
    return _said(content, digest)


@post(
    "/v1/notifications/{notification_id:uuid}/release",
    status_code=200,
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="Let a held notification be sent again",
    body=Why,
    problems=[MALFORMED, NOT_FOUND, NOT_HELD, TOO_LARGE, NEWER_RELEASE],
)
async def post_release(request: Call, notification_id: FromPath[UUID]) -> views.Notification:
    Parameters.of_query(request.scope, known=()).done()
    reason = reason_in(await request.body(), required=True)
    try:
        after = await release(
            services_of(request).ledger, notification_id, by=f"api:{request.user.subject}", reason=reason
        )
    except NoSuchNotificationError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None
    except NotHeldError as exc:
        raise ProblemError(NOT_HELD, str(exc)) from None
    personal = opened(after.state.requested.personal)
    return views.notification(notification_id, after.state, personal, unmasked=False, operations=after.operations)


@post(
    "/v1/notifications/{notification_id:uuid}/cancel",
    status_code=200,
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="Call off what is still to come of a notification",
    description="What has left may still arrive. Twice is the same as once; too late is 409, and says how it stands.",
    body=Why,
    problems=[MALFORMED, NOT_FOUND, TOO_LATE, TOO_LARGE, NEWER_RELEASE],
)
async def post_cancel(request: Call, notification_id: FromPath[UUID]) -> views.Notification:
    Parameters.of_query(request.scope, known=()).done()
    reason = reason_in(await request.body(), required=True)
    services = services_of(request)
    try:
        called = await cancel(services.ledger, notification_id, by=f"api:{request.user.subject}", reason=reason)
    except NoSuchNotificationError:
        await rows_of(services, notification_id)
        raise ProblemError(TOO_LATE, "the notification is in the archive: nothing of it is still to come") from None
    except TooLateError as exc:
        raise ProblemError(TOO_LATE, str(exc)) from None
    after = called.after
    personal = opened(after.state.requested.personal)
    return views.notification(notification_id, after.state, personal, unmasked=False, operations=after.operations)


def _said(content: Content, digest: bytes) -> SaidContent:
    return SaidContent(sha256=digest.hex(), **msgspec.structs.asdict(content))
