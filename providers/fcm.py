"""Firebase Cloud Messaging: sends one push by the HTTP v1 API, and reads its reply as an outcome."""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from firebase_admin import messaging
from google.auth.credentials import Credentials

from ledger.values import Accepted, Channel, InDoubt, Outcome, Postponed, PushMessage, Refused
from providers.contract import Sending
from providers.google_access import AccessError, AccessTokens
from providers.http_line import LINE, Line, LineConnector, broken, not_sent, retry_after

BASE_URL = "https://fcm.googleapis.com"
DEADLINE = timedelta(seconds=8)
CONNECT_TIMEOUT = timedelta(seconds=2)
READ_TIMEOUT = timedelta(seconds=5)
# Google closes idle connections after minutes; ours are gone before.
KEEP_ALIVE = timedelta(seconds=30)
# For so long FCM keeps what it cannot deliver, when it is not told otherwise ("Set the lifespan of a message").
KEPT_AT_MOST = timedelta(days=28)

FID = re.compile(r"[\x21-\x7e]{1,512}")
NAME = re.compile(r"projects/[\x21-\x7e]{1,256}")
ERROR_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")

OURS = Postponed("", ours=True)
THEIRS = Postponed("")
THIS_MESSAGE = Refused("")
THIS_DEVICE = Refused("", suppresses=True)
UNKNOWN = InDoubt("")
# What each code means, whatever its HTTP status: FCM's own first (reference, "ErrorCode"), then those that every Google
# API has (google/rpc/code.proto), which stand where FCM says nothing of its own.
CODES: Mapping[str, Outcome] = {
    "UNREGISTERED": THIS_DEVICE,  # the app was removed, or has another installation id by now
    "SENDER_ID_MISMATCH": THIS_MESSAGE,  # the device belongs to another project; which of the two is wrong is not said
    "INVALID_ARGUMENT": OURS,  # our request is malformed, unless BAD_DEVICE or BAD_CONTENT says otherwise
    "QUOTA_EXCEEDED": THEIRS,  # above the rate of the project or of the device; FCM did not take it
    "UNAVAILABLE": THEIRS,  # FCM is overloaded and says that it did not take it
    "INTERNAL": UNKNOWN,  # it broke while it had our message
    "THIRD_PARTY_AUTH_ERROR": OURS,  # the key for Apple's or the browsers' push service is missing or expired
    "APNS_AUTH_ERROR": OURS,  # likewise, in older replies
    "UNAUTHENTICATED": OURS,  # the access token is not taken
    "PERMISSION_DENIED": OURS,  # the service account may not send, or the API is not enabled
    "NOT_FOUND": OURS,  # there is no such project
    "FAILED_PRECONDITION": OURS,  # the project is not set up for it
    "OUT_OF_RANGE": OURS,  # as INVALID_ARGUMENT
    "RESOURCE_EXHAUSTED": THEIRS,  # as QUOTA_EXCEEDED, said by the front end
    "ABORTED": UNKNOWN,  # a conflict inside
    "CANCELLED": UNKNOWN,  # the call was given up inside
    "DATA_LOSS": UNKNOWN,  # it broke
    "DEADLINE_EXCEEDED": UNKNOWN,  # it took too long inside
    "UNKNOWN": UNKNOWN,  # it says so itself
}
# For a code that is not listed, its HTTP status speaks; any other below 500 is a fault of ours.
STATUSES: Mapping[int, Outcome] = {408: THEIRS, 429: THEIRS, 503: THEIRS}
# INVALID_ARGUMENT is said of the device, of the content, and of everything that would be bad for every message.
BAD_DEVICE = re.compile(r"not a valid FCM registration|Invalid registration", re.IGNORECASE)
BAD_CONTENT = re.compile(r"too (?:big|large|long)", re.IGNORECASE)
DEVICE_FIELDS = frozenset({"message.token", "message.fid"})
CONTENT_FIELDS = ("message.notification", "message.data")

# Names the app's receipt for an attempt: see `POST /v1/receipts/{token}`.
Receipt = Callable[[UUID, UUID], str]


class _Detail(msgspec.Struct):
    """One of the details of an error: FcmError has a code, BadRequest the fields."""

    code: str = msgspec.field(default="", name="errorCode")
    violations: list[dict[str, Any]] = msgspec.field(default_factory=list, name="fieldViolations")


class _Error(msgspec.Struct):
    status: str = ""
    message: str = ""
    details: list[_Detail] = []


class _Reply(msgspec.Struct):
    """A reply of either kind: a message has a name, an error has the rest."""

    name: str = ""
    error: _Error | None = None


class Fcm:
    """Sends pushes over one pool of connections; safe for any number of calls at a time.

    The SDK says what a message is; the request is ours (decision 0030): the SDK's own would be made again after a 401,
    a 500, a 503 or a lost connection, holds a thread for as long as FCM likes, and cannot be stopped.
    """

    name = "fcm"
    channel = Channel.PUSH

    def __init__(
        self, session: ClientSession, access: AccessTokens, url: str, *, receipt: Receipt, deadline: timedelta
    ) -> None:
        self.deadline = deadline
        self._session = session
        self._access = access
        self._url = url
        self._receipt = receipt

    @classmethod
    async def open(
        cls,
        credentials: Credentials,
        *,
        project: str,
        receipt: Receipt,
        base_url: str | None = None,
        deadline: timedelta = DEADLINE,
        connect_timeout: timedelta = CONNECT_TIMEOUT,
        read_timeout: timedelta = READ_TIMEOUT,
        max_connections: int = 128,
    ) -> Self:
        """Make the pool, once per process; the first access token is fetched with the first push."""
        connect = connect_timeout.total_seconds()
        session = ClientSession(
            connector=LineConnector(
                limit=max_connections,
                ssl=await asyncio.to_thread(ssl.create_default_context),
                keepalive_timeout=KEEP_ALIVE.total_seconds(),
            ),
            timeout=ClientTimeout(
                total=None, connect=connect, sock_connect=connect, sock_read=read_timeout.total_seconds()
            ),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json; charset=UTF-8"},
            trust_env=True,
        )
        url = f"{(base_url or BASE_URL).rstrip('/')}/v1/projects/{quote(project, safe='')}/messages:send"
        return cls(session, AccessTokens(credentials), url, receipt=receipt, deadline=deadline)

    def use_credentials(self, credentials: Credentials) -> None:
        """Make all further requests as this service account of the same project."""
        self._access.use_credentials(credentials)

    async def send(self, sending: Sending) -> Outcome:
        """Make one request, or none when its outcome is certain beforehand."""
        body = request_body(sending, receipt=self._receipt(sending.notification, sending.attempt))
        if body is None:
            return Refused("malformed")
        line = Line()
        call = LINE.set(line)
        try:
            async with asyncio.timeout(self.deadline.total_seconds()):
                return await self._post(body, await self._access.token())
        except AccessError as error:
            return Postponed(error.code, ours=error.ours)
        except Exception as error:  # noqa: BLE001 - whatever breaks, an attempt has an outcome
            return broken(error) if line.held else not_sent(error)
        finally:
            LINE.reset(call)

    async def aclose(self) -> None:
        await self._access.aclose()
        await self._session.close()

    async def _post(self, body: bytes, access: str) -> Outcome:
        headers = {"Authorization": f"Bearer {access}"}
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as reply:
            content = await reply.read()
        if reply.status == 401:
            self._access.reject(access)
        lower = {name.lower(): value for name, value in reply.headers.items()}
        return verdict(reply.status, content, wait=retry_after(lower))


def request_body(sending: Sending, *, receipt: str) -> bytes | None:
    """Return the body of the request; None when it is none that FCM could read."""
    said = sending.push_message
    texts = (said.title, said.body, said.link or "")
    if not FID.fullmatch(sending.address) or any("\ud800" <= sign <= "\udfff" for text in texts for sign in text):
        return None
    return b'{"message":%s}' % str(_message(sending, said, receipt=receipt)).encode()


def _message(sending: Sending, said: PushMessage, *, receipt: str) -> messaging.Message:
    """Return the SDK's message. Its tag is the notification: on the device a second copy takes the first one's place.

    Not `collapse_key`, which FCM ignores for what is shown to people ("Non-collapsible and collapsible messages") and
    of which it keeps only four a device.
    """
    # 32 characters: a Topic of web push has no more (RFC 8030, 5.4).
    tag = sending.notification.hex
    data = {"notification_id": str(sending.notification), "attempt_id": str(sending.attempt), "receipt": receipt}
    link = {} if said.link is None else {"link": said.link}
    # The SDK takes an https link alone for a browser; the app finds any other in the data.
    expires_at = sending.expires_at or datetime.now(UTC) + KEPT_AT_MOST
    lifetime = min(max(expires_at - datetime.now(UTC), timedelta(0)), KEPT_AT_MOST)
    page = messaging.WebpushFCMOptions(link=said.link) if (said.link or "").startswith("https://") else None
    return messaging.Message(
        fid=sending.address,
        notification=messaging.Notification(title=said.title, body=said.body),
        data=data | link,
        android=messaging.AndroidConfig(
            priority="high", ttl=int(lifetime.total_seconds()), notification=messaging.AndroidNotification(tag=tag)
        ),
        apns=messaging.APNSConfig(
            headers={"apns-collapse-id": tag, "apns-expiration": str(int(expires_at.timestamp()))}
        ),
        webpush=messaging.WebpushConfig(
            headers={"Topic": tag, "Urgency": "high", "TTL": str(int(lifetime.total_seconds()))},
            notification=messaging.WebpushNotification(tag=tag),
            fcm_options=page,
        ),
    )


def verdict(status: int, content: bytes, *, wait: timedelta | None = None) -> Outcome:
    """Return what a reply means; `wait` is its Retry-After."""
    try:
        reply = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        reply = _Reply()
    if 200 <= status < 300:
        return Accepted(reply.name) if NAME.fullmatch(reply.name) else InDoubt("no_message_name")
    error = reply.error or _Error()
    code = next((given for given in _codes(error) if ERROR_CODE.fullmatch(given)), str(status))
    meaning = CODES.get(code) or STATUSES.get(status) or (UNKNOWN if status >= 500 else OURS)
    if code == "INVALID_ARGUMENT":
        meaning = _blame(error)
    match meaning:
        case Refused(suppresses=suppresses):
            return Refused(code, suppresses=suppresses)
        case Postponed(ours=ours):
            return Postponed(code, retry_after=wait, ours=ours)
        case _:
            return InDoubt(code)


def _codes(error: _Error) -> list[str]:
    return [*(detail.code for detail in error.details if detail.code != "UNSPECIFIED_ERROR"), error.status]


def _blame(error: _Error) -> Outcome:
    """Return whose fault an INVALID_ARGUMENT is."""
    fields = [str(violation.get("field", "")) for detail in error.details for violation in detail.violations]
    if BAD_DEVICE.search(error.message) or DEVICE_FIELDS.intersection(fields):
        return THIS_DEVICE
    if BAD_CONTENT.search(error.message) or any(field.startswith(CONTENT_FIELDS) for field in fields):
        return THIS_MESSAGE
    return OURS


_DECODER = msgspec.json.Decoder(_Reply)
