"""/v1/notifications/{id}: one notification as of any moment, its history and content, and what is decided by hand."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
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
from api.services import Call, Services, services_of
from handlers.by_hand import NoSuchNotificationError, NotHeldError, TooLateError, cancel, release
from handlers.explanation import explained
from handlers.waiting import waiting
from ledger import old_weeks
from ledger.errors import UnknownTopicError
from ledger.explaining import Explanation
from ledger.ids import week_of
from ledger.keys import DataKey
from ledger.mapping import FactMapper, StoredFact, of_notification, unseal
from ledger.notification import AttemptStarted, Requested, State, fold
from ledger.store import Row
from ledger.values import REDACTED, Content, Personal, Redacted

_MOST_VERSIONS = 2**31
_MAPPER = FactMapper()


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
    rows = _until(await _rows(services, notification_id), version=version, at=at)
    facts = [of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows]
    state = fold(facts)
    if state is None or (version is not None and version > state.version):
        raise ProblemError(NOT_FOUND, "the notification was not there, or not at this version")
    personal = _personal(rows, state, await _key(services, facts[0]))
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
    rows = await _rows(services, notification_id)
    key = await _key(services, _first(rows))
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
    services = services_of(request)
    loaded = await services.ledger.load(notification_id)
    digest = loaded.state.rendered if loaded is not None else None
    content = await services.ledger.content(loaded) if loaded is not None else None
    if content is None or digest is None:
        raise await _unsaid(services, notification_id)
    await record_read(request, "content", str(notification_id))
    return _said(content, digest)


async def _unsaid(services: Services, notification_id: UUID) -> ProblemError:
    """Say why there are no words to show."""
    rows = await _rows(services, notification_id)
    state = fold([of_notification(_MAPPER.decode(row.topic, row.state)) for row in rows])
    if state is None or state.rendered is None:
        return ProblemError(NOT_FOUND, "nothing has been said yet")
    week = week_of(notification_id)
    dropped_at = await old_weeks.dropped_at(services.ledger.store, state.requested.retention, week)
    if dropped_at is None:
        return ProblemError(NOT_FOUND, "what was said is not kept any more, or its person was erased")
    return ProblemError(DELETED, f"what was said was deleted by retention on {dropped_at:%Y-%m-%d}")


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
    personal = _opened(after.state.requested.personal)
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
        await _rows(services, notification_id)
        raise ProblemError(TOO_LATE, "the notification is in the archive: nothing of it is still to come") from None
    except TooLateError as exc:
        raise ProblemError(TOO_LATE, str(exc)) from None
    after = called.after
    personal = _opened(after.state.requested.personal)
    return views.notification(notification_id, after.state, personal, unmasked=False, operations=after.operations)


def _said(content: Content, digest: bytes) -> SaidContent:
    return SaidContent(sha256=digest.hex(), **msgspec.structs.asdict(content))


async def _rows(services: Services, notification_id: FromPath[UUID]) -> list[Row]:
    rows = await services.archive.facts(notification_id)
    if not rows:
        raise ProblemError(NOT_FOUND, "no such notification")
    return rows


def _until(rows: Sequence[Row], *, version: int | None, at: datetime | None) -> list[Row]:
    """Return the facts up to a version or a moment, without a gap."""
    if at is not None:
        return list(takewhile(lambda row: _MAPPER.decode(row.topic, row.state).recorded_at <= at, rows))
    return [row for row in rows if version is None or row.version <= version]


def _first(rows: Sequence[Row]) -> StoredFact | None:
    try:
        return _MAPPER.decode(rows[0].topic, rows[0].state)
    except UnknownTopicError:
        return None


async def _key(services: Services, first: StoredFact | None) -> DataKey | None:
    """Return the data key of the notification's person; None when it was destroyed."""
    if not isinstance(first, Requested):
        return None
    async with services.ledger.store.connection() as connection:
        keys = await services.keys.read(connection, [first.recipient])
    return keys.get(first.recipient)


def _personal(rows: Sequence[Row], state: State, key: DataKey | None) -> Personal | Redacted:
    """Return the personal data of the request, with the address that was found where it gave none."""
    first = rows[0]
    personal = _opened(unseal(state.requested, first.stream, topic=first.topic, key=key).personal)
    if not isinstance(personal, Personal) or personal.address is not None:
        return personal
    found = (started.address for started in map(partial(_found, key=key), reversed(rows)) if started is not None)
    return msgspec.structs.replace(personal, address=next(found, None))


def _found(row: Row, *, key: DataKey | None) -> Personal | None:
    fact = _MAPPER.decode(row.topic, row.state)
    if not isinstance(fact, AttemptStarted) or fact.personal is None:
        return None
    opened = _opened(unseal(fact, row.stream, version=row.version, topic=row.topic, key=key).personal)
    return opened if isinstance(opened, Personal) else None


def _opened(personal: Personal | Redacted | bytes | None) -> Personal | Redacted:
    return personal if isinstance(personal, Personal) else REDACTED
