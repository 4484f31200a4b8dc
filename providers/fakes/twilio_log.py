"""One request for an SMS, as the fake of Twilio keeps it, and how many segments an SMS takes."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

TAKEN = 201
# 3GPP TS 23.038, 6.2.1: the default alphabet, and what takes two of its places.
ALPHABET = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("^{}\\[~]|€\f")


class Request(msgspec.Struct, kw_only=True, tag="request"):
    """One request for an SMS. `status` is what it was answered with; 0 = it never was.

    `tags` are the ids that the URL for reports carries, `form` is all that was posted, `life` the statuses that the
    message goes through when it is taken. `sid` names the message; `connection` is the other end's address and port.
    """

    number: int
    at: datetime
    connection: str
    to: str
    tags: dict[str, str]
    status: int
    code: str
    message_id: str
    headers: dict[str, str]
    form: dict[str, str]
    life: tuple[str, ...]
    error_code: int = 0
    provider: str = "twilio"

    @property
    def accepted(self) -> bool:
        """Whether an SMS went out, answered or not."""
        return self.status in {0, TAKEN}

    @property
    def reports(self) -> bool:
        """Whether its statuses are reported."""
        return self.accepted and bool(self.life) and "StatusCallback" in self.form

    def forget(self) -> None:
        """Let go of what is large; where its reports go stays."""
        self.headers = {}
        self.form = {name: self.form[name] for name in ("StatusCallback", "From") if name in self.form}


def message(request: Request, *, account: str, status: str, error_code: int) -> Mapping[str, object]:
    """Return the Message resource of a request, as Twilio writes it."""
    service = request.form.get("MessagingServiceSid")
    uri = f"/2010-04-01/Accounts/{account}/Messages/{request.message_id}"
    created = f"{request.at:%a, %d %b %Y %H:%M:%S} +0000"
    text = request.form.get("Body", "")
    return {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": text,
        "date_created": created,
        "date_sent": None if status in {"queued", "accepted"} else created,
        "date_updated": created,
        "direction": "outbound-api",
        "error_code": error_code or None,
        "error_message": None,
        "from": request.form.get("From"),
        "messaging_service_sid": service,
        "num_media": "0",
        # A messaging service has not chosen its sender yet.
        "num_segments": "0" if service and status == "accepted" else str(segments(text)),
        "price": None,
        "price_unit": "USD",
        "sid": request.message_id,
        "status": status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": request.to,
        "uri": f"{uri}.json",
    }


def segments(text: str) -> int:
    """Return how many segments a text takes: one of 160 or 70 places, or several of 153 or 67 (3GPP TS 23.040)."""
    if set(text) <= ALPHABET | EXTENSION:
        places, alone, of_many = len(text) + sum(sign in EXTENSION for sign in text), 160, 153
    else:
        places, alone, of_many = len(text.encode("utf-16-be")) // 2, 70, 67
    return 1 if places <= alone else -(-places // of_many)
