"""Every provider that the contract suite tries: how it is opened, and what its vendor's replies mean."""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import msgspec
from google.auth.credentials import Credentials

from ledger.values import InDoubt, Mail, Outcome, Postponed, PushMessage, Refused, TextMessage
from providers.contract import Provider, Sending
from providers.fcm import Fcm
from providers.ses import Ses
from providers.smtp import BUSY_PAUSE, Smtp
from providers.twilio import Twilio
from tests.integration.providers.stub import HTTP, SMTP, Speaker, http

NOTIFICATION = UUID("0198c0de-0000-7000-8000-000000000001")
ATTEMPT = UUID("0198c0de-0000-7000-8000-000000000002")
# For tests that wait for a time to run out; all others keep the provider's own, however slow the machine is.
DEADLINE = timedelta(seconds=3)
HURRIED = {
    "deadline": DEADLINE,
    "connect_timeout": timedelta(seconds=1),
    "read_timeout": timedelta(seconds=2),
}


class Open(Protocol):
    async def __call__(self, endpoint: str, *, max_connections: int, hurried: bool) -> Provider: ...


class Answer(msgspec.Struct, frozen=True):
    """What a request is answered with; `to` is the step before its end that is answered so, where there are steps."""

    reply: bytes
    to: str = ""


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """`codes` are answers with the outcome that each must have.

    `reference` is the vendor's name for a mail that it took. `schemes` stand before an endpoint's host without TLS and
    with it. `cut_short` is what a request is whose first byte has left and whose last has not. `torn` are replies that
    end too early, `drip` is the opening of one that never ends and the line that it goes on with. `throttled` says
    no, and when to come again; None where the protocol has no word for that. `busy` is the outcome of a call that got
    none of our own connections.
    """

    name: str
    speaker: Speaker
    schemes: tuple[str, str]
    endpoint_suffix: str = ""
    open: Open
    sending: Sending
    accepted: bytes
    reference: Callable[[Sending], str]
    codes: tuple[tuple[str, Answer, Outcome], ...]
    cut_short: type[Outcome]
    garbage: tuple[bytes, ...]
    torn: tuple[bytes, ...]
    drip: tuple[bytes, bytes]
    throttled: Callable[[dict[str, str]], bytes] | None = None
    busy: Outcome

    def endpoint(self, port: int, *, host: str = "127.0.0.1", secure: bool = False) -> str:
        suffix = "" if secure else self.endpoint_suffix
        return f"{self.schemes[secure]}://{host}:{port}{suffix}"


async def open_ses(endpoint: str, *, max_connections: int, hurried: bool) -> Provider:
    return await Ses.open(
        region="eu-west-1",
        endpoint_url=endpoint,
        configuration_set="notifications",
        access_key_id="AKIDEXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        max_connections=max_connections,
        **(HURRIED if hurried else {}),
    )


def ses_error(code: str, *, status: int = 400, message: str = "No.") -> bytes:
    return http(status, {"message": message}, x_amzn_ErrorType=code)


def ses_codes() -> list[tuple[str, bytes, Outcome]]:
    ours = [
        ("BadRequestException", 400),
        ("MailFromDomainNotVerifiedException", 400),
        ("AccountSuspendedException", 400),
        ("SendingPausedException", 400),
        ("LimitExceededException", 400),
        ("NotFoundException", 404),
        ("SignatureDoesNotMatch", 403),
        ("InvalidSignatureException", 403),
        ("RequestTimeTooSkewed", 403),
        ("RequestExpired", 400),
        ("ExpiredTokenException", 403),
        ("UnrecognizedClientException", 403),
        ("InvalidClientTokenId", 403),
        ("IncompleteSignature", 400),
        ("MissingAuthenticationToken", 403),
        ("AccessDeniedException", 403),
        ("NotAuthorized", 401),
        ("OptInRequired", 403),
        ("SomethingNewException", 400),
    ]
    theirs = [
        ("TooManyRequestsException", 429),
        ("ThrottlingException", 400),
        ("Throttling", 503),
        ("RequestTimeout", 408),
        ("ServiceUnavailableException", 503),
        ("SomethingNewException", 503),
    ]
    unknown = [
        ("InternalServiceErrorException", 500),
        ("InternalFailure", 500),
        ("ConcurrentModificationException", 500),
        ("SomethingNewException", 502),
        ("GatewayTimeout", 504),
    ]
    return [
        *((f"{code}-{status}", ses_error(code, status=status), Postponed(code, ours=True)) for code, status in ours),
        *((f"{code}-{status}", ses_error(code, status=status), Postponed(code)) for code, status in theirs),
        *((f"{code}-{status}", ses_error(code, status=status), InDoubt(code)) for code, status in unknown),
        ("rejected", ses_error("MessageRejected"), Refused("MessageRejected")),
        (
            "unverified-sender",
            ses_error("MessageRejected", message="Email address is not verified. The following identities failed …"),
            Postponed("MessageRejected", ours=True),
        ),
        (
            "bad-address",
            ses_error("BadRequestException", message="Domain contains illegal character"),
            Refused("BadRequestException"),
        ),
        (
            "code-with-a-namespace",
            ses_error("MessageRejected:http://internal.amazon.com/coral/com.amazonaws.ses/"),
            Refused("MessageRejected"),
        ),
        ("too-large", http(413, b"<html>"), Refused("413")),
        ("bare-503", http(503, b"<html>"), Postponed("503")),
        ("bare-500", http(500, b"<html>"), InDoubt("500")),
        ("bare-403", http(403, b"<html>"), Postponed("403", ours=True)),
        ("redirect", http(302, b"", Location="/elsewhere"), Postponed("302", ours=True)),
        ("text-for-a-code", ses_error("jane@acme.example is bad"), Postponed("400", ours=True)),
    ]


TWILIO_ACCOUNT = f"AC{'0' * 32}"
TWILIO_SID = f"SM{'1' * 32}"


async def open_twilio(endpoint: str, *, max_connections: int, hurried: bool) -> Provider:
    return await Twilio.open(
        account_sid=TWILIO_ACCOUNT,
        auth_token="token",
        public_url="https://notifications.acme.example",
        base_url=endpoint,
        max_connections=max_connections,
        **(HURRIED if hurried else {}),
    )


def twilio_error(code: object, *, status: int = 400, **headers: str) -> bytes:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return http(status, {"code": code, "message": "No.", "more_info": more, "status": status}, **headers)


def twilio_codes() -> list[tuple[str, Answer, Outcome]]:
    refused = [21211, 21214, 21217, 21265, 21266, 21408, 21602, 21612, 21614, 21617, 21619, 21635, 21658]
    ours = [
        (20003, 401),
        (20005, 403),
        (20403, 403),
        (20404, 404),
        (30002, 403),
        *(
            (code, 400)
            for code in (20001, 20006, 20008, 20009, 20426, 21212, 21219, 21267, 21401, 21601, 21603, 21604, 21606)
        ),
        *(
            (code, 400)
            for code in (21607, 21608, 21609, 21659, 21660, 21661, 21701, 21702, 21703, 21704, 21705, 21712, 63038)
        ),
        (21999, 400),
    ]
    theirs = [(20429, 429), (14107, 429), (21611, 400), (21611, 429), (21730, 503), (30001, 400), (21999, 429)]
    unknown = [(20500, 500), (20503, 503), (21999, 502)]
    answers: list[tuple[str, bytes, Outcome]] = [
        *((f"{code}", twilio_error(code), Refused(str(code))) for code in refused),
        ("21610", twilio_error(21610), Refused("21610", opted_out=True)),
        *(
            (f"{code}-{status}", twilio_error(code, status=status), Postponed(str(code), ours=True))
            for code, status in ours
        ),
        *((f"{code}-{status}", twilio_error(code, status=status), Postponed(str(code))) for code, status in theirs),
        *((f"{code}-{status}", twilio_error(code, status=status), InDoubt(str(code))) for code, status in unknown),
        ("bare-403", http(403, b"<html>"), Postponed("403", ours=True)),
        ("bare-408", http(408, b"<html>"), Postponed("408")),
        ("bare-429", http(429, b"\xff"), Postponed("429")),
        ("bare-500", http(500, b"<html>"), InDoubt("500")),
        ("bare-503", http(503, b"<html>"), InDoubt("503")),
        ("redirect", http(302, b"", Location="/elsewhere"), Postponed("302", ours=True)),
        ("text-for-a-code", twilio_error("+442071838750 is bad"), Postponed("400", ours=True)),
        ("list-for-a-body", http(400, []), Postponed("400", ours=True)),
        (
            "problem-details",
            http(400, {"type": "about:blank", "title": "No.", "status": 500, "code": 21211}),
            Refused("21211"),
        ),
    ]
    return [(name, Answer(reply), outcome) for name, reply, outcome in answers]


# Each step with the replies that certainly leave the mail untaken: the step, the reply, ours or not, None = refused.
SMTP_CODES: tuple[tuple[str, str, bool | None], ...] = (
    ("CONNECT", "421 4.3.2 Too many connections", False),
    ("CONNECT", "450 4.7.1 Later", False),
    ("CONNECT", "521 5.3.2 Takes no mail", True),
    ("CONNECT", "554 5.7.1 Go away", True),
    ("EHLO", "421 Busy", False),
    ("EHLO", "550 5.7.1 Who are you", True),
    ("MAIL", "421 4.3.2 Closing", False),
    ("MAIL", "451 4.3.0 Later", False),
    ("MAIL", "452 4.3.1 Disk full", False),
    ("MAIL", "455 Parameters", False),
    ("MAIL", "501 5.1.7 Bad sender", True),
    ("MAIL", "530 5.7.0 Log in", True),
    ("MAIL", "530 Must issue a STARTTLS command first", True),
    ("MAIL", "550 5.1.8 Bad domain", True),
    ("MAIL", "552 Larger than we take", None),
    ("MAIL", "552 5.3.4 Larger than we take", None),
    ("MAIL", "553 5.7.1 Sender not yours", True),
    ("MAIL", "555 Parameters", True),
    ("RCPT", "421 Closing", False),
    ("RCPT", "432 4.7.12 Change your password", True),
    ("RCPT", "450 4.2.0 Greylisted", False),
    ("RCPT", "451 4.7.1 Greylisted", False),
    ("RCPT", "452 4.5.3 Too many recipients", False),
    ("RCPT", "500 What", True),
    ("RCPT", "501 5.5.4 What", True),
    ("RCPT", "502 No", True),
    ("RCPT", "503 5.5.1 MAIL first", True),
    ("RCPT", "504 No", True),
    ("RCPT", "521 5.3.2 Takes no mail", True),
    ("RCPT", "530 5.7.0 Log in", True),
    ("RCPT", "534 5.7.9 Too weak", True),
    ("RCPT", "535 5.7.8 Wrong", True),
    ("RCPT", "538 5.7.11 Encrypt", True),
    ("RCPT", "550 No such user here", None),
    ("RCPT", "550 5.1.1 No such user here", None),
    ("RCPT", "550 5.7.1 Unable to relay", True),
    ("RCPT", "550 5.7.13 Account disabled", True),
    ("RCPT", "550 5.7.23 SPF", True),
    ("RCPT", "550 5.7.25 No reverse DNS", True),
    ("RCPT", "551 5.1.6 Has moved", None),
    ("RCPT", "552 Too many recipients", False),
    ("RCPT", "552 5.2.2 Mailbox full", None),
    ("RCPT", "553 5.1.3 Mailbox name", None),
    ("RCPT", "554 5.7.1 <jane>: Relay access denied", True),
    ("RCPT", "550 5.1.1 <jane@acme.example>: Recipient address rejected: User unknown in relay recipient table", None),
    ("RCPT", "553 5.7.1 <no-reply@acme.example>: Sender address rejected: not owned by user service", True),
    ("RCPT", "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", True),
    ("RCPT", "554 5.7.1 <jane@acme.example>: Recipient address rejected: Access denied", None),
    ("RCPT", "554 5.7.1 Not this one", True),
    ("RCPT", "555 Parameters", True),
    ("RCPT", "556 5.1.10 Takes no mail", None),
    ("RCPT", "599 Something new", True),
    ("DATA", "421 Closing", False),
    ("DATA", "451 4.3.0 Later", False),
    ("DATA", "503 5.5.1 No valid recipients", True),
    ("DATA", "554 5.5.1 No valid recipients", True),
    ("DATA", "550 5.7.1 Not this one", None),
    ("", "421 4.3.2 Closing", False),
    ("", "450 Later", False),
    ("", "451 4.3.0 Later", False),
    ("", "452 4.3.1 Disk full", False),
    ("", "454 4.7.0 Throttling failure: Maximum sending rate exceeded", False),
    ("", "500 5.5.2 Line too long", True),
    ("", "521 5.3.2 Takes no mail", True),
    ("", "550 5.7.1 Looks like spam", None),
    ("", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", True),
    ("", "550 5.7.26 Not authenticated", True),
    ("", "552 5.3.4 Larger than we take", None),
    ("", "552 5.2.3 Larger than the mailbox takes", None),
    ("", "553 5.6.7 Not in these letters", None),
    ("", "554 5.3.5 Set up wrongly", True),
    ("", "554 5.6.0 Not a mail", None),
    ("", "554 5.7.1 Refused by relay policy", None),
    ("", "554 Message rejected: Email address is not verified.", True),
    ("", "599 Something new", True),
)
# Replies that stand where none of them may: only behind the final dot can the mail have been taken.
SMTP_OUT_OF_PLACE: tuple[tuple[str, bytes, Outcome], ...] = (
    ("CONNECT", b"250 Ok\r\n", Postponed("reply_out_of_place", ours=True)),
    ("CONNECT", b"SSH-2.0-OpenSSH_9.2\r\n", Postponed("connect_failed")),
    ("MAIL", b"354 Go on\r\n", Postponed("reply_out_of_place", ours=True)),
    ("MAIL", b"Ok\r\n", Postponed("reply_garbled")),
    ("RCPT", b"354 Go on\r\n", Postponed("reply_out_of_place", ours=True)),
    ("DATA", b"250 Ok\r\n", Postponed("reply_out_of_place", ours=True)),
    ("DATA", b"\xff\xfe\r\n", Postponed("reply_garbled")),
    ("", b"354 Go on\r\n", InDoubt("reply_out_of_place")),
)


def smtp_outcome(reply: str, *, ours: bool | None) -> Outcome:
    """Return the outcome under its code, as the reply names it: 550-5.1.1, or 550."""
    number, _, text = reply.partition(" ")
    enhanced = text.partition(" ")[0]
    code = f"{number}-{enhanced}" if enhanced[:1].isdigit() else number
    return Refused(code) if ours is None else Postponed(code, ours=ours)


def smtp_codes() -> list[tuple[str, Answer, Outcome]]:
    return [
        *(
            (f"{to} {reply}", Answer(f"{reply}\r\n".encode(), to), smtp_outcome(reply, ours=ours))
            for to, reply, ours in SMTP_CODES
        ),
        *((f"{to} {reply!r}", Answer(reply, to), outcome) for to, reply, outcome in SMTP_OUT_OF_PLACE),
    ]


async def open_smtp(endpoint: str, *, max_connections: int, hurried: bool) -> Provider:
    hurry = {"deadline": DEADLINE, "connect_timeout": HURRIED["connect_timeout"]} if hurried else {}
    return await Smtp.open(endpoint, max_connections=max_connections, **hurry)


SENDING = Sending(
    notification=NOTIFICATION,
    attempt=ATTEMPT,
    address="jane@acme.example",
    content=Mail(sender="Acme <no-reply@acme.example>", subject="Grüße", html="<p>Hi</p>", text="Hi"),
)

TEXT = Sending(
    notification=NOTIFICATION,
    attempt=ATTEMPT,
    address="+447700900123",
    content=TextMessage(sender="+15005550006", text="Grüße: 123 456"),
)

SES = Vendor(
    name="ses",
    speaker=HTTP,
    schemes=("http", "https"),
    open=open_ses,
    sending=SENDING,
    accepted=http(200, {"MessageId": "0102-abc-000000"}),
    reference=lambda _: "0102-abc-000000",
    codes=tuple((name, Answer(reply), outcome) for name, reply, outcome in ses_codes()),
    cut_short=InDoubt,
    garbage=(
        http(200, b"<html>Welcome</html>"),
        http(200, b""),
        http(200, {}),
        http(200, []),
        http(200, {"MessageId": 5}),
        http(200, {"MessageId": None}),
        http(200, {"MessageId": "two lines\n"}),
        http(200, b'{"MessageId":"\xff"}'),
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-\xff\xfe: \xff\r\nContent-Length: 2\r\n\r\n{}",
    ),
    torn=(b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"),
    drip=(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n"),
    throttled=lambda headers: http(429, {}, x_amzn_ErrorType="TooManyRequestsException", **headers),
    busy=Postponed("connect_timeout"),
)

RELAY = Vendor(
    name="smtp",
    speaker=SMTP,
    schemes=("smtp", "smtps"),
    endpoint_suffix="?starttls=off",
    open=open_smtp,
    sending=SENDING,
    accepted=b"250 2.0.0 Ok: queued as 4F2A\r\n",
    reference=lambda sending: f"<{sending.attempt}@acme.example>",
    codes=tuple(smtp_codes()),
    cut_short=Postponed,
    garbage=(
        b"Ok\r\n",
        b"\r\n",
        b"\xff\xfe\r\n",
        b"25\r\n",
        b"999 Ok\r\n",
        b"150 Ok\r\n",
        b"354 Go on\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"250-" + b"x" * 100_000 + b"\r\n",
    ),
    torn=(b"", b"25", b"250 Ok", b"250-Ok\r\n"),
    drip=(b"250-Ok\r\n", b"250-Still here\r\n"),
    # A pause for the breaker, and so no failure of the relay's.
    busy=Postponed("connections_busy", retry_after=BUSY_PAUSE),
)

TWILIO = Vendor(
    name="twilio",
    speaker=HTTP,
    schemes=("http", "https"),
    open=open_twilio,
    sending=TEXT,
    accepted=http(201, {"sid": TWILIO_SID, "status": "queued", "error_code": None, "price": None}),
    reference=lambda _: TWILIO_SID,
    codes=tuple(twilio_codes()),
    cut_short=InDoubt,
    garbage=(
        http(201, b"<html>Welcome</html>"),
        http(201, b""),
        http(201, {}),
        http(201, []),
        http(201, b"null"),
        http(201, {"sid": 5}),
        http(201, {"sid": None}),
        http(201, {"sid": f"{TWILIO_SID}\n"}),
        http(201, {"sid": "CA" + "1" * 32}),
        http(201, b'{"sid":"\xff"}'),
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: -4\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nX-\xff\xfe: \xff\r\nContent-Length: 2\r\n\r\n{}",
    ),
    torn=(b"", b"HTTP/1.1 201 Created\r\nContent-", b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{"),
    drip=(b"HTTP/1.1 201 Created\r\n", b"X-Y: z\r\n"),
    throttled=lambda headers: twilio_error(20429, status=429, **headers),
    busy=Postponed("connect_timeout"),
)


class Granted(Credentials):
    """Credentials that get a token without asking anybody: what is counted at the socket is pushes alone."""

    def refresh(self, _: object) -> None:
        self.token = "granted"


async def open_fcm(endpoint: str, *, max_connections: int, hurried: bool) -> Provider:
    return await Fcm.open(
        Granted(),  # type: ignore[no-untyped-call]  # google-auth types its results only
        project="acme",
        base_url=endpoint,
        receipt=lambda notification, attempt: f"{notification.hex}{attempt.hex}",
        max_connections=max_connections,
        **(HURRIED if hurried else {}),
    )


FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def fcm_error(
    status: int, state: str, code: str = "", *, message: str = "No.", field: str = "", **headers: str
) -> bytes:
    details: list[dict[str, object]] = [{"@type": FCM_ERROR, "errorCode": code}] if code else []
    if field:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "No."}]})
    return http(status, {"error": {"code": status, "message": message, "status": state, "details": details}}, **headers)


def fcm_codes() -> list[tuple[str, bytes, Outcome]]:
    own: list[tuple[int, str, str, Outcome]] = [
        (404, "NOT_FOUND", "UNREGISTERED", Refused("UNREGISTERED", suppresses=True)),
        (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", Refused("SENDER_ID_MISMATCH")),
        (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", Postponed("INVALID_ARGUMENT", ours=True)),
        (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", Postponed("QUOTA_EXCEEDED")),
        (503, "UNAVAILABLE", "UNAVAILABLE", Postponed("UNAVAILABLE")),
        (500, "INTERNAL", "INTERNAL", InDoubt("INTERNAL")),
        (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", Postponed("THIRD_PARTY_AUTH_ERROR", ours=True)),
        (401, "UNAUTHENTICATED", "APNS_AUTH_ERROR", Postponed("APNS_AUTH_ERROR", ours=True)),
        (400, "INVALID_ARGUMENT", "UNSPECIFIED_ERROR", Postponed("INVALID_ARGUMENT", ours=True)),
        (400, "SOMETHING_NEW", "SOMETHING_NEWER", Postponed("SOMETHING_NEWER", ours=True)),
        (500, "SOMETHING_NEW", "SOMETHING_NEWER", InDoubt("SOMETHING_NEWER")),
    ]
    states: list[tuple[int, str, Outcome]] = [
        (401, "UNAUTHENTICATED", Postponed("UNAUTHENTICATED", ours=True)),
        (403, "PERMISSION_DENIED", Postponed("PERMISSION_DENIED", ours=True)),
        (404, "NOT_FOUND", Postponed("NOT_FOUND", ours=True)),
        (400, "FAILED_PRECONDITION", Postponed("FAILED_PRECONDITION", ours=True)),
        (400, "OUT_OF_RANGE", Postponed("OUT_OF_RANGE", ours=True)),
        (429, "RESOURCE_EXHAUSTED", Postponed("RESOURCE_EXHAUSTED")),
        (503, "UNAVAILABLE", Postponed("UNAVAILABLE")),
        (409, "ABORTED", InDoubt("ABORTED")),
        (499, "CANCELLED", InDoubt("CANCELLED")),
        (500, "DATA_LOSS", InDoubt("DATA_LOSS")),
        (500, "UNKNOWN", InDoubt("UNKNOWN")),
        (504, "DEADLINE_EXCEEDED", InDoubt("DEADLINE_EXCEEDED")),
    ]
    dead = Refused("INVALID_ARGUMENT", suppresses=True)
    arguments: list[tuple[str, str, str, Outcome]] = [
        ("a-device-by-its-text", "The registration token is not a valid FCM registration token", "", dead),
        ("a-device-by-its-field", "Invalid value", "message.fid", dead),
        ("a-token-by-its-field", "Invalid value", "message.token", dead),
        ("too-big", "Android message is too big", "", Refused("INVALID_ARGUMENT")),
        ("data", "Invalid value", "message.data[0].value", Refused("INVALID_ARGUMENT")),
        ("words", "Invalid value", "message.notification.title", Refused("INVALID_ARGUMENT")),
        ("anything-else", "Invalid value", "message.android.priority", Postponed("INVALID_ARGUMENT", ours=True)),
    ]
    return [
        *((f"{code}-{status}", fcm_error(status, state, code), outcome) for status, state, code, outcome in own),
        *((f"{state}-{status}", fcm_error(status, state), outcome) for status, state, outcome in states),
        *(
            (name, fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", message=text, field=field), outcome)
            for name, text, field, outcome in arguments
        ),
        ("bare-408", http(408, b"<html>"), Postponed("408")),
        ("bare-429", http(429, b"<html>"), Postponed("429")),
        ("bare-503", http(503, b"<html>"), Postponed("503")),
        ("bare-500", http(500, b"<html>"), InDoubt("500")),
        ("bare-502", http(502, b"<html>"), InDoubt("502")),
        ("bare-403", http(403, b"<html>"), Postponed("403", ours=True)),
        ("redirect", http(302, b"", Location="/elsewhere"), Postponed("302", ours=True)),
        ("text-for-a-code", fcm_error(400, "cXyz is bad", "device cXyz"), Postponed("400", ours=True)),
        ("no-object", http(400, {"error": "unauthorized"}), Postponed("400", ours=True)),
        ("odd-details", http(500, {"error": {"status": 5, "details": {}}}), InDoubt("500")),
    ]


FCM = Vendor(
    name="fcm",
    speaker=HTTP,
    schemes=("http", "https"),
    open=open_fcm,
    sending=Sending(
        notification=NOTIFICATION,
        attempt=ATTEMPT,
        address="cXyz1234567890abcdefgh",
        content=PushMessage("Grüße", "Hi\nthere", "https://acme.example/orders/1"),
    ),
    accepted=http(200, {"name": "projects/acme/messages/0:1500415314455276%31bd1c9631bd1c96"}),
    reference=lambda _: "projects/acme/messages/0:1500415314455276%31bd1c9631bd1c96",
    codes=tuple((name, Answer(reply), outcome) for name, reply, outcome in fcm_codes()),
    cut_short=InDoubt,
    garbage=(
        http(200, b"<html>Welcome</html>"),
        http(200, b""),
        http(200, {}),
        http(200, []),
        http(200, {"name": 5}),
        http(200, {"name": None}),
        http(200, {"name": "projects/acme/messages/two lines\n"}),
        http(200, {"name": "elsewhere"}),
        http(200, b'{"name":"\xff"}'),
        http(204, b""),
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-\xff\xfe: \xff\r\nContent-Length: 2\r\n\r\n{}",
    ),
    torn=(b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"),
    drip=(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n"),
    throttled=lambda headers: fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", **headers),
    busy=Postponed("connect_timeout"),
)

VENDORS = (SES, RELAY, TWILIO, FCM)
