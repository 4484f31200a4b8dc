"""A server that behaves like Firebase Cloud Messaging, and the phones behind it: they show pushes and report opens."""

import argparse
import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from providers.fakes.fcm_access import PATH as TOKEN_PATH
from providers.fakes.fcm_access import Account
from providers.fakes.fcm_inbox import Inbox
from providers.fakes.fcm_log import Push
from providers.fakes.request_log import RequestLog
from providers.fakes.serving import listen, until_asked_to_end

PROJECT = "sandbox"
PAGE = 1000
LARGEST_REQUEST = 1024 * 1024
LARGEST_PAYLOAD = 4096
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
RECEIPT_TIMEOUT = timedelta(seconds=5)


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How a request is answered, after `delay` (JSON: ISO 8601, "PT0.05S"). Status 0: taken, but never answered.

    `state` is the status of Google's APIs, `code` FCM's own, where it says one.
    """

    status: int = 200
    state: str = ""
    code: str = ""
    message: str = ""
    retry_after: int | None = None
    delay: timedelta = timedelta(0)


class Magic(msgspec.Struct, frozen=True):
    """What befalls pushes to a magic device: the answer, and how often it holds (None = always)."""

    answer: Behaviour
    times: int | None = None


OK = Behaviour()
PLAIN = Magic(OK)
UNREGISTERED = Behaviour(status=404, state="NOT_FOUND", code="UNREGISTERED", message="Requested entity was not found.")
QUOTA = Behaviour(
    status=429, state="RESOURCE_EXHAUSTED", code="QUOTA_EXCEEDED", message="Quota exceeded.", retry_after=1
)
UNAVAILABLE = Behaviour(
    status=503, state="UNAVAILABLE", code="UNAVAILABLE", message="The service is currently unavailable.", retry_after=1
)
INVALID = Behaviour(
    status=400,
    state="INVALID_ARGUMENT",
    code="INVALID_ARGUMENT",
    message="The registration token is not a valid FCM registration token",
)
MISMATCH = Behaviour(status=403, state="PERMISSION_DENIED", code="SENDER_ID_MISMATCH", message="SenderId mismatch")
INTERNAL = Behaviour(status=500, state="INTERNAL", code="INTERNAL", message="Internal error encountered.")
# A device is magic by the word before the first "-" of its id: `unregistered`, `quota-2`, …
MAGIC = {
    "unregistered": Magic(UNREGISTERED),
    "quota": Magic(QUOTA, times=2),
    "unavailable": Magic(UNAVAILABLE, times=2),
    "invalid": Magic(INVALID),
    "mismatch": Magic(MISMATCH),
    "internal": Magic(INTERNAL, times=1),
    "slow": Magic(Behaviour(delay=timedelta(seconds=3))),
    "timeout": Magic(Behaviour(status=0)),
}


class FakeFcm:
    """The server. `requests` has every request for a push in order; `behaviour` overrules the magic devices.

    `credentials` is the JSON key of a service account that it knows.
    """

    def __init__(
        self, log: RequestLog[Push], account: Account, *, behaviour: Behaviour | None, service_url: str
    ) -> None:
        self.behaviour = behaviour
        self.account = account
        self.url = ""
        self._log = log
        self._service_url = service_url
        self._seen: Counter[str] = Counter()
        self._runner: web.AppRunner
        self._phone: aiohttp.ClientSession

    @classmethod
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        service_url: str = "",
        log: Path | None = None,
        behaviour: Behaviour | None = None,
    ) -> Self:
        """Listen. `service_url` is where the phones report to; `log` is a file that the requests outlive us in."""
        account = await asyncio.to_thread(Account, PROJECT)
        fake = cls(RequestLog(Push, log), account, behaviour=behaviour, service_url=service_url)
        await fake._listen(host, port)
        return fake

    @property
    def requests(self) -> list[Push]:
        return self._log.requests

    @property
    def credentials(self) -> str:
        return self.account.credentials(self.url)

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._phone.close()
        self._log.close()

    async def _listen(self, host: str, port: int) -> None:
        self._phone = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=RECEIPT_TIMEOUT.total_seconds()))
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.add_routes(
            [
                web.post("/v1/projects/{project}/messages:send", self._send),
                web.post(TOKEN_PATH, self.account.grant),
                web.get("/", self._root),
                web.get("/requests", self._requests),
                web.post("/control", self._control),
                *Inbox(self._log.requests, self._report).routes(),
            ]
        )
        self._runner, self.url = await listen(app, host, port)

    async def _send(self, http: web.Request) -> web.Response:
        raw = await http.read()
        if not self.account.admits(http.headers.get("Authorization", "")):
            return error(Behaviour(status=401, state="UNAUTHENTICATED", message="Invalid authentication credentials."))
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as fault:
            return error(Behaviour(status=400, state="INVALID_ARGUMENT", message=str(fault)))
        push = self._take(http, body)
        answer = self.behaviour or self._answer(push)
        push.status, push.code = answer.status, answer.code
        self._log.add(push)
        return await self._reply(answer, push)

    def _take(self, http: web.Request, body: dict[str, Any]) -> Push:
        project = http.match_info["project"]
        host, port = http.transport.get_extra_info("peername")[:2] if http.transport else ("", 0)
        return Push(
            number=len(self.requests) + 1,
            at=datetime.now(UTC),
            connection=f"{host}:{port}",
            project=project,
            status=0,
            code="",
            name=f"projects/{project}/messages/{uuid4()}",
            headers={name: value for name, value in http.headers.items() if name != "Authorization"},
            body=body,
        )

    def _answer(self, push: Push) -> Behaviour:
        """Return how a push is answered by its own faults, else by the magic devices."""
        if push.project != self.account.project:
            return Behaviour(status=404, state="NOT_FOUND", message="Requested entity was not found.")
        if not push.fid:
            return Behaviour(status=400, state="INVALID_ARGUMENT", message="Recipient of the message is not set.")
        if payload_size(push) > LARGEST_PAYLOAD:
            return msgspec.structs.replace(INVALID, message="Android message is too big")
        magic = MAGIC.get(push.fid.partition("-")[0], PLAIN)
        if magic.times is None:
            return magic.answer
        self._seen[push.fid] += 1
        return magic.answer if self._seen[push.fid] <= magic.times else OK

    async def _reply(self, answer: Behaviour, push: Push) -> web.Response:
        if answer.delay:
            await asyncio.sleep(answer.delay.total_seconds())
        if answer.status == 0:
            await asyncio.Event().wait()
        return reply({"name": push.name}) if answer.status == 200 else error(answer)

    async def _report(self, push: Push, kind: str) -> int:
        """Report as the app on the phone does, and return the service's answer; 0 = it did not answer."""
        url = f"{self._service_url}/v1/receipts/{push.data.get('receipt', '')}"
        try:
            async with self._phone.post(url, json={"kind": kind}) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0

    async def _root(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/inbox")

    async def _requests(self, http: web.Request) -> web.Response:
        after = int(http.query.get("after", "0"))
        return reply(self.requests[after : after + PAGE])

    async def _control(self, http: web.Request) -> web.Response:
        """Set the behaviour for all requests, or with `null` give it back to the magic devices."""
        if http.content_type != "application/json":
            return web.Response(status=415)
        self.behaviour = msgspec.json.decode(await http.read(), type=Behaviour | None)
        return reply(self.behaviour)


def payload_size(push: Push) -> int:
    """Return how many bytes of what FCM counts a push has: the words and the data."""
    return sum(len(text.encode()) for part in (push.said, push.data) for item in part.items() for text in item)


def reply(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def error(answer: Behaviour) -> web.Response:
    """Return an error as the HTTP v1 API words it."""
    details = [{"@type": FCM_ERROR, "errorCode": answer.code}] if answer.code else []
    what = {"code": answer.status, "message": answer.message, "status": answer.state, "details": details}
    headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
    body = msgspec.json.encode({"error": what})
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)


async def serve(arguments: argparse.Namespace) -> None:
    """Run the server by itself until SIGTERM or SIGINT."""
    fake = await FakeFcm.start(
        arguments.host,
        arguments.port,
        service_url=arguments.service,
        log=arguments.log,
        behaviour=Behaviour(delay=timedelta(milliseconds=arguments.delay)) if arguments.delay else None,
    )
    if arguments.credentials:
        arguments.credentials.touch(mode=0o600)
        arguments.credentials.write_text(fake.credentials)
    await until_asked_to_end(fake.url)
    await fake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m providers.fakes.fcm", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--service", default="", help="URL of the service that the phones report to")
    parser.add_argument("--credentials", type=Path, help="file that the account's key is written to")
    parser.add_argument("--log", type=Path, help="file that keeps the requests over restarts")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds before each answer")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
