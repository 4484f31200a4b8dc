"""What is done to one notification: shown before it is done, done once however often the form is sent."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from api import views
from api.auth import Scope
from api.console.rendering import page
from api.dry_runs import WouldBe, would_be
from api.services import Call, Services, services_of
from api.sessions import form_of
from api.standing import folded, key_of, personal_of, rows_of
from handlers.by_hand import NoSuchNotificationError, NotHeldError, TooLateError, cancel, release, too_late
from handlers.resending import NotAgainError, OtherReasonError, resend, why_not, would_resend
from ledger import notification
from ledger.mapping import FactMapper
from ledger.notification import Origin, WhyNot
from ledger.status import Status
from templates.envelope import Fault, is_identifier

REASON: Final = Fault("reason", "Say why, in 1 to 200 printable characters.")
_MAPPER = FactMapper()


class Deed(StrEnum):
    """What can be done to a notification, by the last word of its path."""

    RESEND = "resend"
    CANCEL = "cancel"
    RELEASE = "release"


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What a deed is called, and what comes of it."""

    title: str
    button: str
    outcome: str


_WORDS: Mapping[Deed, Words] = {
    Deed.RESEND: Words(
        title="Send again",
        button="Send it again",
        outcome="A new notification is made, which names this one. The same words go to the same person by the same"
        " channel, if the rules of now allow it.",
    ),
    Deed.CANCEL: Words(
        title="Call off",
        button="Call it off",
        outcome="What is still to come of this notification is not sent. What has left already may still arrive.",
    ),
    Deed.RELEASE: Words(
        title="Release from hold",
        button="Release it",
        outcome="It is sent once more, though it may have arrived: nobody knows whether the provider had taken it.",
    ),
}
_PATHS = [f"/console/notifications/{{notification_id:uuid}}/{deed}" for deed in Deed]
_SCOPES = (Scope.READ, Scope.ACT)


class Offered(msgspec.Struct, frozen=True):
    """What may be done to a notification as it stands, and why it is not sent again where it is not."""

    deeds: tuple[Deed, ...]
    not_again: str


class _Refused(Exception):  # noqa: N818  not an error of ours: a decision that does not apply
    """It cannot be done; the text says why, to people."""


@get(_PATHS, scopes=_SCOPES, include_in_schema=False)
async def get_deed(request: Call, notification_id: FromPath[UUID]) -> Response[str]:
    return await _shown(request, notification_id, _deed(request))


@post(_PATHS, status_code=200, scopes=_SCOPES, include_in_schema=False)
async def post_deed(request: Call, notification_id: FromPath[UUID]) -> Response[Any]:
    form, deed = await form_of(request), _deed(request)
    reason, command = form.get("reason", "").strip(), command_in(form)
    if not is_identifier(reason):
        return await _shown(request, notification_id, deed, command=command, reason=reason, fault=REASON.message)
    try:
        target = await _done(request, notification_id, deed, reason=reason, command=command)
    except _Refused as exc:
        return await _shown(request, notification_id, deed, command=command, reason=reason, refusal=str(exc))
    return Redirect(f"/console/notifications/{target}", status_code=HTTP_303_SEE_OTHER)


async def offered(services: Services, stream: UUID) -> Offered:
    """Say what may be done to it now. By the time that somebody does it that may have changed: then it is refused."""
    loaded = await services.ledger.load(stream)
    if loaded is None:
        return Offered((), str(NotAgainError(WhyNot.ARCHIVED)))
    why = why_not(loaded, loaded.now())
    origin = Origin(now=loaded.now(), cause="dry_run", by="dry_run")
    applies = {
        Deed.RESEND: why is None,
        Deed.CANCEL: bool(notification.cancel(loaded.state, "", origin)),
        Deed.RELEASE: bool(notification.release(loaded.state, "", origin)),
    }
    return Offered(tuple(deed for deed in Deed if applies[deed]), "" if why is None else str(NotAgainError(why)))


def by_hand(request: Call) -> str:
    """Name who decides, as facts do."""
    return f"console:{request.user.subject}"


def command_in(form: Mapping[str, str]) -> UUID:
    """Return the command that a page has made up: whoever sends its form twice means one thing.

    A form without one is none of our pages': what it asks for is done, under a command of its own.
    """
    try:
        return UUID(form.get("command", ""))
    except ValueError:
        return uuid4()


async def _done(request: Call, stream: UUID, deed: Deed, *, reason: str, command: UUID) -> UUID:
    """Do it; returns the notification to look at then. Raises _Refused, and ProblemError where there is none."""
    services, by, cause = services_of(request), by_hand(request), f"command:{command}"
    ledger = services.ledger
    try:
        match deed:
            case Deed.RESEND:
                made = await resend(ledger, services.archive, stream, by=by, reason=reason, command=str(command))
                return made.notification
            case Deed.CANCEL:
                await cancel(ledger, stream, by=by, reason=reason, cause=cause)
            case Deed.RELEASE:
                await release(ledger, stream, by=by, reason=reason, cause=cause)
    except NotHeldError as exc:
        if not await _was_done(services, stream, cause):
            raise _Refused(str(exc)) from None
    except (TooLateError, NotAgainError, OtherReasonError) as exc:
        raise _Refused(str(exc)) from None
    except NoSuchNotificationError:
        await rows_of(services, stream)
        raise _Refused("it lies in the archive: nothing of it is still to come") from None
    return stream


async def _was_done(services: Services, stream: UUID, cause: str) -> bool:
    """Whether this very command has been carried out before."""
    rows = await services.ledger.store.load([stream])
    return any(_MAPPER.decode(row.topic, row.state).cause == cause for row in rows)


async def _shown(
    request: Call,
    stream: UUID,
    deed: Deed,
    *,
    command: UUID | None = None,
    reason: str = "",
    fault: str = "",
    refusal: str = "",
) -> Response[str]:
    """Show what would happen, and the form that has it happen; after a refusal, why it did not."""
    services = services_of(request)
    rows = await rows_of(services, stream)
    state = folded(rows)
    if state is None:
        raise NoSuchNotificationError("there is no such notification")
    personal = personal_of(rows, state, await key_of(services, rows))
    would: WouldBe | None = None
    refused = bool(refusal)
    if not refused:
        try:
            would = await _tried(services, stream, deed)
        except _Refused as exc:
            refusal = str(exc)
    return page(
        request,
        "deed.html",
        status_code=HTTPStatus.CONFLICT if refused else HTTPStatus.BAD_REQUEST if fault else HTTPStatus.OK,
        notification=views.notification(stream, state, personal, unmasked=False),
        deed=deed,
        words=_WORDS[deed],
        would=would,
        command=command or uuid4(),
        reason=reason,
        fault=fault,
        refusal=refusal,
    )


async def _tried(services: Services, stream: UUID, deed: Deed) -> WouldBe | None:
    """Say what would be sent, where something would. Raises _Refused for what would not be done."""
    if deed is Deed.RESEND:
        try:
            return would_be(
                await would_resend(services.ledger, services.archive, services.dry_run, stream), unmasked=False
            )
        except NotAgainError as exc:
            raise _Refused(str(exc)) from None
    loaded = await services.ledger.load(stream)
    if loaded is None:
        raise _Refused("it lies in the archive: nothing of it is still to come")
    origin = Origin(now=loaded.now(), cause="dry_run", by="dry_run")
    if deed is Deed.RELEASE and not notification.release(loaded.state, "", origin):
        raise _Refused("the notification is not held: there is nothing to release")
    if deed is Deed.CANCEL and not notification.cancel(loaded.state, "", origin):
        is_off = loaded.state.ended is Status.CANCELLED
        raise _Refused("it is called off already" if is_off else too_late(loaded.state))
    return None


def _deed(request: Call) -> Deed:
    return Deed(request.scope["path_template"].rpartition("/")[2])
