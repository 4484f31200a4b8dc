"""POST /v1/notifications/{id}/resend: what was said is said once more, or tried."""

from uuid import UUID

from litestar import Response, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from api import views
from api.auth import Scope
from api.dry_runs import WouldBe, would_be
from api.messages import idempotency_key
from api.parameters import Parameters
from api.problems import CONFLICT, MALFORMED, NEWER_RELEASE, NOT_AGAIN, NOT_FOUND, TOO_LARGE, ProblemError, malformed
from api.reasons import reason_among
from api.schemas import Resending
from api.services import Call, Services, services_of
from handlers.by_hand import NoSuchNotificationError
from handlers.resending import NotAgainError, OtherReasonError, resend, would_resend
from ledger.values import REDACTED, Personal
from templates.envelope import Fault

_SAID = "A repeat: the notification that was made before. With `dry_run`: what would be sent; nothing is stored"


@post(
    "/v1/notifications/{notification_id:uuid}/resend",
    status_code=201,
    scopes=[Scope.ACT],
    tags=["notifications"],
    summary="Send a notification again, by a new one that is linked to it",
    description="The same words (the version of the template that the first one was pinned to) to the same person by"
    " the same channel, and to their address of today where the message gave none. All rules are asked again. It is of"
    " use for as long as the first was; a security message only while what it says is. `Idempotency-Key` makes it once;"
    " without one, whoever asks twice within a minute gets the first answer again.",
    body=Resending,
    problems=[MALFORMED, NOT_FOUND, NOT_AGAIN, CONFLICT, TOO_LARGE, NEWER_RELEASE],
    responses={200: ResponseSpec(views.Notification | WouldBe, description=_SAID, generate_examples=False)},
)
async def post_resend(
    request: Call, notification_id: FromPath[UUID]
) -> Response[views.Notification] | Response[WouldBe]:
    Parameters.of_query(request.scope, known=()).done()
    services, command = services_of(request), idempotency_key(request)
    raw, reason, faults = reason_among(await request.body(), beside=("dry_run",))
    is_dry_run = raw.get("dry_run") or False
    if not isinstance(is_dry_run, bool):
        faults.append(Fault("dry_run", "must be true or false"))
    if faults:
        raise malformed(*faults)
    try:
        if is_dry_run:
            tried = await would_resend(services.ledger, services.archive, services.dry_run, notification_id)
            return Response(would_be(tried, unmasked=False), status_code=200)
        by = f"api:{request.user.subject}"
        made = await resend(services.ledger, services.archive, notification_id, by=by, reason=reason, command=command)
    except NoSuchNotificationError as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None
    except NotAgainError as exc:
        raise ProblemError(NOT_AGAIN, str(exc)) from None
    except OtherReasonError as exc:
        raise ProblemError(CONFLICT, str(exc)) from None
    return Response(await _shown(services, made.notification), status_code=201 if made.is_new else 200)


async def _shown(services: Services, notification_id: UUID) -> views.Notification:
    loaded = await services.ledger.load(notification_id)
    if loaded is None:
        raise ProblemError(NOT_FOUND, "it was sent again before, by a notification that lies in the archive by now")
    personal = loaded.state.requested.personal
    shown = personal if isinstance(personal, Personal) else REDACTED
    return views.notification(notification_id, loaded.state, shown, unmasked=False, operations=loaded.operations)
