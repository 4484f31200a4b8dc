"""What a person allows: what they want by which channel, what they have consented to, when to leave them alone."""

from collections.abc import Iterator, Mapping
from datetime import datetime, time

import msgspec

from ledger.notification import Fact, Origin
from ledger.values import Category, Channel

# ---------------------------------------------------------------------------------------------------------------
# Facts of a person's stream (ledger/recipient.py). They are storage, as those of a notification are. `said_at` is when
# it was said, not when it came; `recipient` names the person (`user:<id>`).
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

    recipient: str | None = None
    said_at: datetime
    choices: tuple[Choice, ...]


class ConsentChanged(Fact, frozen=True, kw_only=True):
    """The person agreed to a purpose, or takes that back. The proof: when (`said_at`), where, to which wording."""

    recipient: str | None = None
    said_at: datetime
    purpose: str
    granted: bool
    wording: str | None = None
    where: str | None = None


class QuietHoursChanged(Fact, frozen=True, kw_only=True):
    """When the person wants to be left alone; None = at no time."""

    recipient: str | None = None
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


# ---------------------------------------------------------------------------------------------------------------
# Decide. Messages may come late, twice and in any order: what was said last holds, of each choice, each purpose and the
# quiet hours by itself. Of two that were said at the same moment it is the one that lets us send less.
# ---------------------------------------------------------------------------------------------------------------


class ConsentNews(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody agreed to a purpose, or took that back, at a moment; None = when the message was sent."""

    purpose: str
    granted: bool
    at: datetime | None = None
    wording: str | None = None
    where: str | None = None


class PreferenceNews(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of what a person allows. What is not there is not spoken of; quiet hours of None clear them."""

    user_id: str
    said_at: datetime
    choices: tuple[Choice, ...] = ()
    consents: tuple[ConsentNews, ...] = ()
    quiet: QuietHours | msgspec.UnsetType | None = msgspec.UNSET


def change(state: Preferences, news: PreferenceNews, origin: Origin, *, recipient: str) -> tuple[PreferenceFact, ...]:
    """Record that of which nothing later is known.

    That something is still the same is news too: a message that lay between, and comes after, must not undo it.
    """
    facts: list[PreferenceFact] = []
    choices = tuple(choice for choice in news.choices if _is_new_choice(state, choice, news.said_at))
    if choices:
        facts.append(PreferencesChanged(**origin.stamp(), recipient=recipient, said_at=news.said_at, choices=choices))
    changed = (_consent_changed(news, consent, origin, recipient) for consent in news.consents)
    facts += [fact for fact in changed if _is_new_consent(state, fact)]
    if news.quiet is not msgspec.UNSET and _is_new_quiet(state, news.quiet, news.said_at):
        facts.append(QuietHoursChanged(**origin.stamp(), recipient=recipient, said_at=news.said_at, quiet=news.quiet))
    return tuple(facts)


def said_before(state: Preferences, news: PreferenceNews) -> Iterator[datetime]:
    """Return when each thing was said that the news speaks of as of its own time."""
    for choice in news.choices:
        if known := state.choices.get((choice.category, choice.channel)):
            yield known.said_at
    for consent in news.consents:
        if consent.at is None and (agreed := state.consents.get(consent.purpose)):
            yield agreed.said_at
    if news.quiet is not msgspec.UNSET and state.quiet:
        yield state.quiet.said_at


def _consent_changed(news: PreferenceNews, consent: ConsentNews, origin: Origin, recipient: str) -> ConsentChanged:
    return ConsentChanged(
        **origin.stamp(),
        recipient=recipient,
        said_at=consent.at or news.said_at,
        purpose=consent.purpose,
        granted=consent.granted,
        wording=consent.wording,
        where=consent.where,
    )


def _is_new_choice(state: Preferences, choice: Choice, said_at: datetime) -> bool:
    known = state.choices.get((choice.category, choice.channel))
    return known is None or (said_at, not choice.enabled) > (known.said_at, not known.enabled)


def _is_new_consent(state: Preferences, said: ConsentChanged) -> bool:
    known = state.consents.get(said.purpose)
    return known is None or _consent_rank(said) > _consent_rank(known)


def _consent_rank(said: ConsentChanged | Consent) -> tuple[datetime, bool, str, str]:
    """Order what is said of a purpose; proof is compared so that there is always one that holds."""
    return said.said_at, not said.granted, said.wording or "", said.where or ""


def _is_new_quiet(state: Preferences, hours: QuietHours | None, said_at: datetime) -> bool:
    known = state.quiet
    return known is None or (said_at, _hours_rank(hours)) > (known.said_at, _hours_rank(known.hours))


def _hours_rank(hours: QuietHours | None) -> tuple[time, ...]:
    return () if hours is None else (hours.start, hours.end)
