"""What a person allows: what they want by which channel, what they have consented to, when to leave them alone."""

from collections.abc import Mapping
from datetime import datetime, time

import msgspec

from ledger.notification import Fact
from ledger.values import Category, Channel

# ---------------------------------------------------------------------------------------------------------------
# Facts of a person's stream (ledger/recipient.py). They are storage, as those of a notification are. `said_at` is the
# time of the message that says so, not of its arrival.
# ---------------------------------------------------------------------------------------------------------------


class Choice(msgspec.Struct, frozen=True):
    """Whether a person wants what is of a category by a channel."""

    category: Category
    channel: Channel
    enabled: bool


class QuietHours(msgspec.Struct, frozen=True):
    """When a person wants to be left alone, in the time of where they are; `end` before `start` is over midnight."""

    start: time
    end: time


class PreferencesChanged(Fact, frozen=True, kw_only=True):
    """What the person wants, and what not. It speaks of these choices alone."""

    said_at: datetime
    choices: tuple[Choice, ...]


class ConsentChanged(Fact, frozen=True, kw_only=True):
    """The person agreed to a purpose, or takes that back. The proof: when (`said_at`), where, to which wording."""

    said_at: datetime
    purpose: str
    granted: bool
    wording: str | None = None
    where: str | None = None


class QuietHoursChanged(Fact, frozen=True, kw_only=True):
    """When the person wants to be left alone; None = at no time."""

    said_at: datetime
    quiet: QuietHours | None


PreferenceFact = PreferencesChanged | ConsentChanged | QuietHoursChanged

# ---------------------------------------------------------------------------------------------------------------
# State: what was said last of each, with the version of the fact that says it: the evidence of a decision.
# ---------------------------------------------------------------------------------------------------------------


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A choice that holds."""

    enabled: bool
    said_at: datetime
    version: int


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person agrees to a purpose."""

    granted: bool
    said_at: datetime
    version: int
    wording: str | None = None
    where: str | None = None


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """When a person wants to be left alone, if at any time."""

    hours: QuietHours | None
    said_at: datetime
    version: int


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """What a person allows; of what is not there nobody has spoken."""

    choices: Mapping[tuple[Category, Channel], Chosen] = {}
    consents: Mapping[str, Consent] = {}
    quiet: Quiet | None = None


def evolve(state: Preferences, fact: PreferenceFact, *, version: int) -> Preferences:
    """Return what a person allows after one more fact of their stream."""
    match fact:
        case PreferencesChanged():
            chosen = {
                (choice.category, choice.channel): Chosen(enabled=choice.enabled, said_at=fact.said_at, version=version)
                for choice in fact.choices
            }
            return msgspec.structs.replace(state, choices={**state.choices, **chosen})
        case ConsentChanged():
            consent = Consent(
                granted=fact.granted, said_at=fact.said_at, version=version, wording=fact.wording, where=fact.where
            )
            return msgspec.structs.replace(state, consents={**state.consents, fact.purpose: consent})
        case QuietHoursChanged():
            quiet = Quiet(hours=fact.quiet, said_at=fact.said_at, version=version)
            return msgspec.structs.replace(state, quiet=quiet)
