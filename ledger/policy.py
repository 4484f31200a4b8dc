"""Whether a notification may be sent: pure rules in their order, each naming what it looked at."""

from datetime import datetime

import msgspec

from ledger.notification import Requested
from ledger.recipient import Recipient
from ledger.suppression import Entry, Suppression
from ledger.values import Category, Channel

VERSION = "2026-11-22"


class Send(msgspec.Struct, frozen=True):
    """Nothing forbids it."""


class Suppress(msgspec.Struct, frozen=True):
    """A rule forbids it; `inputs` are what the rule looked at, by name."""

    rule: str
    inputs: dict[str, str]


Verdict = Send | Suppress


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

    def allows_country(self, country: str | None) -> bool:
        """Whether numbers of a country may be written to; None stands for a number that belongs to none."""
        return "*" in self.countries or country in self.countries


def judge(
    requested: Requested,
    address: str | None,
    allowed: AllowList,
    suppression: Suppression | None = None,
    *,
    now: datetime,
    recipient: Recipient | None = None,
    country: str | None = None,
) -> Verdict:
    """Apply the rules in their order; the first that forbids decides.

    `suppression` is what is known of the address, `recipient` of the person, where that was asked; `country` is that of
    a phone number.
    """
    if not requested.template_version:
        return Suppress("no_template", {"template": requested.template, "locale": requested.locale})
    forbidding = suppression.against(requested.category, now) if suppression is not None else None
    if suppression is not None and forbidding is not None:
        return Suppress("suppressed_address", _evidence(suppression, forbidding))
    if requested.category is Category.MARKETING:
        return Suppress("no_consent", {"category": requested.category.value, "consent": "none recorded"})
    if address is None:
        return Suppress("no_usable_address", {"channel": requested.channel.value, **_read_of(recipient)})
    if not allowed.allows(address):
        return Suppress("not_allowed_here", {"address_hash": suppression.address_hash if suppression else ""})
    return _judge_country(requested, allowed, country)


def _judge_country(requested: Requested, allowed: AllowList, country: str | None) -> Verdict:
    if requested.channel is Channel.SMS and not allowed.allows_country(country):
        return Suppress("country_not_allowed", {"country": country or "none"})
    return Send()


def _read_of(recipient: Recipient | None) -> dict[str, str]:
    """Say which version of the person's stream was looked at; nothing where the message names no user."""
    return {} if recipient is None else {"stream": str(recipient.stream), "version": str(recipient.version)}


def _evidence(suppression: Suppression, forbidding: Entry) -> dict[str, str]:
    listed = forbidding.fact
    evidence = {
        "reason": listed.reason.value,
        "since": listed.recorded_at.isoformat(),
        "stream": str(suppression.stream),
        "version": str(forbidding.version),
    }
    return evidence if listed.notification is None else {**evidence, "notification": str(listed.notification)}
