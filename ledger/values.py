"""Frozen values that cross the borders between packages: what is wanted, what is said, what came of it."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec


class Channel(StrEnum):
    """The way a notification takes to a person."""

    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"


class Category(StrEnum):
    """Why a person is told; decides consent, backoff and how long a doubt may last."""

    SECURITY = "security"
    TRANSACTIONAL = "transactional"
    OPERATIONAL = "operational"
    MARKETING = "marketing"


class Retention(StrEnum):
    """How long what was said is kept: a class, whose time is a setting."""

    STANDARD = "standard"
    SECURITY = "security"
    MARKETING = "marketing"


class Lane(StrEnum):
    """How soon it must leave; each lane is claimed for itself."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class DoubtPolicy(StrEnum):
    """What happens when nobody can say whether a provider took a request and no report settles it in time."""

    RESEND = "resend"
    DROP = "drop"
    HOLD = "hold"


class Personal(msgspec.Struct, frozen=True, tag="personal"):
    """What a fact knows of a person: sealed in storage, readable only while the person's key exists."""

    address: str | None = None
    name: str | None = None
    data: dict[str, Any] = {}
    fallback_address: str | None = None


class Redacted(msgspec.Struct, frozen=True, tag="redacted"):
    """Stands where personal data stood: their key has been destroyed, or the reader was not given it."""


REDACTED = Redacted()


class Said(msgspec.Struct, frozen=True):
    """What is said: exactly what the provider is given, without tags and attempt id (promise I26)."""

    def digest(self) -> bytes:
        """Return the 32-byte SHA-256 of the content's canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).digest()


# Stands in a mail for its link that unsubscribes: that is of one attempt, and so no part of what is said (promise I26).
UNSUBSCRIBE_LINK = "https://unsubscribe.invalid/"


class Mail(Said, frozen=True):
    """An e-mail."""

    sender: str
    subject: str
    html: str
    text: str

    def with_link(self, url: str) -> "Mail":
        """Return it as it leaves: with the link that unsubscribes, wherever its words speak of one."""
        html, text = (words.replace(UNSUBSCRIBE_LINK, url) for words in (self.html, self.text))
        return msgspec.structs.replace(self, html=html, text=text)


class TextMessage(Said, frozen=True):
    """An SMS; `sender` is a number, a name, or what the provider calls a group of them."""

    sender: str
    text: str


class PushMessage(Said, frozen=True):
    """A push; `link` is where a tap on it leads."""

    title: str
    body: str
    link: str | None = None


Content = Mail | TextMessage | PushMessage
CONTENT_OF: Mapping[Channel, type[Content]] = {
    Channel.EMAIL: Mail,
    Channel.SMS: TextMessage,
    Channel.PUSH: PushMessage,
}


class Fallback(msgspec.Struct, frozen=True):
    """Where else the person is told when this channel has not delivered for so long, or cannot."""

    channel: Channel
    after: timedelta


class FrequencyCap(msgspec.Struct, frozen=True):
    """How many notifications of one category a person may get in a window of time, by all channels together."""

    most: int
    window: timedelta


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of a currency (ISO 4217); as text in JSON, never a float."""

    amount: Decimal
    currency: str


class Cost(Money, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt is estimated to cost, for so many units: segments of an SMS, else one.

    `country` (ISO 3166) is that of the number, where it is known.
    """

    units: int
    country: str | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One notification that a message asks for, with everything the catalogue resolved for it.

    `recipient` is the platform's user id, or None when only an address is known. `template` names a folder of
    `templates/messages`; `template_version` is the digest of its files. `catalogue` is the digest of the catalogue.
    `references` are the ids that support staff search by (order, ticket …). `retention` is the content's class.
    `locale_assumed`: the message named none, `locale` is the catalogue's.
    """

    type: str
    channel: Channel
    category: Category
    lane: Lane
    recipient: str | None
    personal: Personal
    locale: str
    locale_assumed: bool = False
    template: str
    template_version: str
    catalogue: str
    doubt: DoubtPolicy
    expires_after: timedelta
    references: dict[str, str] = {}
    send_at: datetime | None = None
    expires_at: datetime | None = None
    fallback: Fallback | None = None
    consent: str | None = None
    frequency_cap: FrequencyCap | None = None
    quiet_hours: bool = False
    retention: str = "standard"


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The provider took it and named it."""

    reference: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The provider will never take this one message: its address or its content is at fault.

    `suppresses` = the address is dead, for every message (a device that the app was removed from). `opted_out` = the
    person has told the provider that they want no more.
    """

    code: str
    suppresses: bool = False
    opted_out: bool = False


class Postponed(msgspec.Struct, frozen=True, tag="postponed"):
    """The provider certainly did not take it now; a later attempt may succeed. Also for every fault of ours.

    `ours` marks a fault that an operator must mend (credentials, quota, unverified sender): it is alerted.
    """

    code: str
    retry_after: timedelta | None = None
    ours: bool = False


class InDoubt(msgspec.Struct, frozen=True, tag="in_doubt"):
    """Nobody can say whether the provider took it (no reply, a 5xx, a reset after the first byte)."""

    cause: str


Outcome = Accepted | Refused | Postponed | InDoubt


class ReportKind(StrEnum):
    """What a provider says of a message that it took, in the words of the facts it becomes."""

    DISPATCHED = "dispatched"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    REJECTED = "rejected"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A verified report of a provider. The same event always has the same `key`; `reference` is the provider's id.

    `notification` and `attempt` are the ids that we sent along, None where the provider did not return them.
    `evidence` holds the provider's codes only: never an address, never free text that may carry one. `suppresses` =
    the address must not be written to any more (a hard bounce, a complaint, or, where `opted_out`, the person's wish).
    """

    provider: str
    reference: str
    kind: ReportKind
    key: str
    notification: UUID | None = None
    attempt: UUID | None = None
    occurred_at: datetime | None = None
    evidence: dict[str, str] = {}
    suppresses: bool = False
    opted_out: bool = False


class Word(StrEnum):
    """What an answer to an SMS says to whoever sends them: no more, again, or something that is not for us."""

    STOP = "stop"
    START = "start"
    OTHER = "other"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A verified answer to an SMS; the same one always has the same `key`. Of its text only the word is known.

    `address` is the number that it came from, as E.164 where `word` is one for us.
    """

    provider: str
    key: str
    address: str
    word: Word


class Answer(msgspec.Struct, frozen=True):
    """What a provider says of a message, asked by its reference; `status` is its own word for it.

    `report` is what its callback would have said. None: there will never be more, since it knows no such message.
    """

    status: str
    report: Report | None = None


def utc(moment: datetime) -> datetime:
    """Return an aware time in UTC; a naive one is a programming error."""
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return moment.astimezone(UTC)
