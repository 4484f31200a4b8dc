import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from ledger.values import Accepted, InDoubt, Outcome, Postponed, Refused
from providers.contract import Sending
from providers.fakes.request_log import RequestLog
from providers.fakes.ses import FakeSes
from providers.fakes.ses_log import Request
from providers.fakes.smtp import Behaviour, FakeSmtp
from providers.smtp import Smtp
from tests.integration.providers.vendors import DEADLINE, RELAY


@asynccontextmanager
async def relay(log: RequestLog[Request] | None = None) -> AsyncIterator[FakeSmtp]:
    fake = await FakeSmtp.start(log=log)
    try:
        yield fake
    finally:
        await fake.stop()


async def outcome_at(url: str, address: str, *, deadline: timedelta = timedelta(seconds=20)) -> Outcome:
    sending = Sending(notification=uuid4(), attempt=uuid4(), address=address, content=RELAY.sending.content)
    smtp = await Smtp.open(url, deadline=deadline)
    try:
        return await smtp.send(sending)
    finally:
        await smtp.aclose()


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return await reply.text()


async def talk(fake: FakeSmtp, *words: str) -> list[str]:
    """Say these lines to the relay, and return the first line of each of its replies, its greeting left out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    await reader.readline()
    replies = []
    for line in words:
        writer.write(f"{line}\r\n".encode())
        replies.append((await reader.readline()).decode().strip())
        while replies[-1][3:4] == "-" and (await reader.readline())[3:4] == b"-":
            pass
    writer.close()
    return replies


@pytest.mark.parametrize(
    ("address", "outcome"),
    [
        ("bounce@sandbox.example", Refused("550-5.1.1")),
        ("soft-bounce@sandbox.example", Refused("552-5.2.2")),
        ("suppressed@sandbox.example", Refused("550-5.7.1")),
        ("refused@sandbox.example", Refused("554-5.7.1")),
        ("throttled@sandbox.example", Postponed("451-4.7.1")),
        ("BOUNCE+tag@eu.sandbox.example", Refused("550-5.1.1")),
    ],
)
async def test_a_magic_recipient_plays_its_name(address: str, outcome: Outcome):
    async with relay() as fake:
        assert await outcome_at(fake.url, address) == outcome
        assert [(request.to, request.accepted) for request in fake.requests] == [(address, False)]


@pytest.mark.parametrize("name", ["success", "complaint", "slow", "anybody"])
async def test_other_recipients_are_sent_to(name: str):
    async with relay() as fake:
        assert isinstance(await outcome_at(fake.url, f"{name}@sandbox.example"), Accepted)
        assert isinstance(await outcome_at(fake.url, f"{name}@acme.example"), Accepted)
        assert all(request.accepted for request in fake.requests)


async def test_a_throttled_recipient_is_taken_the_third_time():
    async with relay() as fake:
        outcomes = [await outcome_at(fake.url, "throttled@sandbox.example") for _ in range(3)]
        assert [type(outcome) for outcome in outcomes] == [Postponed, Postponed, Accepted]


async def test_a_mail_that_is_never_answered_went_out():
    async with relay() as fake:
        assert await outcome_at(fake.url, "timeout@sandbox.example", deadline=DEADLINE) == InDoubt("timeout")
        assert [request.accepted for request in fake.requests] == [True]


async def test_a_behaviour_overrules_the_magic_recipients():
    async with relay() as fake:
        fake.behaviour = Behaviour(rcpt="450 4.2.0 Greylisted")
        assert await outcome_at(fake.url, "success@sandbox.example") == Postponed("450-4.2.0")


async def test_every_mail_is_kept_whole(tmp_path: Path):
    with closing(RequestLog(Request, tmp_path / "log")) as log:
        async with relay(log) as fake:
            outcome = await outcome_at(fake.url, "jane@acme.example")
    with closing(RequestLog(Request, tmp_path / "log")) as again:
        (request,) = again.requests
    assert outcome == Accepted(request.message_id)
    assert request.mail == fake.requests[0].mail
    assert request.tags["attempt"].encode() in request.mail
    assert request.body
    assert request.body.content.simple.subject.data == RELAY.sending.mail.subject


async def test_of_mails_beyond_what_is_kept_whole_the_recipients_stay():
    async with relay(RequestLog(Request, keep=1)) as fake:
        for name in ("a", "b"):
            await outcome_at(fake.url, f"{name}@acme.example")
        assert [(request.to, bool(request.mail)) for request in fake.requests] == [
            ("a@acme.example", False),
            ("b@acme.example", True),
        ]


async def test_one_inbox_shows_the_mails_of_both_fakes():
    ses = await FakeSes.start()
    try:
        async with relay(ses.log) as fake:
            assert isinstance(await outcome_at(fake.url, "jane@acme.example"), Accepted)
        listed = await get(f"{ses.url}/inbox")
        assert "jane@acme.example" in listed
        assert RELAY.sending.mail.subject in listed
        shown = await get(f"{ses.url}/inbox/1")
        assert "<td>smtp<" in shown
        assert RELAY.sending.mail.html in await get(f"{ses.url}/inbox/1/html")
    finally:
        await ses.stop()


async def test_a_mail_that_nobody_reports_on_has_no_events(tmp_path: Path):
    ses = await FakeSes.start(log=tmp_path / "log")
    try:
        async with relay(ses.log) as fake:
            await outcome_at(fake.url, "jane@acme.example")
        assert "<form" not in await get(f"{ses.url}/inbox/1")
        async with aiohttp.ClientSession() as session, session.post(f"{ses.url}/inbox/1/open") as reply:
            assert reply.status == 404
    finally:
        await ses.stop()
    with closing(RequestLog(Request, tmp_path / "log")) as again:
        assert (len(again.requests), again.unsettled) == (1, [])


async def test_commands_out_of_turn_are_refused_as_a_relay_does():
    async with relay() as fake:
        words = {
            "RCPT TO:<a@acme.example>": "503 5.5.1",
            "DATA": "503 5.5.1",
            "EHLO client": "250-relay.sandbox.example",
            "AUTH PLAIN AAAA": "538 5.7.11",
            "STARTTLS": "502 5.5.1",
            "VRFY a": "502 5.5.1",
            "MAIL FROM:<b@acme.example>": "250 2.1.0",
            "MAIL FROM:<c@acme.example>": "503 5.5.1",
            "RCPT TO:<d@acme.example>": "250 2.1.5",
            "RCPT TO:<e@acme.example>": "452 4.5.3",
            "RSET": "250 2.0.0",
            "NOOP": "250 2.0.0",
            "QUIT": "221 2.0.0",
        }
        replies = await talk(fake, *words)
        assert [reply[: len(start)] for reply, start in zip(replies, words.values(), strict=True)] == [*words.values()]
        assert fake.requests == []


async def test_it_runs_by_itself_and_stops_on_sigterm():
    command = [sys.executable, "-m", "providers.fakes.smtp", "--keep", "5", "--delay", "1"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        ready = re.fullmatch(r"ready (smtp://\S+)\n", (await process.stdout.readline()).decode())
        assert ready
        assert isinstance(await outcome_at(ready[1], "jane@acme.example"), Accepted)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_mail_that_may_be_unsubscribed_from_says_how_over_a_relay_too():
    url = f"https://notifications.acme.example/unsubscribe/{'A' * 88}"
    async with relay() as fake:
        smtp = await Smtp.open(fake.url, deadline=timedelta(seconds=20))
        given = msgspec.structs.replace(RELAY.sending, address="jane@acme.example", unsubscribe=url)
        assert isinstance(await smtp.send(given), Accepted)
        await smtp.aclose()
        (request,) = fake.requests
        assert request.unsubscribe == url
