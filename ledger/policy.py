"""Whether, and when, a notification may be sent: pure rules in one table, each naming what it looked at."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from ledger import quiet_hours
from ledger.notification import Requested
from ledger.recipient import Recipient
from ledger.suppression import Suppression
from ledger.values import Category, Channel, Lane, Redacted

# What a verdict was reached by: it is raised with each change of the table below, or of a rule in it.
VERSION = "2026-11-23"
# The purpose that marketing needs consent to, where its declaration names no other.
MARKETING = "marketing"

Inputs = dict[str, str]


class Send(msgspec.Struct, frozen=True):
    """Nothing forbids it."""


class Suppress(msgspec.Struct, frozen=True):
    """A rule forbids it; `inputs` are what the rule looked at, by name.

    `stream` and `version` are the fact that decided; of what nobody has said, the stream as it was read.
    """

    rule: str
    inputs: Inputs


class Defer(msgspec.Struct, frozen=True):
    """A rule lets it wait until then, when all of them look again; `inputs` as of Suppress."""

    rule: str
    until: datetime
    inputs: Inputs


Verdict = Send | Suppress | Defer


class AllowList(msgspec.Struct, frozen=True):
    """Who this installation may write to: addresses and domains, or everyone (`*`).

    An SMS goes only to numbers of `countries` (ISO 3166), `*` = of every country and of none.
    """

    entries: frozenset[str]
    countries: frozenset[str] = frozenset({"*"})

    def allows(self, address: str) -> bool:
        """Whether an address, or its domain, is on the list."""
        address = address.lower()
        return "*" in self.entries or address in self.entries or address.rpartition("@")[2] in self.entries

    @property
    def any_country(self) -> bool:
        """Whether numbers of every country, and of none, may be written to."""
        return "*" in self.countries

    def allows_country(self, country: str | None) -> bool:
        """Whether numbers of a country may be written to; None stands for a number that belongs to none."""
        return self.any_country or country in self.countries


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """All that the rules look at.

    `address` is where it would go, None where nobody knows; `suppression` is what is known of that address, `country`
    (ISO 3166) that of a phone number, where not all are allowed.
    """

    requested: Requested
    recipient: Recipient
    address: str | None
    suppression: Suppression | None
    country: str | None = None
    allowed: AllowList
    now: datetime


class Finding(msgspec.Struct, frozen=True):
    """What a rule found: with a time, that it must wait until then; else that it is not to be sent."""

    inputs: Inputs
    until: datetime | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule by the name that stands in the facts; what it says is the docstring of `look`.

    A wish (`is_a_wish`) is what the person may choose: security messages go out all the same.
    """

    name: str
    look: Callable[[Considered], Finding | None]
    is_a_wish: bool = False


def _erased(it: Considered) -> Finding | None:
    """The person was erased after it was asked for."""
    requested, person = it.requested, it.recipient
    is_readable = not isinstance(requested.personal, Redacted)
    if person.erased_at is None or not person.was_erased_since(requested.recorded_at, is_readable=is_readable):
        return None
    erased = {"erased_at": person.erased_at.isoformat(), "stream": str(person.stream)}
    return Finding({**erased, "version": str(person.erased_version)})


def _no_template(it: Considered) -> Finding | None:
    """Nobody has written the words for it."""
    requested = it.requested
    if requested.template_version:
        return None
    return Finding({"template": requested.template, "locale": requested.locale})


def _suppressed_address(it: Considered) -> Finding | None:
    """The address is on the suppression list, for everything or for this category."""
    entry = it.suppression.against(it.requested.category, it.now) if it.suppression is not None else None
    if entry is None or it.suppression is None:
        return None
    listed = entry.fact
    evidence = {
        "reason": listed.reason.value,
        "since": listed.recorded_at.isoformat(),
        "stream": str(it.suppression.stream),
        "version": str(entry.version),
    }
    return Finding(evidence if listed.notification is None else {**evidence, "notification": str(listed.notification)})


def _no_consent(it: Considered) -> Finding | None:
    """It is for a purpose that the person has not agreed to, or no longer agrees to."""
    requested = it.requested
    purpose = requested.consent or (MARKETING if requested.category is Category.MARKETING else None)
    consent = it.recipient.allows.consents.get(purpose or "")
    if purpose is None or (consent is not None and consent.granted):
        return None
    if consent is None:
        return Finding({"purpose": purpose, "consent": "none recorded", **_as_read(it.recipient)})
    withdrawn = {"purpose": purpose, "consent": "withdrawn", "since": consent.said_at.isoformat()}
    return Finding({**withdrawn, **_fact_of(it.recipient, consent.version)})


def _opted_out(it: Considered) -> Finding | None:
    """The person wants nothing of this category by this channel."""
    category, channel = it.requested.category, it.requested.channel
    choice = it.recipient.allows.choices.get((category, channel))
    if choice is None or choice.enabled:
        return None
    unwanted = {"category": category.value, "channel": channel.value, "since": choice.said_at.isoformat()}
    return Finding({**unwanted, **_fact_of(it.recipient, choice.version)})


def _no_usable_address(it: Considered) -> Finding | None:
    """Neither the message nor what is known of the person says where it could go."""
    if it.address is not None:
        return None
    return Finding({"channel": it.requested.channel.value, **_as_read(it.recipient)})


def _not_allowed_here(it: Considered) -> Finding | None:
    """This installation may not write to that address (RECIPIENT_ALLOW_LIST)."""
    if it.allowed.allows(it.address or ""):
        return None
    return Finding({"address_hash": it.suppression.address_hash if it.suppression is not None else ""})


def _country_not_allowed(it: Considered) -> Finding | None:
    """An SMS would go to a country that this installation may not write to (SMS_COUNTRIES)."""
    if it.requested.channel is not Channel.SMS or it.allowed.allows_country(it.country):
        return None
    return Finding({"country": it.country or "none"})


def _quiet_hours(it: Considered) -> Finding | None:
    """It can wait for the end of the hours in which the person wants to be left alone."""
    requested, quiet = it.requested, it.recipient.allows.quiet
    if not requested.quiet_hours or requested.lane is Lane.URGENT or quiet is None or quiet.hours is None:
        return None
    zone = it.recipient.time_zone or quiet_hours.ELSEWHERE
    until = quiet_hours.end(quiet.hours, zone, it.now)
    if until is None:
        return None
    hours = f"{quiet.hours.start:%H:%M}-{quiet.hours.end:%H:%M}"
    inputs = {"hours": hours, "time_zone": zone, **_fact_of(it.recipient, quiet.version)}
    return Finding({**inputs, "until": until.isoformat()}, until)


def _as_read(person: Recipient) -> Inputs:
    """Say which version of the person's stream lacks what would be needed."""
    return _fact_of(person, person.version)


def _fact_of(person: Recipient, version: int) -> Inputs:
    return {"stream": str(person.stream), "version": str(version)}


# In their order; the first that finds something decides. What lets it wait comes last: who is not to get it at all
# is told so at once.
RULES = (
    Rule(name="erased", look=_erased),
    Rule(name="no_template", look=_no_template),
    Rule(name="suppressed_address", look=_suppressed_address),
    Rule(name="no_consent", look=_no_consent, is_a_wish=True),
    Rule(name="opted_out", look=_opted_out, is_a_wish=True),
    Rule(name="no_usable_address", look=_no_usable_address),
    Rule(name="not_allowed_here", look=_not_allowed_here),
    Rule(name="country_not_allowed", look=_country_not_allowed),
    Rule(name="quiet_hours", look=_quiet_hours, is_a_wish=True),
)


def judge(it: Considered) -> Verdict:
    """Apply the rules in their order; the first that finds something decides."""
    is_security = it.requested.category is Category.SECURITY
    for rule in RULES:
        found = None if rule.is_a_wish and is_security else rule.look(it)
        if found is not None:
            return _verdict(rule.name, found)
    return Send()


def _verdict(rule: str, found: Finding) -> Verdict:
    if found.until is not None:
        return Defer(rule, found.until, found.inputs)
    return Suppress(rule, found.inputs)
