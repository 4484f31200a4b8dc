"""Amazon SES: sends one e-mail by the v2 API, and reads its reply as an outcome."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials, AioSharedCredentialProvider
from aiobotocore.session import AioSession
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from ledger.values import Accepted, Channel, InDoubt, Outcome, Postponed, Refused
from providers.contract import Sending
from providers.http_line import LINE, Line, broken, not_sent, retry_after
from providers.mail_address import unsendable, wire_address, wire_sender
from providers.ses_wire import Reply, Wire

DEADLINE = timedelta(seconds=8)
CONNECT_TIMEOUT = timedelta(seconds=2)
READ_TIMEOUT = timedelta(seconds=5)

ERROR_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,256}")

OURS = Postponed("", ours=True)
THEIRS = Postponed("")
THIS_MESSAGE = Refused("")
UNKNOWN = InDoubt("")
# What each error code of SendEmail means, whatever its HTTP status. Common errors: the SES v2 API reference,
# "SendEmail" and "Common Errors".
CODES: Mapping[str, Outcome] = {
    "MessageRejected": THIS_MESSAGE,  # its content is not acceptable (see also UNVERIFIED)
    "RequestEntityTooLargeException": THIS_MESSAGE,  # it is larger than SES takes
    "BadRequestException": OURS,  # our request is malformed, unless BAD_ADDRESS says that the address is
    "MailFromDomainNotVerifiedException": OURS,  # the sender's domain is not set up
    "AccountSuspendedException": OURS,  # the account may not send any more
    "SendingPausedException": OURS,  # the account or the configuration set is paused
    "LimitExceededException": OURS,  # the daily quota is used up
    "NotFoundException": OURS,  # the configuration set does not exist
    "TooManyRequestsException": THEIRS,  # above the sending rate; SES did not take it
    "ThrottlingException": THEIRS,  # likewise, said by the front end
    "Throttling": THEIRS,  # likewise
    "RequestThrottled": THEIRS,  # likewise
    "SlowDown": THEIRS,  # likewise
    "ServiceUnavailable": THEIRS,  # SES says that it did not take it
    "ServiceUnavailableException": THEIRS,  # likewise
    "RequestTimeout": THEIRS,  # SES did not get the whole request in time
    "RequestTimeoutException": THEIRS,  # likewise
    "SignatureDoesNotMatch": OURS,  # the secret key is wrong
    "InvalidSignatureException": OURS,  # likewise, or our clock is wrong
    "RequestTimeTooSkewed": OURS,  # our clock is wrong
    "RequestExpired": OURS,  # likewise
    "ExpiredToken": OURS,  # the session token was not renewed
    "ExpiredTokenException": OURS,  # likewise
    "UnrecognizedClientException": OURS,  # the access key is unknown
    "InvalidClientTokenId": OURS,  # likewise
    "IncompleteSignature": OURS,  # the request was not signed as AWS wants it
    "MissingAuthenticationToken": OURS,  # it was not signed at all
    "AccessDenied": OURS,  # the role may not send
    "AccessDeniedException": OURS,  # likewise
    "NotAuthorized": OURS,  # likewise
    "OptInRequired": OURS,  # the account does not have SES in this region
    "InternalServiceErrorException": UNKNOWN,  # it broke while it had our message
    "InternalServiceError": UNKNOWN,  # likewise
    "InternalFailure": UNKNOWN,  # likewise
    "InternalServerError": UNKNOWN,  # likewise
    "ConcurrentModificationException": UNKNOWN,  # a 500 as well
}
# For a code that is not listed, its HTTP status speaks; any other below 500 is a fault of ours.
STATUSES: Mapping[int, Outcome] = {413: THIS_MESSAGE, 429: THEIRS, 503: THEIRS}
# SES reports a sender (and, in its sandbox, a recipient) that is not verified as MessageRejected, which is ours.
UNVERIFIED = "Email address is not verified"
# What SES says of an address that it cannot take; any other bad request would be bad for every message.
BAD_ADDRESS = re.compile(
    r"Missing final '@|Missing domain|Invalid domain|Domain (?:contains|starts|ends)|Local address |Illegal address"
)


class _Said(msgspec.Struct):
    """A reply of either kind: what was taken has an id, an error the rest. Anything may stand in any field."""

    id: Any = msgspec.field(default="", name="MessageId")
    message: Any = ""
    message_too: Any = msgspec.field(default="", name="Message")
    code: Any = ""
    code_too: Any = msgspec.field(default="", name="Code")
    kind: Any = msgspec.field(default="", name="__type")


class Ses:
    """Sends e-mails over one pool of connections; safe for any number of calls at a time.

    The SDK finds keys, endpoint, proxies and trust, and signs; body and reply are ours to write and read (decision 65).
    """

    name = "ses"
    channel = Channel.EMAIL

    def __init__(
        self,
        wire: Wire,
        credentials: AioCredentials | None,
        *,
        url: str,
        region: str,
        configuration_set: str | None = None,
        deadline: timedelta = DEADLINE,
    ) -> None:
        self.deadline = deadline
        self._wire = wire
        self._credentials = credentials
        self._url = url
        self._region = region
        self._fixed = {} if configuration_set is None else {"ConfigurationSetName": configuration_set}
        self._resources = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        *,
        region: str,
        endpoint_url: str | None = None,
        configuration_set: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        deadline: timedelta = DEADLINE,
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        read_timeout: timedelta = READ_TIMEOUT,
        max_connections: int = 128,
    ) -> Self:
        """Ask the SDK for what it settles, which takes 0.1 s: once per process. Without keys: its default chain."""
        wire, session = Wire(), AioSession()
        config = AioConfig(
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            max_pool_connections=max_connections,
            http_session_cls=wire.session,
        )
        resources = AsyncExitStack()
        client = await resources.enter_async_context(
            session.create_client(
                "sesv2",
                region_name=region,
                endpoint_url=endpoint_url,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                config=config,
            )
        )
        url = client.meta.endpoint_url.rstrip("/") + "/v2/email/outbound-emails"
        own = AioCredentials(access_key_id, secret_access_key) if access_key_id else None
        ses = cls(
            wire,
            own or await session.get_credentials(),
            url=url,
            region=client.meta.region_name,
            configuration_set=configuration_set,
            deadline=deadline,
        )
        ses._resources = resources
        return ses

    async def renew_credentials(self) -> None:
        """Sign with what the SDK's shared credentials file says now, where it is what we sign with.

        The SDK reads that file once; what it gets from anywhere else (a role, a container, an instance) it renews by
        itself. Raises BotoCoreError, and LookupError for a file without keys.
        """
        used = self._credentials
        if used is None or used.method != AioSharedCredentialProvider.METHOD:
            return
        session = AioSession()
        provider = AioSharedCredentialProvider(
            session.get_config_variable("credentials_file"), session.get_config_variable("profile")
        )
        new = await provider.load()
        if new is None:
            raise LookupError("no keys")
        used.access_key, used.secret_key, used.token = new.access_key, new.secret_key, new.token

    async def send(self, sending: Sending) -> Outcome:
        """Make one request, or none when its outcome is certain beforehand."""
        if fault := unsendable(sending.address, sending.mail):
            return Refused(fault)
        address = wire_address(sending.address)
        if address is None:
            return Refused("address_syntax")
        line = Line()
        token = LINE.set(line)
        try:
            async with asyncio.timeout(self.deadline.total_seconds()):
                return verdict(await self._post(msgspec.json.encode(self._request(sending, address))))
        except Exception as error:  # noqa: BLE001 - whatever breaks, an attempt has an outcome
            return broken(error) if line.held else before_sending(error)
        finally:
            LINE.reset(token)

    async def aclose(self) -> None:
        await self._resources.aclose()

    async def _post(self, body: bytes) -> Reply:
        if self._credentials is None:
            raise NoCredentialsError
        request = AWSRequest("POST", self._url, headers={"Content-Type": "application/json"}, data=body)
        SigV4Auth(await self._credentials.get_frozen_credentials(), "ses", self._region).add_auth(request)
        return await self._wire.post(self._url, body, dict(request.headers.items()))

    def _request(self, sending: Sending, address: str) -> dict[str, Any]:
        """Return the body of a SendEmail (the SES v2 API reference)."""
        content = sending.mail
        more = [{"Name": name, "Value": value} for name, value in sending.mail_headers.items()]
        headers = {"Headers": more} if more else {}
        return {
            "FromEmailAddress": wire_sender(content.sender),
            "Destination": {"ToAddresses": [address]},
            "Content": {
                "Simple": {
                    "Subject": {"Data": content.subject, "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": content.text, "Charset": "UTF-8"},
                        "Html": {"Data": content.html, "Charset": "UTF-8"},
                    },
                    **headers,
                }
            },
            "EmailTags": [
                {"Name": "notification", "Value": str(sending.notification)},
                {"Name": "attempt", "Value": str(sending.attempt)},
            ],
            **self._fixed,
        }


def before_sending(error: Exception) -> Postponed:
    """Return the outcome of a call that broke before it had a connection: SES knows nothing of it."""
    match error:
        case ClientError() | BotoCoreError():
            return Postponed("credentials", ours=True)
        case _:
            return not_sent(error)


def verdict(reply: Reply) -> Outcome:
    """Return what a reply means."""
    said = _said(reply.body)
    if 200 <= reply.status < 300:
        taken = isinstance(said.id, str) and MESSAGE_ID.fullmatch(said.id)
        return Accepted(said.id) if taken else InDoubt("no_message_id")
    code, text = _code(reply, said), str(said.message or said.message_too)
    meaning = CODES.get(code) or STATUSES.get(reply.status) or (UNKNOWN if reply.status >= 500 else OURS)
    if code == "MessageRejected" and text.startswith(UNVERIFIED):
        meaning = OURS
    if code == "BadRequestException" and BAD_ADDRESS.match(text):
        meaning = THIS_MESSAGE
    match meaning:
        case Refused():
            return Refused(code)
        case Postponed(ours=ours):
            return Postponed(code, retry_after=retry_after(reply.headers), ours=ours)
        case _:
            return InDoubt(code)


def _said(body: bytes) -> _Said:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Said()


def _code(reply: Reply, said: _Said) -> str:
    """Return the code of an error, its HTTP status where it has none that is one (a name, maybe between a
    namespace and a URL: "Protocol restJson1" in the Smithy documentation).
    """
    named = reply.headers.get("x-amzn-errortype") or said.code or said.code_too or said.kind
    code = str(named).split(":", 1)[0].rsplit("#", 1)[-1]
    return code if ERROR_CODE.fullmatch(code) else str(reply.status)


_DECODER = msgspec.json.Decoder(_Said)
