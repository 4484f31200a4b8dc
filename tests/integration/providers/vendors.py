"""Every provider that the contract suite tries: how it is opened, and what its vendor's replies mean."""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import msgspec

from ledger.values import Content, InDoubt, Outcome, Postponed, Refused
from providers.contract import Provider, Sending
from providers.ses import Ses
from tests.integration.providers.stub import http

NOTIFICATION = UUID("0198c0de-0000-7000-8000-000000000001")
ATTEMPT = UUID("0198c0de-0000-7000-8000-000000000002")
# For tests that wait for a time to run out; all others keep the provider's own, however slow the machine is.
DEADLINE = timedelta(milliseconds=600)
HURRIED = {
    "deadline": DEADLINE,
    "connect_timeout": timedelta(milliseconds=200),
    "read_timeout": timedelta(milliseconds=400),
}


class Open(Protocol):
    async def __call__(self, endpoint: str, *, max_connections: int, hurried: bool) -> Provider: ...


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """`codes` are replies with the outcome that each must have."""

    name: str
    open: Open
    sending: Sending
    accepted: bytes
    reference: str
    codes: tuple[tuple[str, bytes, Outcome], ...]
    throttled: Callable[[dict[str, str]], bytes]
    garbage: tuple[bytes, ...]


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


SES = Vendor(
    name="ses",
    open=open_ses,
    sending=Sending(
        notification=NOTIFICATION,
        attempt=ATTEMPT,
        address="jane@acme.example",
        content=Content(sender="Acme <no-reply@acme.example>", subject="Grüße", html="<p>Hi</p>", text="Hi"),
    ),
    accepted=http(200, {"MessageId": "0102-abc-000000"}),
    reference="0102-abc-000000",
    codes=tuple(ses_codes()),
    throttled=lambda headers: http(429, {}, x_amzn_ErrorType="TooManyRequestsException", **headers),
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
)

VENDORS = (SES,)
