"""The events that SES publishes of a mail, in its format (SES developer guide, "Contents of event data")."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from providers.fakes.ses_log import Request

# How long after the mail each event is said to have happened: the same again after a restart.
AFTER = {"Send": timedelta(0), "DeliveryDelay": timedelta(milliseconds=300)}
LATER = timedelta(milliseconds=500)


def event(
    kind: str, request: Request, *, at: datetime | None = None, words: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Return one event of a request. `kind` is SES's eventType; `words` override its own (bounceType, status, link)."""
    moment = stamp(at or request.at + AFTER.get(kind, LATER))
    mail = {
        "timestamp": stamp(request.at),
        "messageId": request.message_id,
        "source": request.body.sender if request.body else "",
        "sendingAccountId": "000000000000",
        "destination": [request.to],
        "headersTruncated": False,
        "headers": [],
        "commonHeaders": {"to": [request.to], "messageId": request.message_id},
        "tags": {name: [value] for name, value in request.tags.items()},
    }
    name, what = details(kind, request.to, moment=moment, words=dict(words))
    return msgspec.json.encode({"eventType": kind, "mail": mail, name: what})


def details(kind: str, to: str, *, moment: str, words: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of the part that is the event's own."""
    feedback = str(uuid5(NAMESPACE_URL, f"{kind}:{to}:{moment}"))
    match kind:
        case "Bounce":
            status = words.pop("status", "5.1.1")
            said = f"smtp; 550 {status} <{to}>: Recipient address rejected: User unknown in virtual mailbox table"
            person = {"emailAddress": to, "action": "failed", "status": status, "diagnosticCode": said}
            kinds = {"bounceType": "Permanent", "bounceSubType": "General"} | words
            return "bounce", {**kinds, "bouncedRecipients": [person], "timestamp": moment, "feedbackId": feedback}
        case "Complaint":
            kinds = {"complaintFeedbackType": "abuse", "userAgent": "SandboxLoop/1.0"} | words
            person = {"emailAddress": to}
            return "complaint", {**kinds, "complainedRecipients": [person], "timestamp": moment, "feedbackId": feedback}
        case "Delivery":
            said = f"250 2.0.0 OK <{to}> queued"
            return "delivery", {"timestamp": moment, "recipients": [to], "smtpResponse": said} | words
        case "DeliveryDelay":
            person = {"emailAddress": to, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect"}
            return "deliveryDelay", {
                "delayType": "MailboxFull",
                "delayedRecipients": [person],
                "timestamp": moment,
            } | words
        case "Open" | "Click":
            seen = {"ipAddress": "192.0.2.1", "userAgent": "Mozilla/5.0 (sandbox)", "timestamp": moment}
            return kind.lower(), seen | ({"link": "https://sandbox.example/"} if kind == "Click" else {}) | words
        case _:
            return kind.lower(), {}


def stamp(moment: datetime) -> str:
    """Return a time as SES writes it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
