"""A server that behaves like Twilio: takes SMS, keeps every request, calls back with signed statuses, can be asked."""

import argparse
import asyncio
import re
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from twilio.request_validator import SIGNATURE_HEADER, RequestValidator

from providers.fakes.request_log import RequestLog
from providers.fakes.serving import listen, until_asked_to_end
from providers.fakes.twilio_inbox import Inbox
from providers.fakes.twilio_log import TAKEN, Request, message

ACCOUNT = f"AC{'0' * 32}"
TOKEN = "sandbox"  # noqa: S105 - opens nothing but this server
NUMBER = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
LONGEST_TEXT = 1_600
PAGE = 1000
CALLS_AT_ONCE = 8
CALL_TIMEOUT = timedelta(seconds=15)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=100), timedelta(seconds=5)
# The words that Twilio itself obeys ("Support for opt-out keywords").
STOP, START = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}, {"START", "YES", "UNSTOP"}
ERRORS = "https://www.twilio.com/docs/errors"


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How a request is answered, after `delay` (JSON: ISO 8601, "PT0.05S"). Status 0: taken, but never answered.

    `life` are the statuses that a message which is taken goes through, one report each; the last has the `error_code`.
    """

    status: int = TAKEN
    code: int = 0
    message: str = ""
    retry_after: int | None = None
    delay: timedelta = timedelta(0)
    life: tuple[str, ...] = ("sent", "delivered")
    error_code: int = 0


OK = Behaviour()
STOPPED = Behaviour(status=400, code=21610, message="Attempt to send to unsubscribed recipient")
INVALID = Behaviour(status=400, code=21211, message="Invalid 'To' Phone Number")
MAGIC = {
    "+15005550001": OK,
    "+15005550002": INVALID,
    "+15005550003": Behaviour(life=("sent", "undelivered"), error_code=30003),
    "+15005550004": Behaviour(status=0, life=()),
}


class FakeTwilio:
    """The server. `requests` has every request for an SMS in order; `behaviour` overrules the magic numbers.

    `statuses` are those that the messages have come to, by their sids: what the server says when it is asked.
    `secondary_token` is a second one that it takes requests with; it signs with the first. `stopped` are the numbers
    whose owners have answered STOP.
    """

    def __init__(
        self,
        log: RequestLog[Request],
        *,
        account_sid: str,
        auth_token: str,
        inbound_url: str | None,
        behaviour: Behaviour | None,
    ) -> None:
        self.behaviour = behaviour
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.secondary_token: str | None = None
        self.url = ""
        self.statuses: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.questions = 0
        self._inbound_url = inbound_url
        self._log = log
        self._by_sid = {request.message_id: request for request in log.requests}
        self._calls: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(CALLS_AT_ONCE)
        self._session: aiohttp.ClientSession
        self._runner: web.AppRunner

    @classmethod
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        account_sid: str = ACCOUNT,
        auth_token: str = TOKEN,
        inbound_url: str | None = None,
        log: Path | None = None,
        keep: int | None = None,
        behaviour: Behaviour | None = None,
    ) -> Self:
        """Listen. `inbound_url` is where answers are posted (a number's "a message comes in"); `log` is a file that the
        requests outlive the process in, `keep` how many are kept whole.
        """
        requests = RequestLog(Request, log, keep=keep)
        fake = cls(
            requests, account_sid=account_sid, auth_token=auth_token, inbound_url=inbound_url, behaviour=behaviour
        )
        fake._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT.total_seconds()))
        await fake._listen(host, port)
        for request in requests.requests:
            fake.statuses[request.message_id] = (request.life or ("queued",))[-1]
        for request in requests.unsettled:
            fake._live(request)
        return fake

    @property
    def requests(self) -> list[Request]:
        return self._log.requests

    async def stop(self) -> None:
        await self._runner.cleanup()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._session.close()
        self._log.close()

    async def called_back(self) -> None:
        """Wait until all that has happened so far was taken, or refused."""
        await asyncio.gather(*self._calls)

    async def _listen(self, host: str, port: int) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/2010-04-01/Accounts/{account}/Messages.json", self._create),
                web.get("/2010-04-01/Accounts/{account}/Messages/{sid}.json", self._fetch),
                web.get("/", self._root),
                web.get("/requests", self._requests),
                web.post("/control", self._control),
                *Inbox(self._log.requests, self.statuses, self.answer).routes(),
            ]
        )
        self._runner, self.url = await listen(app, host, port)

    async def _create(self, http: web.Request) -> web.Response:
        raw = await http.read()
        if refused := self._refused(http):
            return refused
        form = dict(parse_qsl(raw.decode("utf-8", "replace")))
        answer = fault_of(form) or self._refusal(form) or self.behaviour or MAGIC.get(form["To"], OK)
        request = self._take(http, form, answer)
        if answer.delay:
            await asyncio.sleep(answer.delay.total_seconds())
        if answer.status == 0:
            await asyncio.Event().wait()
        if request.accepted:
            first = "accepted" if "MessagingServiceSid" in form else "queued"
            return reply(message(request, account=self.account_sid, status=first, error_code=0), status=TAKEN)
        return error(answer)

    def _refused(self, http: web.Request) -> web.Response | None:
        """Return the answer to a request that comes from nobody who may ask."""
        known = {f"{self.account_sid}:{token}" for token in (self.auth_token, self.secondary_token) if token}
        if credentials(http.headers.get("Authorization", "")) not in known:
            return error(Behaviour(status=401, code=20003, message="Authenticate"))
        if http.match_info["account"] != self.account_sid:
            return error(Behaviour(status=404, code=20404, message="The requested resource was not found"))
        return None

    def _refusal(self, form: dict[str, str]) -> Behaviour | None:
        return STOPPED if form["To"] in self.stopped else None

    def _take(self, http: web.Request, form: dict[str, str], answer: Behaviour) -> Request:
        """Log the request, and let the message live."""
        host, port = http.transport.get_extra_info("peername")[:2] if http.transport else ("", 0)
        request = Request(
            number=len(self.requests) + 1,
            at=datetime.now(UTC),
            connection=f"{host}:{port}",
            to=form.get("To", ""),
            tags=dict(parse_qsl(urlsplit(form.get("StatusCallback", "")).query)),
            status=answer.status,
            code=str(answer.code or ""),
            message_id=f"SM{secrets.token_hex(16)}",
            headers=dict(http.headers),
            form=form,
            life=answer.life,
            error_code=answer.error_code,
        )
        self._log.add(request)
        if request.accepted:
            self._by_sid[request.message_id] = request
            self.statuses[request.message_id] = "queued"
            self._live(request)
        return request

    def answer(self, request: Request, text: str) -> None:
        """Let the person answer a message."""
        word = text.strip().upper()
        if word in STOP:
            self.stopped.add(request.to)
        elif word in START:
            self.stopped.discard(request.to)
        if self._inbound_url is not None:
            self._call(self._post_until_taken(self._inbound_url, self._answer(request, text)))

    def _live(self, request: Request) -> None:
        self._call(self._go_through(request))

    def _call(self, calling: Coroutine[None, None, None]) -> None:
        call = asyncio.create_task(calling)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _go_through(self, request: Request) -> None:
        """Go through the statuses of a message, and report each in turn."""
        async with self._at_once:
            for status in request.life:
                self.statuses[request.message_id] = status
                if request.reports:
                    await self._post_until_taken(request.form["StatusCallback"], self._report(request, status))
            if request.reports:
                self._log.settle(request)

    async def _post_until_taken(self, url: str, form: dict[str, str]) -> None:
        """Post until it is taken; as with SNS, a refusal ends it."""
        headers = {SIGNATURE_HEADER: RequestValidator(self.auth_token).compute_signature(url, form)}
        pause = FIRST_PAUSE
        while not await self._post(url, form, headers):
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _post(self, url: str, form: dict[str, str], headers: dict[str, str]) -> bool:
        try:
            async with self._session.post(url, data=form, headers=headers, allow_redirects=False) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _answer(self, request: Request, text: str) -> dict[str, str]:
        """Return what is posted of an answer (Messaging, "Twilio's request to your application")."""
        sid = f"SM{secrets.token_hex(16)}"
        return {
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "Body": text,
            "From": request.to,
            "MessageSid": sid,
            "NumMedia": "0",
            "NumSegments": "1",
            "SmsMessageSid": sid,
            "SmsSid": sid,
            "SmsStatus": "received",
            "To": request.form.get("From", ""),
        }

    def _report(self, request: Request, status: str) -> dict[str, str]:
        """Return what is posted of a status (Message resource, "Status callback")."""
        words = {
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "From": request.form.get("From", ""),
            "MessageSid": request.message_id,
            "MessageStatus": status,
            "SmsSid": request.message_id,
            "SmsStatus": status,
            "To": request.to,
        }
        if status in {"delivered", "undelivered"}:
            words["RawDlrDoneDate"] = f"{datetime.now(UTC):%y%m%d%H%M}"
        return words | ({"ErrorCode": str(code)} if (code := self._error_code(request, status)) else {})

    def _error_code(self, request: Request, status: str) -> int:
        return request.error_code if request.life and status == request.life[-1] else 0

    async def _fetch(self, http: web.Request) -> web.Response:
        self.questions += 1
        if refused := self._refused(http):
            return refused
        if self.behaviour is not None and self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay.total_seconds())
        if self.behaviour is not None and self.behaviour.status not in {0, TAKEN}:
            return error(self.behaviour)
        request = self._by_sid.get(http.match_info["sid"])
        if request is None:
            return error(Behaviour(status=404, code=20404, message="The requested resource was not found"))
        status = self.statuses[request.message_id]
        code = self._error_code(request, status)
        return reply(message(request, account=self.account_sid, status=status, error_code=code))

    async def _root(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/inbox")

    async def _requests(self, http: web.Request) -> web.Response:
        after = int(http.query.get("after", "0"))
        return reply(self.requests[after : after + PAGE])

    async def _control(self, http: web.Request) -> web.Response:
        """Set the behaviour for all requests, or with `null` give it back to the magic numbers."""
        if http.content_type != "application/json":
            return web.Response(status=415)
        self.behaviour = msgspec.json.decode(await http.read(), type=Behaviour | None)
        return reply(self.behaviour)


def fault_of(form: dict[str, str]) -> Behaviour | None:
    """Return how a request is answered that no message can be made of."""
    if not form.get("To"):
        return Behaviour(status=400, code=21604, message="A 'To' phone number is required.")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return Behaviour(status=400, code=21603, message="A 'From' phone number is required.")
    if not form.get("Body"):
        return Behaviour(status=400, code=21602, message="Message body is required.")
    if not NUMBER.fullmatch(form["To"]):
        return INVALID
    if len(form["Body"]) > LONGEST_TEXT:
        return Behaviour(status=400, code=21617, message="The concatenated message body exceeds the 1600 limit.")
    return None


def credentials(header: str) -> str:
    """Return user and password of HTTP's Basic authentication, joined by a colon; nothing when it is none."""
    scheme, _, given = header.partition(" ")
    try:
        return b64decode(given, validate=True).decode() if scheme.lower() == "basic" else ""
    except (Base64Error, UnicodeDecodeError):
        return ""


def reply(value: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def error(answer: Behaviour) -> web.Response:
    """Return an error as the 2010 API words it."""
    body = {"code": answer.code, "message": answer.message, "more_info": f"{ERRORS}/{answer.code}"}
    told = reply(body | {"status": answer.status}, status=answer.status)
    if answer.retry_after is not None:
        told.headers["Retry-After"] = str(answer.retry_after)
    return told


async def serve(arguments: argparse.Namespace) -> None:
    """Run the server by itself until SIGTERM or SIGINT."""
    fake = await FakeTwilio.start(
        arguments.host,
        arguments.port,
        log=arguments.log,
        keep=arguments.keep,
        behaviour=Behaviour(delay=timedelta(milliseconds=arguments.delay)) if arguments.delay else None,
    )
    await until_asked_to_end(fake.url)
    await fake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m providers.fakes.twilio", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="file that keeps the requests over restarts")
    parser.add_argument("--keep", type=int, help="how many requests are kept whole in memory (all)")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds before each answer")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
