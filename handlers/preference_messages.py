"""What other services are told of what a person allows, each message made of one fact alone."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from ledger.keys import user_of
from ledger.mapping import Recorded
from ledger.preferences import Choice, ConsentChanged, PreferenceFact, PreferencesChanged, QuietHours, QuietHoursChanged

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class PreferenceEvent(StrEnum):
    """What has been said."""

    PREFERENCES_CHANGED = "preferences_changed"
    CONSENT_CHANGED = "consent_changed"
    QUIET_HOURS_CHANGED = "quiet_hours_changed"


class ToldConsent(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the person agrees to a purpose: since when, and to which wording."""

    purpose: str
    granted: bool
    wording: str | None
    at: Moment


class ToldHours(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """When the person wants to be left alone, in the time of where they are."""

    start: str
    end: str


class ToldPreference(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="about", tag="preferences"):
    """What a person allows from now on, in the form of UserPreferencesChangedEvent. No personal data (promise I18).

    It speaks of what is there alone. `quietHours` of null with `quiet_hours_changed` means at no time.
    """

    user_id: str | None
    version: int
    position: int
    event: PreferenceEvent
    occurred_at: Moment
    preferences: tuple[Choice, ...]
    consents: tuple[ToldConsent, ...]
    quiet_hours: ToldHours | None


def told_preference(recorded: Recorded) -> ToldPreference | None:
    """Return what is told of one fact; None for a fact that says nothing of what a person allows."""
    fact = recorded.fact
    match fact:
        case PreferencesChanged():
            return _told(recorded, fact, PreferenceEvent.PREFERENCES_CHANGED, preferences=fact.choices)
        case ConsentChanged():
            return _told(recorded, fact, PreferenceEvent.CONSENT_CHANGED, consents=(_consent(fact),))
        case QuietHoursChanged():
            return _told(recorded, fact, PreferenceEvent.QUIET_HOURS_CHANGED, quiet_hours=_hours(fact.quiet))
        case _:
            return None


def _told(
    recorded: Recorded,
    fact: PreferenceFact,
    event: PreferenceEvent,
    *,
    preferences: tuple[Choice, ...] = (),
    consents: tuple[ToldConsent, ...] = (),
    quiet_hours: ToldHours | None = None,
) -> ToldPreference:
    return ToldPreference(
        user_id=user_of(fact.recipient) if fact.recipient else None,
        version=recorded.originator_version,
        position=recorded.position or 0,
        event=event,
        occurred_at=fact.said_at,
        preferences=preferences,
        consents=consents,
        quiet_hours=quiet_hours,
    )


def _consent(fact: ConsentChanged) -> ToldConsent:
    return ToldConsent(purpose=fact.purpose, granted=fact.granted, wording=fact.wording, at=fact.said_at)


def _hours(hours: QuietHours | None) -> ToldHours | None:
    if hours is None:
        return None
    return ToldHours(start=hours.start.isoformat("minutes"), end=hours.end.isoformat("minutes"))
