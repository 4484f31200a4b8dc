import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
from aiohttp import web

from ledger.values import Accepted, InDoubt, Mail, Outcome, Postponed, Refused, Report
from providers.contract import Sending
from providers.fakes.ses import TOPIC, Behaviour, FakeSes
from providers.ses import Ses
from providers.ses_callbacks import SesCallbacks
from providers.sns import Fetcher, Verifier

CONTENT = Mail(sender="Acme <no-reply@acme.example>", subject="Grüße 你好", html="<h1>Hi</h1>", text="Hi\nthere")


class Receiver:
    """A service as SNS sees it: reads what is posted, answers 503 to the next `down` posts, keeps the reports."""

    def __init__(self, *, down: int) -> None:
        self.url = ""
        self.reports: list[Report] = []
        self.callbacks: SesCallbacks
        self.down = down
        self._news = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.down:
            self.down -= 1
            return web.Response(status=503)
        reports = await self.callbacks.read(body, request.headers)
        async with self._news:
            self.reports += reports
            self._news.notify_all()
        return web.Response()

    async def kinds(self, count: int) -> list[str]:
        """Wait for so many reports, and return their kinds."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: len(self.reports) >= count)
        return sorted(report.kind for report in self.reports)


@asynccontextmanager
async def sender(url: str, *, deadline: timedelta = timedelta(seconds=30)) -> AsyncIterator[Ses]:
    ses = await Ses.open(
        region="eu-west-1", endpoint_url=url, access_key_id="AKID", secret_access_key="secret", deadline=deadline
    )
    try:
        yield ses
    finally:
        await ses.aclose()


@asynccontextmanager
async def receiver(*, down: int) -> AsyncIterator[Receiver]:
    """Serve a receiver; its callbacks are set when the fake has told its origin."""
    taker = Receiver(down=down)
    app = web.Application()
    app.router.add_post("/callbacks/ses", taker.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taker.url = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks/ses"
    try:
        yield taker
    finally:
        await runner.cleanup()


@asynccontextmanager
async def reporting(*, down: int = 0, **options: Any) -> AsyncIterator[tuple[FakeSes, Ses, Receiver]]:
    """A fake whose events are read by the real callbacks."""
    async with receiver(down=down) as taker, silent(callback_url=taker.url, **options) as fake:
        fetcher = await Fetcher.open()
        taker.callbacks = SesCallbacks(Verifier(topics=[TOPIC], fetch=fetcher, origin=fake.url))
        try:
            async with sender(fake.url) as ses:
                yield fake, ses, taker
        finally:
            await fetcher.aclose()


@asynccontextmanager
async def silent(**options: Any) -> AsyncIterator[FakeSes]:
    fake = await FakeSes.start(**options)
    try:
        yield fake
    finally:
        await fake.stop()


async def send(ses: Ses, address: str, *, attempt: UUID | None = None, unsubscribe: str | None = None) -> Outcome:
    sending = Sending(
        notification=uuid4(),
        attempt=attempt or uuid4(),
        address=address,
        content=CONTENT,
        unsubscribe=unsubscribe,
    )
    return await ses.send(sending)


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        assert reply.status == 200
        return await reply.text()


async def post(url: str, body: object = None) -> int:
    content: dict[str, Any] = {"data": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
    async with aiohttp.ClientSession() as session, session.post(url, allow_redirects=False, **content) as reply:
        return reply.status


async def test_a_mail_that_may_be_unsubscribed_from_says_how_and_the_inbox_shows_it():
    url = "https://notifications.acme.example/unsubscribe/abc?a=1&b=2"
    async with silent() as fake, sender(fake.url) as ses:
        for unsubscribe in (url, None):
            assert isinstance(await send(ses, "jane@acme.example", unsubscribe=unsubscribe), Accepted)
        assert [request.unsubscribe for request in fake.requests] == [url, None]
        assert f'<a href="{escape(url)}"' in await get(f"{fake.url}/inbox/1")
        assert "List-Unsubscribe" not in await get(f"{fake.url}/inbox/2")


async def test_every_request_is_kept_whole_and_in_order():
    attempts = [uuid4() for _ in range(3)]
    async with silent() as fake, sender(fake.url) as ses:
        outcomes = [await send(ses, f"p{n}@acme.example", attempt=attempt) for n, attempt in enumerate(attempts)]
        assert outcomes == [Accepted(request.message_id) for request in fake.requests]
        assert [request.to for request in fake.requests] == [f"p{n}@acme.example" for n in range(3)]
        assert [request.tags["attempt"] for request in fake.requests] == [str(attempt) for attempt in attempts]
        body = fake.requests[0].body
        assert body
        simple = body.content.simple
        assert (body.sender, simple.subject.data) == (CONTENT.sender, CONTENT.subject)
        assert simple.body.html
        assert simple.body.text
        assert (simple.body.html.data, simple.body.text.data) == (CONTENT.html, CONTENT.text)
        assert len({request.connection for request in fake.requests}) == 1
        listed = msgspec.json.decode(await get(f"{fake.url}/requests?after=1"))
        assert [request["number"] for request in listed] == [2, 3]


async def test_beyond_keep_a_request_is_remembered_without_its_body():
    async with silent(keep=2) as fake, sender(fake.url) as ses:
        for _ in range(4):
            await send(ses, "jane@acme.example")
        assert [request.body is None for request in fake.requests] == [True, True, False, False]
        assert len({request.tags["attempt"] for request in fake.requests}) == 4
        assert "no longer kept" in await get(f"{fake.url}/inbox")


@pytest.mark.parametrize(
    ("address", "kinds"),
    [
        ("success@sandbox.example", ["delivered", "dispatched"]),
        ("anybody@sandbox.example", ["delivered", "dispatched"]),
        ("Bounce+tag@Mail.Sandbox.example", ["bounced", "dispatched"]),
        ("bounce@notsandbox.example", ["delivered", "dispatched"]),
        ("soft-bounce@sandbox.example", ["bounced", "delayed", "dispatched"]),
        ("complaint@sandbox.example", ["complained", "delivered", "dispatched"]),
        ("suppressed@sandbox.example", ["bounced", "dispatched"]),
        ("jane@acme.example", ["delivered", "dispatched"]),
    ],
)
async def test_a_magic_recipient_has_its_events_signed_and_under_our_ids(address: str, kinds: list[str]):
    async with reporting() as (fake, ses, taker):
        outcome = await send(ses, address)
        assert await taker.kinds(len(kinds)) == kinds
        await fake.topic.drained()
        assert await taker.kinds(len(kinds)) == kinds
        request = fake.requests[0]
        assert {(str(report.notification), str(report.attempt)) for report in taker.reports} == {
            (request.tags["notification"], request.tags["attempt"])
        }
        assert {Accepted(report.reference) for report in taker.reports} == {outcome}


async def test_bounces_say_which_kind_they_are():
    async with reporting(signature_version="1") as (_, ses, taker):
        for name in ("bounce", "soft-bounce", "suppressed"):
            await send(ses, f"{name}@sandbox.example")
        await taker.kinds(7)
        found = [report.evidence for report in taker.reports if report.kind == "bounced"]
    assert sorted((one["bounce_type"], one["bounce_sub_type"], one["status"]) for one in found) == [
        ("Permanent", "General", "5.1.1"),
        ("Permanent", "OnAccountSuppressionList", "5.1.1"),
        ("Transient", "MailboxFull", "5.2.2"),
    ]


async def test_a_throttled_recipient_is_taken_the_third_time():
    async with silent() as fake, sender(fake.url) as ses:
        outcomes = [await send(ses, "throttled@sandbox.example") for _ in range(3)]
    assert outcomes[:2] == [Postponed("TooManyRequestsException", retry_after=timedelta(seconds=1))] * 2
    assert isinstance(outcomes[2], Accepted)


async def test_a_refused_recipient_is_refused_and_gets_no_mail():
    async with silent() as fake, sender(fake.url) as ses:
        assert await send(ses, "refused@sandbox.example") == Refused("MessageRejected")
        assert "refused@" not in await get(f"{fake.url}/inbox")


async def test_a_mail_to_timeout_is_taken_and_never_answered():
    async with silent() as fake, sender(fake.url, deadline=timedelta(seconds=2)) as ses:
        assert await send(ses, "timeout@sandbox.example") == InDoubt("timeout")
        assert len(fake.requests) == 1
        assert "timeout@" in await get(f"{fake.url}/inbox")


async def test_a_slow_recipient_is_taken_in_the_end():
    async with silent() as fake, sender(fake.url) as ses:
        assert isinstance(await send(ses, "slow@sandbox.example"), Accepted)


async def test_events_wait_until_the_receiver_is_up_and_none_is_lost():
    async with reporting(down=1) as (fake, ses, taker):
        await send(ses, "success@sandbox.example")
        await taker.kinds(2)
        taker.down = 8
        for _ in range(4):
            await send(ses, "success@sandbox.example")
        assert await taker.kinds(10) == ["delivered"] * 5 + ["dispatched"] * 5
        await fake.topic.drained()
        assert (fake.topic.delivered, fake.topic.refused, taker.down) == (10, 0, 0)


async def test_the_log_outlives_a_kill_and_events_that_were_not_taken_come_again(tmp_path: Path):
    log = tmp_path / "requests.jsonl"
    async with silent(log=log) as fake, sender(fake.url) as ses:
        await send(ses, "success@sandbox.example")
        await send(ses, "refused@sandbox.example")
        before = list(fake.requests)
    log.write_bytes(log.read_bytes() + b'{"type":"request","num')
    async with reporting(log=log) as (fake, ses, taker):
        assert fake.requests == before
        assert await taker.kinds(2) == ["delivered", "dispatched"]
        await fake.topic.drained()
        await send(ses, "success@sandbox.example")
        assert [request.number for request in fake.requests] == [1, 2, 3]
        await taker.kinds(4)
        await fake.topic.drained()
    async with reporting(log=log) as (fake, ses, taker):
        await send(ses, "bounce@sandbox.example")
        assert await taker.kinds(2) == ["bounced", "dispatched"]


async def test_the_whole_behaviour_can_be_changed_from_outside():
    async with silent() as fake, sender(fake.url) as ses:
        await post(f"{fake.url}/control", {"status": 500, "code": "InternalServiceErrorException", "message": "No."})
        assert await send(ses, "success@sandbox.example") == InDoubt("InternalServiceErrorException")
        assert fake.behaviour == Behaviour(status=500, code="InternalServiceErrorException", message="No.")
        await post(f"{fake.url}/control", {"delay": "PT0.2S"})
        began = asyncio.get_running_loop().time()
        assert isinstance(await send(ses, "refused@sandbox.example"), Accepted)
        assert asyncio.get_running_loop().time() - began >= 0.2
        await post(f"{fake.url}/control", None)
        assert await send(ses, "refused@sandbox.example") == Refused("MessageRejected")


async def test_the_inbox_shows_mails_newest_first_and_runs_none_of_their_text():
    evil = Mail(
        sender="<b>a@acme.example",
        subject="<script>1</script>",
        html="<script>2</script>",
        text="</pre><script>3</script>",
    )
    async with silent() as fake, sender(fake.url) as ses:
        await send(ses, "jane@acme.example")
        await ses.send(Sending(notification=uuid4(), attempt=uuid4(), address="joe@acme.example", content=evil))
        listing = await get(f"{fake.url}/")
        assert listing.index("joe@acme.example") < listing.index("jane@acme.example")
        shown = await get(f"{fake.url}/inbox/2")
        for page in (listing, shown):
            assert "&lt;script&gt;1" in page
            assert "<script" not in page
        assert re.search(r'<iframe sandbox="[^"]*" src="/inbox/2/html"', shown)
        assert "allow-scripts" not in shown
        async with aiohttp.ClientSession() as session, session.get(f"{fake.url}/inbox/2/html") as mail:
            assert "sandbox" in mail.headers["Content-Security-Policy"]
            assert evil.html in await mail.text()
        async with aiohttp.ClientSession() as session:
            for number in ("0", "3", "9" * 40):
                async with session.get(f"{fake.url}/inbox/{number}") as reply:
                    assert reply.status == 404


async def test_a_mail_is_opened_clicked_and_reported_from_the_inbox():
    async with reporting() as (fake, ses, taker):
        await send(ses, "success@sandbox.example")
        for kind in ("open", "click", "complaint"):
            assert await post(f"{fake.url}/inbox/1/{kind}") == 303
        assert await post(f"{fake.url}/inbox/1/teleport") == 404
        assert await taker.kinds(5) == ["clicked", "complained", "delivered", "dispatched", "opened"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{}", 403),
        ({"Authorization": "AWS4-HMAC-SHA256 x"}, b"{}", 400),
        ({"Authorization": "AWS4-HMAC-SHA256 x"}, b"\xff", 400),
        (
            {"Authorization": "AWS4-HMAC-SHA256 x"},
            b'{"Destination":{},"Content":{"Simple":{"Subject":{"Data":""},"Body":{}}}}',
            400,
        ),
    ],
)
async def test_a_request_that_is_no_mail_is_refused_as_ses_does(headers: dict[str, str], body: bytes, status: int):
    url = "/v2/email/outbound-emails"
    async with silent() as fake, aiohttp.ClientSession() as session:
        async with session.post(fake.url + url, data=body, headers=headers) as reply:
            assert reply.status == status
            assert reply.headers["x-amzn-ErrorType"].endswith("Exception")
            assert (await reply.json())["message"]
        assert fake.requests == []


async def test_it_runs_by_itself_and_stops_on_sigterm(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "providers.fakes.ses",
        "--log",
        str(tmp_path / "log"),
        "--keep",
        "5",
        "--delay",
        "1",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        ready = (await process.stdout.readline()).decode()
        url = ready.split()[1]
        async with sender(url) as ses:
            assert isinstance(await send(ses, "jane@acme.example"), Accepted)
        assert len(msgspec.json.decode(await get(f"{url}/requests"))) == 1
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
