"""/console/recipients/{user_id}: what is known of a person, what they allow, and what was last sent to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from api import preferences, recipients, suppressions, views
from api.auth import Scope
from api.console.asking import NO_REASON, filled_in, reason_of
from api.console.rendering import page
from api.disclosure import record_read
from api.paths import user_id_in
from api.preferences import ShownPreferences
from api.recipient_history import RecipientHistory, history_of
from api.recipients import ShownRecipient, known_of, unknown_person
from api.services import Call, services_of
from api.suppressions import ShownSuppression
from projections.notification_log import LogRow
from projections.notification_search import Filters, search

_LARGEST = 16 * 1024
_LATEST = 20


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A fact of a person, as the page tells it; `json` are its fields, masked like the rest of the page."""

    fact: views.ShownFact
    words: str
    json: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A person as their page tells of them, at a moment; `contact` is None where nobody has said how to reach them."""

    user_id: str
    stream: UUID
    erased_at: datetime | None
    contact: ShownRecipient | None
    allows: ShownPreferences
    story: list[Story]
    listed: list[ShownSuppression]
    latest: list[LogRow]


@get("/console/recipients/{user_id:str}", scopes=[Scope.READ], include_in_schema=False)
async def get_recipient(request: Call, user_id: FromPath[str]) -> Response[str]:
    asked = filled_in(request.scope, known={"at"})
    at = asked.time("at")
    asked.done()
    return _page(request, await _told(request, user_id_in(user_id), at=at, unmasked=False), at=at)


@post(
    "/console/recipients/{user_id:str}/reveal",
    status_code=200,
    scopes=[Scope.READ, Scope.PII],
    request_max_body_size=_LARGEST,
    include_in_schema=False,
)
async def post_reveal(request: Call, user_id: FromPath[str]) -> Response[str]:
    """Show addresses and name, once: the next look is masked again."""
    user, reason = user_id_in(user_id), await reason_of(request)
    if reason is None:
        told = await _told(request, user, at=None, unmasked=False)
        return _page(request, told, fault=NO_REASON, status_code=422)
    told = await _told(request, user, at=None, unmasked=True)
    await record_read(request, "recipient", user, logged_as=str(told.stream), reason=reason)
    return _page(request, told, revealed=reason)


async def _told(request: Call, user: str, *, at: datetime | None, unmasked: bool) -> Told:
    services = services_of(request)
    known = await known_of(request, user, at=at)
    told = await history_of(services, user, at=at, unmasked=unmasked) if known.version else None
    async with services.ledger.store.connection() as connection:
        latest = await search(connection, Filters(user_id=user, until=at), limit=_LATEST)
    # Messages bring addresses of their own: many who are written to are known by nothing else.
    if told is None and not latest.rows:
        raise unknown_person()
    now = services.ledger.clock.now()
    listed = told.suppressions if told is not None else ()
    standing = [await services.ledger.suppression(one.id) for one in listed]
    return Told(
        user_id=user,
        stream=known.stream,
        erased_at=known.erased_at,
        contact=recipients.shown(user, known, unmasked=unmasked) if known.changed_at is not None else None,
        allows=preferences.shown(user, known),
        story=_story(told) if told is not None else [],
        listed=[suppressions.shown(one, now=now) for one in standing if one is not None],
        latest=latest.rows,
    )


def _story(told: RecipientHistory) -> list[Story]:
    """Return the facts of a person and of their addresses in the order in which they were recorded."""
    facts = [*told.facts, *(fact for listed in told.suppressions for fact in listed.facts)]
    return [
        Story(
            fact=fact,
            words=fact.topic.replace("_", " ").replace(".", ": "),
            json=msgspec.json.format(msgspec.json.encode(fact.data, enc_hook=str), indent=2).decode(),
        )
        for fact in sorted(facts, key=lambda fact: fact.position)
    ]


def _page(request: Call, told: Told, *, status_code: int = 200, **what: Any) -> Response[str]:
    given = {"at": None, "fault": "", "revealed": "", **what}
    return page(request, "recipient.html", status_code=status_code, told=told, **given)
