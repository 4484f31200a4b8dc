"""/v1/recipients/{user_id}/preferences: what a person wants, has consented to, and when to leave them alone."""

from datetime import datetime

import msgspec
from litestar import get, patch
from litestar.params import FromPath

from api.auth import Scope
from api.bodies import members_in
from api.parameters import Parameters
from api.paths import user_id_in
from api.problems import MALFORMED, NEWER_RELEASE, NOT_FOUND, TOO_LARGE, malformed
from api.recipients import caller, known_of, moment_in, unknown_person
from api.schemas import AsOf, PreferenceChange
from api.services import Call, services_of
from handlers.recipients import tell
from ledger.preferences import PreferenceNews, Quiet
from ledger.recipient import Recipient
from ledger.values import Category, Channel
from templates.envelope import Fault
from templates.preferences import Names, read_preferences

_NAMES = Names(choices="preferences", consents="consents", quiet_hours="quiet_hours")
_PARTS = PreferenceChange.__struct_fields__
_TAGS = ["recipients"]


class ShownChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the person wants what is of a category by a channel: said when, and by the fact of which version."""

    category: Category
    channel: Channel
    enabled: bool
    said_at: datetime
    version: int


class ShownConsent(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the person agrees to a purpose, with the proof: when it was said, where, and to which wording."""

    purpose: str
    granted: bool
    wording: str | None
    where: str | None
    at: datetime
    version: int


class ShownHours(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """When the person wants to be left alone, in the time of where they are."""

    start: str
    end: str
    said_at: datetime
    version: int


class ShownPreferences(msgspec.Struct, frozen=True, kw_only=True):
    """What a person allows; of what is not there nobody has spoken.

    Each part names the version of the fact that says it; `version` counts all facts of the person.
    """

    user_id: str
    preferences: list[ShownChoice]
    consents: list[ShownConsent]
    quiet_hours: ShownHours | None
    version: int


@get(
    "/v1/recipients/{user_id:str}/preferences",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="What a person allows, now or at any moment",
    query=AsOf,
    problems=[MALFORMED, NOT_FOUND, NEWER_RELEASE],
)
async def get_preferences(request: Call, user_id: FromPath[str]) -> ShownPreferences:
    at, user = moment_in(request), user_id_in(user_id)
    known = await known_of(request, user, at=at)
    if not known.version:
        raise unknown_person()
    return shown(user, known)


@patch(
    "/v1/recipients/{user_id:str}/preferences",
    scopes=[Scope.RECIPIENTS],
    tags=_TAGS,
    summary="Tell what a person allows: what is absent stays, quiet hours of null are cleared",
    body=PreferenceChange,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def patch_preferences(request: Call, user_id: FromPath[str]) -> ShownPreferences:
    Parameters.of_query(request.scope, known=()).done()
    user = user_id_in(user_id)
    news = _read(await request.body(), user, where=caller(request), now=services_of(request).ledger.clock.now())
    return shown(user, await tell(services_of(request).ledger, news, by=caller(request)))


def _read(body: bytes, user_id: str, *, where: str, now: datetime) -> PreferenceNews:
    raw, faults = members_in(body, _PARTS)
    if not any(name in raw for name in _PARTS):
        faults.append(Fault("", f"must hold at least one of {', '.join(_PARTS)}"))
    news = read_preferences(raw, user_id, now, faults, names=_NAMES, where=where, dated=False)
    if news is None or faults:
        raise malformed(*faults)
    return news


def shown(user_id: str, known: Recipient) -> ShownPreferences:
    """Show what a person allows."""
    allows = known.allows
    choices = [
        ShownChoice(
            category=category, channel=channel, enabled=chosen.enabled, said_at=chosen.said_at, version=chosen.version
        )
        for (category, channel), chosen in sorted(allows.choices.items())
    ]
    consents = [
        ShownConsent(
            purpose=purpose,
            granted=consent.granted,
            wording=consent.wording,
            where=consent.where,
            at=consent.said_at,
            version=consent.version,
        )
        for purpose, consent in sorted(allows.consents.items())
    ]
    return ShownPreferences(
        user_id=user_id,
        preferences=choices,
        consents=consents,
        quiet_hours=_hours(allows.quiet),
        version=known.version,
    )


def _hours(quiet: Quiet | None) -> ShownHours | None:
    if quiet is None or quiet.hours is None:
        return None
    start, end = (moment.isoformat("minutes") for moment in (quiet.hours.start, quiet.hours.end))
    return ShownHours(start=start, end=end, said_at=quiet.said_at, version=quiet.version)
