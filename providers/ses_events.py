"""The events that SES publishes of a mail, read as reports (SES developer guide, "Contents of event data")."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from ledger.values import Report, ReportKind, utc
from providers.contract import CallbackRefusedError
from providers.sns import parsed

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
MessageId = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]{1,256}\Z")]

# RFC 3463, alone and not as a part of an IP address.
STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)")
# A code of the vendor: too poor an alphabet for an address.
WORD = re.compile(r"[A-Za-z0-9 ._-]{1,64}")
HOST = re.compile(r"[a-z0-9.-]{1,253}")

# What SES posts when a topic is attached to it; there is nothing to report.
GREETING = "Successfully validated SNS topic for Amazon SES event publishing."
SUBSCRIBED = "AmazonSnsSubscriptionSucceeded"


class Mail(msgspec.Struct, rename="camel"):
    """The mail that an event is about; `tags` holds what we sent along."""

    message_id: MessageId
    timestamp: Moment
    tags: dict[str, list[str]] | None = None


class Recipient(msgspec.Struct, rename="camel"):
    """A recipient of a bounce, a complaint or a delay; the address is not read."""

    status: str | None = None
    diagnostic_code: str | None = None


class Bounce(msgspec.Struct, rename="camel"):
    timestamp: Moment
    bounce_type: str
    bounce_sub_type: str = ""
    bounced_recipients: list[Recipient] = []


class Complaint(msgspec.Struct, rename="camel"):
    timestamp: Moment
    complaint_feedback_type: str | None = None
    complaint_sub_type: str | None = None
    complained_recipients: list[Recipient] = []


class Delivery(msgspec.Struct, rename="camel"):
    timestamp: Moment


class DeliveryDelay(msgspec.Struct, rename="camel"):
    timestamp: Moment
    delay_type: str = ""
    delayed_recipients: list[Recipient] = []


class Open(msgspec.Struct, rename="camel"):
    timestamp: Moment


class Click(msgspec.Struct, rename="camel"):
    timestamp: Moment
    link: str = ""


class Reject(msgspec.Struct, rename="camel"):
    reason: str = ""


class TopicStatus(msgspec.Struct, rename="camel"):
    subscription_status: str = ""


class Preferences(msgspec.Struct, rename="camel"):
    unsubscribe_all: bool = False
    topic_subscription_status: list[TopicStatus] = []


class Subscription(msgspec.Struct, rename="camel"):
    timestamp: Moment
    new_topic_preferences: Preferences = msgspec.field(default_factory=Preferences)


class Event(msgspec.Struct, rename="camel"):
    """One event; `notification_type` is its older name, from before event publishing."""

    event_type: str | None = None
    notification_type: str | None = None
    mail: Mail | None = None
    bounce: Bounce | None = None
    complaint: Complaint | None = None
    delivery: Delivery | None = None
    delivery_delay: DeliveryDelay | None = None
    open: Open | None = None
    click: Click | None = None
    reject: Reject | None = None
    subscription: Subscription | None = None


DECODER = msgspec.json.Decoder(Event)
Evidence = dict[str, str]
Part = Bounce | Complaint | Delivery | DeliveryDelay | Open | Click | Reject | Subscription | None

KINDS = {
    "Send": ReportKind.DISPATCHED,
    "Delivery": ReportKind.DELIVERED,
    "DeliveryDelay": ReportKind.DELAYED,
    "Bounce": ReportKind.BOUNCED,
    "Complaint": ReportKind.COMPLAINED,
    "Open": ReportKind.OPENED,
    "Click": ReportKind.CLICKED,
    "Reject": ReportKind.REJECTED,
    # The mail was accepted, and then its template could not be filled in: it never left.
    "Rendering Failure": ReportKind.REJECTED,
    "Subscription": ReportKind.UNSUBSCRIBED,
}
# The part of an event that is its own, where it has one that we read.
PARTS = {
    "Delivery": "delivery",
    "DeliveryDelay": "deliveryDelay",
    "Bounce": "bounce",
    "Complaint": "complaint",
    "Open": "open",
    "Click": "click",
    "Reject": "reject",
    "Subscription": "subscription",
}
FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Event)}


def reports(message: str) -> Sequence[Report]:
    """Return the reports of one event; raises CallbackRefusedError with every fault, never with its content."""
    if message.strip() == GREETING:
        return []
    try:
        event = DECODER.decode(message)
        kind = event.event_type or event.notification_type or ""
        return [] if kind == SUBSCRIBED else read(event, kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CallbackRefusedError("; ".join(faults(message))) from None
    except OverflowError:
        raise CallbackRefusedError("Message: a time is out of range") from None


def read(event: Event, kind: str) -> Sequence[Report]:
    """Return one report for each recipient that the event names, or one."""
    name = PARTS.get(kind)
    part: Part = getattr(event, FIELDS[name].name) if name else None
    if kind not in KINDS or event.mail is None or (name and part is None):
        raise CallbackRefusedError("; ".join(incomplete(event, kind)))
    if isinstance(part, Subscription) and not opted_out(part.new_topic_preferences):
        return []
    mail, tags = event.mail, event.mail.tags or {}
    moment = utc(getattr(part, "timestamp", mail.timestamp))
    return [
        Report(
            provider="ses",
            reference=mail.message_id,
            kind=KINDS[kind],
            # The recipient's place stands for the address: a digest of it would outlive the person's erasure.
            key=f"{kind}:{mail.message_id}:{moment.isoformat()}:{place}",
            notification=identifier(tags, "notification"),
            attempt=identifier(tags, "attempt"),
            occurred_at=moment,
            evidence=found,
            suppresses=suppresses(part),
        )
        for place, found in enumerate(evidence(part))
    ]


def incomplete(event: Event, kind: str) -> list[str]:
    name = PARTS.get(kind, "mail")
    faults = {
        "Message: eventType is unknown": kind in KINDS,
        "Message: mail is missing": event.mail is not None,
        f"Message: {name} is missing": getattr(event, FIELDS[name].name) is not None,
    }
    return [fault for fault, fine in faults.items() if not fine]


def faults(message: str) -> list[str]:
    """Return what is wrong with a message that is no event, each part looked at by itself."""
    raw = parsed(message)
    if isinstance(raw, str):
        return [f"Message: {raw}"]
    wrong = []
    for name, field in FIELDS.items():
        try:
            msgspec.convert(raw.get(name), field.type)
        except (msgspec.ValidationError, RecursionError) as error:
            wrong.append(f"Message: {name}: {error}")
    return wrong or ["Message: not an event"]


def suppresses(part: Part) -> bool:
    """Whether the address must not be written to any more. `not-spam` is a person who takes a complaint back."""
    match part:
        case Bounce():
            return part.bounce_type == "Permanent"
        case Complaint():
            return part.complaint_feedback_type != "not-spam"
        case _:
            return False


def evidence(part: Part) -> list[Evidence]:
    """Return the vendor's codes for each recipient of an event: never an address, an IP address or free text."""
    match part:
        case Bounce():
            common = words(bounce_type=part.bounce_type, bounce_sub_type=part.bounce_sub_type)
            return [common | status(one) for one in part.bounced_recipients] or [common]
        case Complaint():
            common = words(feedback_type=part.complaint_feedback_type, sub_type=part.complaint_sub_type)
            return [common] * (len(part.complained_recipients) or 1)
        case DeliveryDelay():
            common = words(delay_type=part.delay_type)
            return [common | status(one) for one in part.delayed_recipients] or [common]
        case Click():
            return [link_host(part.link)]
        case Reject():
            return [words(reason=part.reason)]
        case _:
            return [{}]


def words(**codes: str | None) -> Evidence:
    return {name: code for name, code in codes.items() if code and WORD.fullmatch(code)}


def status(recipient: Recipient) -> Evidence:
    """Return the enhanced status code (RFC 3463) that a bounce or a delay gives, out of whatever text it stands in."""
    found = STATUS.search(recipient.status or "") or STATUS.search(recipient.diagnostic_code or "")
    return {"status": found[0]} if found else {}


def link_host(link: str) -> Evidence:
    """Return the host of the link that was clicked; the rest of it may carry a person's token."""
    try:
        host = urlsplit(link).hostname or ""
    except ValueError:
        return {}
    return {"link_host": host} if HOST.fullmatch(host) else {}


def opted_out(preferences: Preferences) -> bool:
    topics = preferences.topic_subscription_status
    return preferences.unsubscribe_all or any(topic.subscription_status == "OptOut" for topic in topics)


def identifier(tags: dict[str, list[str]], name: str) -> UUID | None:
    """Return the id that we sent along as a tag, None when another sender of the topic did not."""
    try:
        return UUID(tags[name][0])
    except (KeyError, IndexError, ValueError):
        return None
