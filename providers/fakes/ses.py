"""A server that behaves like Amazon SES: takes mails, keeps every request, publishes signed events, shows an inbox."""

import argparse
import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec
import uvloop
from aiohttp import web

from providers.fakes.request_log import RequestLog
from providers.fakes.serving import listen, until_asked_to_end
from providers.fakes.ses_events import event
from providers.fakes.ses_inbox import Inbox
from providers.fakes.ses_log import Request, SendEmail
from providers.fakes.sns import Seal, Topic

TOPIC = "arn:aws:sns:eu-west-1:000000000000:ses-events"
SANDBOX = "sandbox.example"
LARGEST_REQUEST = 40 * 1024 * 1024
PAGE = 1000
Event = tuple[str, dict[str, str]]
DECODER = msgspec.json.Decoder(SendEmail)


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How a request is answered, after `delay` (JSON: ISO 8601, "PT0.05S"). Status 0: taken, but never answered."""

    status: int = 200
    code: str = ""
    message: str = ""
    retry_after: int | None = None
    delay: timedelta = timedelta(0)


class Magic(msgspec.Struct, frozen=True):
    """What befalls mails to a magic recipient: the answer, how often it holds (None = always), and the events."""

    answer: Behaviour
    events: tuple[Event, ...]
    times: int | None = None


OK = Behaviour()
SENT: Event = ("Send", {})
DELIVERED: tuple[Event, ...] = (SENT, ("Delivery", {}))
DELAYED: Event = ("DeliveryDelay", {})
MAILBOX_FULL = {"bounceType": "Transient", "bounceSubType": "MailboxFull", "status": "5.2.2"}
TOO_FAST = Behaviour(
    status=429, code="TooManyRequestsException", message="Maximum sending rate exceeded.", retry_after=1
)
BAD_CONTENT = Behaviour(status=400, code="MessageRejected", message="Email content is not acceptable.")
PLAIN = Magic(OK, DELIVERED)
MAGIC = {
    "bounce": Magic(OK, (SENT, ("Bounce", {}))),
    "soft-bounce": Magic(OK, (SENT, DELAYED, ("Bounce", MAILBOX_FULL))),
    "complaint": Magic(OK, (*DELIVERED, ("Complaint", {}))),
    "suppressed": Magic(OK, (SENT, ("Bounce", {"bounceSubType": "OnAccountSuppressionList"}))),
    "slow": Magic(Behaviour(delay=timedelta(seconds=3)), DELIVERED),
    "timeout": Magic(Behaviour(status=0), ()),
    "throttled": Magic(TOO_FAST, DELIVERED, times=2),
    "refused": Magic(BAD_CONTENT, ()),
}


class FakeSes:
    """The server. `requests` has every request for a mail in order; `behaviour` overrules the magic recipients.

    `access_keys` are the ids of the keys that may sign; none = any.
    """

    def __init__(self, log: RequestLog[Request], seal: Seal, *, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour
        self.access_keys: set[str] = set()
        self.url = ""
        self.topic: Topic
        self._log = log
        self._seal = seal
        self._seen: Counter[str] = Counter()
        self._runner: web.AppRunner

    @classmethod
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        callback_url: str | None = None,
        topic: str = TOPIC,
        signature_version: str = "2",
        log: Path | None = None,
        keep: int | None = None,
        behaviour: Behaviour | None = None,
    ) -> Self:
        """Listen, and with a `callback_url` subscribe it to the topic.

        `log` is a file that the requests outlive the process in; `keep` is how many are kept whole, None = all.
        """
        seal = await asyncio.to_thread(Seal)
        fake = cls(RequestLog(Request, log, keep=keep), seal, behaviour=behaviour)
        await fake._listen(host, port)
        fake.topic = Topic(topic, origin=fake.url, seal=seal, version=signature_version)
        if callback_url is not None:
            await fake.topic.subscribe(callback_url)
            for request in fake._log.unsettled:
                fake._publish(request)
        return fake

    @property
    def log(self) -> RequestLog[Request]:
        """The log, for another fake whose mails the inbox shall show, too."""
        return self._log

    @property
    def requests(self) -> list[Request]:
        return self._log.requests

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self.topic.close()
        self._log.close()

    async def _listen(self, host: str, port: int) -> None:
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.add_routes(
            [
                web.post("/v2/email/outbound-emails", self._send_email),
                web.get(self._seal.path, self._certificate),
                web.get("/", self._root),
                web.get("/requests", self._requests),
                web.post("/control", self._control),
                *Inbox(self._log.requests, self._publish_one).routes(),
            ]
        )
        self._runner, self.url = await listen(app, host, port)

    async def _send_email(self, http: web.Request) -> web.Response:
        raw = await http.read()
        if not http.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
            return error("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
        if self.access_keys and signer(http.headers["Authorization"]) not in self.access_keys:
            return error("UnrecognizedClientException", "The security token is invalid.", status=403)
        try:
            body = DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            return error("BadRequestException", str(fault), status=400)
        if len(body.destination.to_addresses) != 1:
            return error("BadRequestException", "This server takes one recipient a request.", status=400)
        answer = self._take(http, body)
        return await self._reply(answer, self.requests[-1].message_id)

    def _take(self, http: web.Request, body: SendEmail) -> Behaviour:
        """Log the request, publish its events, and return how it is answered."""
        to = body.destination.to_addresses[0]
        answer = self.behaviour or self._answer(to)
        host, port = http.transport.get_extra_info("peername")[:2] if http.transport else ("", 0)
        number = len(self.requests) + 1
        request = Request(
            number=number,
            at=datetime.now(UTC),
            connection=f"{host}:{port}",
            to=to,
            tags={tag.name: tag.value for tag in body.email_tags},
            status=answer.status,
            code=answer.code,
            message_id=f"{number:016x}-{uuid4()}-000000",
            headers=dict(http.headers),
            body=body,
        )
        self._log.add(request)
        if request.accepted:
            self._publish(request)
        return answer

    def _answer(self, to: str) -> Behaviour:
        """Return how a mail to this address is answered by the magic recipients."""
        magic = magic_of(to)
        if magic.times is None:
            return magic.answer
        self._seen[to] += 1
        return magic.answer if self._seen[to] <= magic.times else OK

    async def _reply(self, answer: Behaviour, message_id: str) -> web.Response:
        if answer.delay:
            await asyncio.sleep(answer.delay.total_seconds())
        if answer.status == 0:
            await asyncio.Event().wait()
        if answer.status == 200:
            return reply({"MessageId": message_id})
        return error(answer.code, answer.message, status=answer.status, retry_after=answer.retry_after)

    def _publish(self, request: Request) -> None:
        """Publish what befalls a mail. Its events carry times of their own, so that a repeat is the same event."""
        events = magic_of(request.to).events
        left = len(events)

        def taken() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._log.settle(request)

        for kind, words in events:
            self.topic.publish(event(kind, request, words=words), then=taken)

    def _publish_one(self, kind: str, request: Request) -> None:
        self.topic.publish(event(kind, request, at=datetime.now(UTC)))

    async def _certificate(self, _: web.Request) -> web.Response:
        return web.Response(body=self._seal.certificate, content_type="application/x-pem-file")

    async def _root(self, http: web.Request) -> web.Response:
        """Take the visit to the SubscribeURL; anybody else is shown the inbox."""
        if http.query.get("Action") != "ConfirmSubscription":
            raise web.HTTPFound("/inbox")
        if not self.topic.confirm(http.query.get("Token", "")):
            return web.Response(status=400, text="InvalidParameter: Token")
        return web.Response(text="<ConfirmSubscriptionResponse/>", content_type="text/xml")

    async def _requests(self, http: web.Request) -> web.Response:
        after = int(http.query.get("after", "0"))
        return reply(self.requests[after : after + PAGE])

    async def _control(self, http: web.Request) -> web.Response:
        """Set the behaviour for all requests, or with `null` give it back to the magic recipients."""
        if http.content_type != "application/json":
            return web.Response(status=415)
        self.behaviour = msgspec.json.decode(await http.read(), type=Behaviour | None)
        return reply(self.behaviour)


def magic_of(to: str) -> Magic:
    """Return what befalls mails to this address; a +tag does not count, and only the sandbox's domain is magic."""
    local, _, domain = to.lower().rpartition("@")
    if domain != SANDBOX and not domain.endswith(f".{SANDBOX}"):
        return PLAIN
    return MAGIC.get(local.partition("+")[0], PLAIN)


def reply(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def signer(authorization: str) -> str:
    """Return the id of the key that a request is signed with."""
    return authorization.partition("Credential=")[2].partition("/")[0]


def error(code: str, message: str, *, status: int, retry_after: int | None = None) -> web.Response:
    """Return an error as the SES v2 API words it."""
    headers = {"x-amzn-ErrorType": code} | ({} if retry_after is None else {"Retry-After": str(retry_after)})
    body = msgspec.json.encode({"message": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def serve(arguments: argparse.Namespace) -> None:
    """Run the server by itself until SIGTERM or SIGINT."""
    fake = await FakeSes.start(
        arguments.host,
        arguments.port,
        callback_url=arguments.callback,
        topic=arguments.topic,
        log=arguments.log,
        keep=arguments.keep,
        behaviour=Behaviour(delay=timedelta(milliseconds=arguments.delay)) if arguments.delay else None,
    )
    await until_asked_to_end(fake.url)
    await fake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m providers.fakes.ses", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--callback", help="URL that the events are posted to")
    parser.add_argument("--topic", default=TOPIC, help="ARN of the topic that publishes them")
    parser.add_argument("--log", type=Path, help="file that keeps the requests over restarts")
    parser.add_argument("--keep", type=int, help="how many requests are kept whole in memory (all)")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds before each answer")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
