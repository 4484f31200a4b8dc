"""/console/notifications/{id}: what became of one notification, how it came to that step by step, and what it said."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from api import views
from api.auth import Scope
from api.console.acting import Offered, offered
from api.console.asking import NO_REASON, filled_in, reason_of
from api.console.rendering import page
from api.disclosure import record_read
from api.problems import NOT_FOUND, ProblemError
from api.services import Call, Services, services_of
from api.standing import content_of, folded, key_of, personal_of, rows_of, until
from handlers.explanation import explained_by
from handlers.waiting import waiting
from ledger.explaining import Decided, Explanation
from ledger.keys import DataKey
from ledger.mapping import FactMapper
from ledger.notification import State
from ledger.store import Row
from ledger.timeline import happened
from ledger.values import Mail, PushMessage
from ledger.verdict import Verdict, verdict

_MOST_VERSIONS = 2**31
_LARGEST = 16 * 1024
# The words are somebody's: they may bring styles of their own, and fetch nothing from anywhere.
_QUIET = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src data:; frame-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}

_MAPPER = FactMapper()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fact: what happened, in a sentence, and what was decided by it; `raw` is for engineers."""

    version: int
    at: datetime | None
    words: str
    decision: Decided | None
    raw: views.ShownFact
    json: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as its page tells of it, at a moment. `last` is the version of now, `then` whether it is past.

    `offered` is what may be done to it now; None in the past.
    """

    shown: views.Notification
    verdict: Verdict
    explanation: Explanation
    steps: list[Step]
    last: int
    then: bool
    has_words: bool
    offered: Offered | None


@get("/console/notifications/{notification_id:uuid}", scopes=[Scope.READ], include_in_schema=False)
async def get_notification(request: Call, notification_id: FromPath[UUID]) -> Response[str]:
    asked = filled_in(request.scope, known={"version", "at"})
    version, at = asked.whole("version", least=1, most=_MOST_VERSIONS), asked.time("at")
    if version is not None and at is not None:
        asked.refuse("at", "does not go with version: give one of them")
    asked.done()
    rows = await rows_of(services_of(request), notification_id)
    told = await _told(services_of(request), rows, version=version, at=at, unmasked=False)
    return _page(request, told, version=version, at=at)


@post(
    "/console/notifications/{notification_id:uuid}/reveal",
    status_code=200,
    scopes=[Scope.READ, Scope.PII],
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_reveal(request: Call, notification_id: FromPath[UUID]) -> Response[str]:
    """Show who it went to, once: the next look is masked again."""
    reason, services = await reason_of(request), services_of(request)
    rows = await rows_of(services, notification_id)
    told = await _told(services, rows, version=None, at=None, unmasked=reason is not None)
    if reason is None:
        return _page(request, told, fault=NO_REASON, fault_of="reveal", status_code=422)
    await record_read(request, "notification", str(notification_id), reason=reason)
    return _page(request, told, revealed=reason)


@post(
    "/console/notifications/{notification_id:uuid}/content",
    status_code=200,
    scopes=[Scope.READ, Scope.PII],
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_content(request: Call, notification_id: FromPath[UUID]) -> Response[str]:
    """Show what it said, word for word, once."""
    reason, services = await reason_of(request), services_of(request)
    if reason is None:
        rows = await rows_of(services, notification_id)
        told = await _told(services, rows, version=None, at=None, unmasked=False)
        return _page(request, told, fault=NO_REASON, fault_of="content", status_code=422)
    content, digest = await content_of(services, notification_id)
    await record_read(request, "content", str(notification_id), reason=reason)
    return page(
        request,
        "content.html",
        headers=_QUIET,
        id=notification_id,
        content=content,
        is_mail=isinstance(content, Mail),
        is_push=isinstance(content, PushMessage),
        digest=digest.hex(),
        revealed=reason,
    )


async def _told(
    services: Services, rows: list[Row], *, version: int | None, at: datetime | None, unmasked: bool
) -> Told:
    known = until(rows, version=version, at=at)
    state = folded(known)
    if state is None or (version is not None and version > state.version):
        raise ProblemError(NOT_FOUND, "the notification was not there yet, or not at this step")
    is_past = version is not None or at is not None
    ledger, key, stream = services.ledger, await key_of(services, rows), rows[0].stream
    paused = None if is_past else await ledger.look_at_operations()
    waits = None
    if paused is not None:
        waits = await waiting(ledger, stream, state, operations=paused, reach=services.reach)
    explanation = await explained_by(ledger, services.archive, known, waits=waits)
    personal = personal_of(known, state, key)
    return Told(
        shown=views.notification(stream, state, personal, unmasked=unmasked, operations=paused, waiting=waits),
        verdict=verdict(state, explanation.answer),
        explanation=explanation,
        steps=_steps(known, explanation, key, unmasked=unmasked),
        last=rows[-1].version,
        then=is_past,
        has_words=_has_words(state),
        offered=None if is_past else await offered(services, stream),
    )


def _steps(rows: list[Row], explanation: Explanation, key: DataKey | None, *, unmasked: bool) -> list[Step]:
    decisions = {decided.version: decided for decided in explanation.decisions}
    return [
        Step(
            version=row.version,
            at=raw.recorded_at,
            words=happened(_MAPPER.decode(row.topic, row.state)),
            decision=decisions.get(row.version),
            raw=raw,
            json=msgspec.json.format(msgspec.json.encode(raw.data, enc_hook=str), indent=2).decode(),
        )
        for row, raw in zip(rows, views.facts(rows, key=key, unmasked=unmasked), strict=True)
    ]


def _has_words(state: State) -> bool:
    return state.rendered is not None


def _page(request: Call, told: Told, *, status_code: int = 200, **what: Any) -> Response[str]:
    given = {"version": None, "at": None, "fault": "", "fault_of": "", "revealed": "", **what}
    return page(request, "notification.html", status_code=status_code, told=told, **given)
