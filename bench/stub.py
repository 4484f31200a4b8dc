"""A provider that costs next to nothing: takes mails, SMS and pushes over HTTP, answers each, counts the attempts.

Usage: python -m bench.stub PORT
"""

import asyncio
import sys
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httptools
import msgspec
import uvloop

MAILS = "/v2/email/outbound-emails"
ACCOUNT = f"AC{'0' * 32}"
SMS = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
PROJECT = "bench"
PUSHES = f"/v1/projects/{PROJECT}/messages:send"


class _Tag(msgspec.Struct):
    name: str = msgspec.field(name="Name")
    value: str = msgspec.field(name="Value")


class _Mail(msgspec.Struct):
    """Of a request only what must be counted; the rest is skipped unread."""

    tags: list[_Tag] = msgspec.field(name="EmailTags", default_factory=list)


class _Ids(msgspec.Struct):
    notification_id: str = ""
    attempt_id: str = ""


class _Message(msgspec.Struct):
    data: _Ids = msgspec.field(default_factory=_Ids)


class _Push(msgspec.Struct):
    """Likewise."""

    message: _Message


class Taken(msgspec.Struct):
    """What came in: requests, different attempts among them, and the monotonic time of each notification's mail."""

    requests: int = 0
    attempts: int = 0
    arrivals: dict[str, float] = {}


class Stub:
    """What all connections share. `shown` are pages that were PUT here, such as a certificate."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.shown: dict[str, bytes] = {}
        self._requests = 0
        self._attempts: set[str] = set()
        self._arrivals: dict[str, float] = {}

    def take_mail(self, body: bytes) -> bytes:
        """Count a mail and return the answer to it."""
        tags = {tag.name: tag.value for tag in _MAIL.decode(body).tags}
        self._take(tags.get("notification", ""), tags.get("attempt", ""))
        return b'{"MessageId":"%s"}' % uuid4().hex.encode()

    def take_sms(self, body: bytes) -> bytes:
        """Count an SMS and return the answer to it, as long as Twilio's."""
        ids = dict(parse_qsl(urlsplit(dict(parse_qsl(body.decode())).get("StatusCallback", "")).query))
        self._take(ids.get("notification", ""), ids.get("attempt", ""))
        return b'{"sid":"SM%s",%s}' % (uuid4().hex.encode(), _MESSAGE)

    def take_push(self, body: bytes) -> bytes:
        """Count a push and return the answer to it."""
        ids = _PUSH.decode(body).message.data
        self._take(ids.notification_id, ids.attempt_id)
        return b'{"name":"projects/%s/messages/%s"}' % (PROJECT.encode(), uuid4().hex.encode())

    def _take(self, notification: str, attempt: str) -> None:
        self._requests += 1
        if attempt:
            self._attempts.add(attempt)
        self._arrivals[notification] = time.monotonic()

    def count(self) -> bytes:
        """Return how much came in."""
        return msgspec.json.encode(Taken(self._requests, len(self._attempts)))

    def taken(self) -> bytes:
        """Return all that came in since the last time, and forget it."""
        taken = Taken(self._requests, len(self._attempts), self._arrivals)
        self._requests, self._attempts, self._arrivals = 0, set(), {}
        return msgspec.json.encode(taken)


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a server's stream is a Transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url, body = self._url.decode(), b"".join(self._body)
        takes = {MAILS: self._stub.take_mail, SMS: self._stub.take_sms, PUSHES: self._stub.take_push}
        if url in takes:
            answer = takes[url](body)
            if self._stub.delay:
                asyncio.get_running_loop().call_later(self._stub.delay, self._answer, answer)
                return
        elif self._parser.get_method() == b"PUT":
            answer = self._told(url, body)
        else:
            pages: dict[str, Callable[[], bytes]] = {"/count": self._stub.count, "/taken": self._stub.taken}
            answer = pages[url]() if url in pages else self._stub.shown.get(url, b"")
        self._answer(answer)

    def _told(self, url: str, body: bytes) -> bytes:
        if url.startswith("/delay/"):
            self._stub.delay = float(url.removeprefix("/delay/"))
        else:
            self._stub.shown[url] = body
        return b""

    def _answer(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)


async def _serve(port: int) -> None:
    stub = Stub()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(stub), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


_MESSAGE = msgspec.json.encode(
    {
        "account_sid": ACCOUNT,
        "api_version": "2010-04-01",
        "body": "Your code is 123 456",
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000",
        "date_sent": "Thu, 24 Aug 2023 05:01:45 +0000",
        "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": "+15005550006",
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "status": "queued",
        "subresource_uris": {"media": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM/Media.json"},
        "to": "+15005550006",
    }
)[1:-1]
_MAIL = msgspec.json.Decoder(_Mail)
_PUSH = msgspec.json.Decoder(_Push)

if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
