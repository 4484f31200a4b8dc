"""The fake of Twilio behaves like Twilio, seen through the SDK and our own reading of callbacks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web

from ledger.values import (
    Accepted,
    Answer,
    InDoubt,
    Outcome,
    Postponed,
    Refused,
    Reply,
    Report,
    ReportKind,
    TextMessage,
    Word,
)
from providers.contract import Sending
from providers.fakes.twilio import ACCOUNT, TOKEN, Behaviour, FakeTwilio
from providers.fakes.twilio_log import segments
from providers.twilio import Twilio
from providers.twilio_callbacks import TwilioCallbacks
from tests.integration.providers.stub import answers, http, never_answers, stub

GSM, UCS = "Grüße: 123 456", "你好 🎉"


class Receiver:
    """A service as Twilio sees it: believes what is signed, answers 503 to the next `down` posts."""

    def __init__(self, *, down: int) -> None:
        self.url = ""
        self.reports: list[Report] = []
        self.replies: list[Reply] = []
        self.down = down

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.down:
            self.down -= 1
            return web.Response(status=503)
        callbacks = TwilioCallbacks(public_url=self.url, secrets=[TOKEN])
        self.reports += await callbacks.read(body, request.headers, request.query_string)
        return web.Response(status=204)

    async def take_reply(self, request: web.Request) -> web.Response:
        callbacks = TwilioCallbacks(public_url=self.url, secrets=[TOKEN])
        self.replies.append(await callbacks.reply(await request.read(), request.headers, request.query_string))
        return web.Response(text="<Response/>", content_type="text/xml")


@asynccontextmanager
async def receiver(*, down: int = 0) -> AsyncIterator[Receiver]:
    taker = Receiver(down=down)
    app = web.Application()
    app.router.add_post("/callbacks/twilio", taker.take)
    app.router.add_post("/callbacks/twilio/inbound", taker.take_reply)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taker.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield taker
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[FakeTwilio]:
    fake = await FakeTwilio.start(**options)
    try:
        yield fake
    finally:
        await fake.stop()


@asynccontextmanager
async def sender(url: str, *, public_url: str = "http://127.0.0.1:9", **options: Any) -> AsyncIterator[Twilio]:
    given: dict[str, Any] = {"account_sid": ACCOUNT, "auth_token": TOKEN, **options}
    twilio = await Twilio.open(public_url=public_url, base_url=url, **given)
    try:
        yield twilio
    finally:
        await twilio.aclose()


async def send(twilio: Twilio, to: str = "+447700900123", *, content: TextMessage | None = None) -> Outcome:
    said = content or TextMessage(sender="+15005550006", text=GSM)
    return await twilio.send(Sending(notification=uuid4(), attempt=uuid4(), address=to, content=said))


async def asked(twilio: Twilio, reference: str) -> Answer | Postponed:
    return await twilio.ask(reference, notification=UUID(int=1), attempt=UUID(int=2))


async def test_every_request_is_kept_whole_and_outlives_the_process(tmp_path: Path):
    log = tmp_path / "twilio.jsonl"
    async with running(log=log) as fake, sender(fake.url) as twilio:
        outcomes = [await send(twilio, f"+44770090012{number}") for number in range(3)]
    async with running(log=log) as again:
        assert outcomes == [Accepted(request.message_id) for request in again.requests]
        first = again.requests[0]
        assert (first.to, first.form["Body"], first.form["From"]) == ("+447700900120", GSM, "+15005550006")
        assert set(first.tags) == {"notification", "attempt"}
        assert len({request.connection for request in again.requests}) == 1


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        ("+15005550001", Accepted),
        ("+15005550002", Refused("21211")),
        ("+15005550003", Accepted),
        ("+15005550004", InDoubt("timeout")),
    ],
)
async def test_the_magic_numbers_show_one_path_each(number: str, outcome: object):
    async with running() as fake, sender(fake.url, deadline=timedelta(seconds=1)) as twilio:
        got = await send(twilio, number)
        assert got == outcome or isinstance(got, Accepted) is (outcome is Accepted)
        assert len(fake.requests) == 1


async def test_its_callbacks_are_signed_and_tell_each_status_in_turn():
    async with receiver() as taker, running() as fake, sender(fake.url, public_url=taker.url) as twilio:
        await send(twilio, "+15005550001")
        await fake.called_back()
        kinds = [report.kind for report in taker.reports]
        assert kinds == [ReportKind.DISPATCHED, ReportKind.DELIVERED]
        await send(twilio, "+15005550003")
        await fake.called_back()
        last = taker.reports[-1]
        assert (last.kind, last.evidence) == (ReportKind.BOUNCED, {"status": "undelivered", "error_code": "30003"})
        assert [str(last.notification), str(last.attempt)] == list(fake.requests[1].tags.values())


async def test_a_status_that_was_not_taken_comes_again_also_after_a_restart(tmp_path: Path):
    log = tmp_path / "twilio.jsonl"
    async with receiver(down=1_000) as taker:
        async with running(log=log) as fake, sender(fake.url, public_url=taker.url) as twilio:
            await send(twilio)
        taker.down = 1
        async with running(log=log) as again:
            await again.called_back()
        assert [report.kind for report in taker.reports] == [ReportKind.DISPATCHED, ReportKind.DELIVERED]
        async with running(log=log) as again:
            await again.called_back()
        assert len(taker.reports) == 2


@pytest.mark.parametrize(
    ("options", "code"), [({"auth_token": "another"}, "20003"), ({"account_sid": f"AC{'1' * 32}"}, "20003")]
)
async def test_who_does_not_know_the_token_is_refused(options: dict[str, str], code: str):
    async with running() as fake, sender(fake.url, **options) as twilio:
        assert await send(twilio) == Postponed(code, ours=True)
        assert await asked(twilio, f"SM{'1' * 32}") == Postponed(code, ours=True)
        assert fake.requests == []


async def test_it_refuses_what_twilio_refuses():
    async with running() as fake, sender(fake.url) as twilio:
        assert await send(twilio, content=TextMessage(sender="", text="Hi")) == Postponed("21603", ours=True)
        assert await send(twilio, content=TextMessage(sender="Acme", text="x" * 1_601)) == Refused("21617")
        fake.behaviour = Behaviour(status=429, code=20429, message="Too Many Requests", retry_after=7)
        assert await send(twilio) == Postponed("20429", retry_after=timedelta(seconds=7))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("你" * 70, 1),
        ("你" * 71, 2),
        ("🎉" * 35, 1),
        ("🎉" * 36, 2),
    ],
)
def test_it_counts_segments_as_the_networks_do(text: str, count: int):
    assert segments(text) == count


async def test_it_answers_a_question_with_the_status_of_now():
    async with running(behaviour=Behaviour(life=())) as fake, sender(fake.url) as twilio:
        outcome = await send(twilio)
        assert isinstance(outcome, Accepted)
        for status, kind in [("queued", ReportKind.DISPATCHED), ("delivered", ReportKind.DELIVERED)]:
            fake.statuses[outcome.reference] = status
            answer = await asked(twilio, outcome.reference)
            assert isinstance(answer, Answer)
            assert answer.report is not None
            assert (answer.status, answer.report.kind) == (status, kind)
        assert len(fake.requests) == 1


async def test_an_answer_is_the_same_report_as_the_callback():
    async with receiver() as taker, running() as fake, sender(fake.url, public_url=taker.url) as twilio:
        outcome = await send(twilio, "+15005550003")
        assert isinstance(outcome, Accepted)
        await fake.called_back()
        called = taker.reports[-1]
        assert called.notification is not None
        assert called.attempt is not None
        answer = await twilio.ask(outcome.reference, notification=called.notification, attempt=called.attempt)
        assert answer == Answer("undelivered", called)


@pytest.mark.parametrize("reference", [f"SM{'1' * 32}", "", "../Accounts", "ses-1"])
async def test_a_message_that_is_not_its_own_is_unknown(reference: str):
    async with running() as fake, sender(fake.url) as twilio:
        assert await asked(twilio, reference) == Answer("unknown")


REFERENCE = f"SM{'1' * 32}"
TROUBLE = {
    "throttled": (http(429, {"code": 20429}, Retry_After="7"), Postponed("20429", retry_after=timedelta(seconds=7))),
    "broken": (http(500, b"<html>"), Postponed("500")),
    "no JSON": (http(200, b"<html>"), Postponed("JSONDecodeError")),
    "another message": (http(200, {"sid": f"SM{'2' * 32}", "status": "delivered"}), Postponed("another_message")),
    "a redirect": (http(307, b"", Location="/elsewhere"), Postponed("JSONDecodeError")),
    "a status that is new": (http(200, {"sid": REFERENCE, "status": "teleported"}), Answer("unknown")),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_a_question_that_gets_no_answer_says_so_and_is_no_doubt(name: str):
    reply, expected = TROUBLE[name]
    async with stub(answers(reply)) as server, sender(server.url) as twilio:
        assert await asked(twilio, REFERENCE) == expected


async def test_questions_that_hang_keep_no_message_waiting():
    async def only_questions_hang(exchange: Any) -> None:
        is_question = exchange.head.startswith(b"GET")
        await (never_answers if is_question else answers(http(201, {"sid": REFERENCE})))(exchange)

    async with stub(only_questions_hang) as server, sender(server.url, max_connections=1) as twilio:
        questions = [asyncio.create_task(asked(twilio, REFERENCE)) for _ in range(50)]
        await server.asked.wait()
        assert await send(twilio) == Accepted(REFERENCE)
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)


async def test_its_inbox_shows_what_went_out_and_what_became_of_it():
    async with running() as fake, sender(fake.url) as twilio:
        await send(twilio, content=TextMessage(sender="Acme", text="<b>123</b>"))
        async with aiohttp.ClientSession() as session, session.get(f"{fake.url}/inbox") as reply:
            page = await reply.text()
    assert "&lt;b&gt;123&lt;/b&gt;" in page
    assert all(word in page for word in ("Acme", "+447700900123", fake.requests[0].message_id))


async def test_an_answer_from_the_inbox_is_posted_signed_and_obeyed_as_by_twilio():
    said = (("stop", Word.STOP), ("hello", Word.OTHER), ("START", Word.START))
    async with (
        receiver() as taker,
        running(inbound_url=f"{taker.url}/callbacks/twilio/inbound") as fake,
        sender(fake.url, public_url=taker.url) as twilio,
        aiohttp.ClientSession() as person,
    ):
        assert isinstance(await send(twilio), Accepted)
        for number, (text, word) in enumerate(said):
            async with person.post(f"{fake.url}/inbox/1/answer", data={"text": text}) as page:
                assert page.status == 200
            await fake.called_back()
            assert (taker.replies[number].word, taker.replies[number].address) == (word, "+447700900123")
            assert (await send(twilio) == Refused("21610", opted_out=True)) == (word is not Word.START)
        async with person.post(f"{fake.url}/inbox/99/answer", data={"text": "stop"}) as page:
            assert page.status == 404
