"""An SMS of which nothing is heard is asked for: the worker, the ledger and the fake of Twilio together."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.receive import Receive
from handlers.worker import Lease, Worker
from ledger import notification as n
from ledger.agenda import Claim
from ledger.ledger import Ledger, Loaded
from ledger.policy import AllowList
from ledger.signals import Signals
from ledger.status import Status
from ledger.values import Accepted, Answer, Channel, Lane, Postponed, TextMessage
from providers.contract import Sending
from providers.fakes.twilio import ACCOUNT, TOKEN, Behaviour, FakeTwilio
from providers.guard import Gate, Route
from providers.twilio import Twilio
from templates.rendering import Renderer
from tests.integration.ledger import lives
from tests.integration.ledger.parts import Connection, now, rows, set_aside_in
from tests.support.listed import listed_for
from tests.support.postgres import Database
from tests.support.service import until

SILENT = Behaviour(life=())
NUMBER = "+447700900123"


@pytest.fixture
async def twilio() -> AsyncIterator[FakeTwilio]:
    """A Twilio that reports nothing by itself."""
    fake = await FakeTwilio.start(behaviour=SILENT)
    yield fake
    await fake.stop()


@pytest.fixture
async def provider(twilio: FakeTwilio) -> AsyncIterator[Twilio]:
    client = await Twilio.open(
        account_sid=ACCOUNT, auth_token=TOKEN, public_url="http://127.0.0.1:9", base_url=twilio.url
    )
    yield client
    await client.aclose()


@pytest.fixture
def deliver(ledger: Ledger, provider: Twilio) -> Deliver:
    renderer = Renderer(sender="shop@shop.example", sms_sender="+15005550006")
    route = Route([Gate(provider, ledger.store.connection)])
    return Deliver(ledger, renderer, route, allowed=AllowList(frozenset({"*"})), metrics=Metrics(CollectorRegistry()))


@pytest.fixture
def worker(ledger: Ledger, deliver: Deliver, database: Database) -> Worker:
    return Worker(ledger, deliver, Signals(database.url), metrics=Metrics(CollectorRegistry()))


async def until_asked(worker: Worker, twilio: FakeTwilio) -> None:
    """Let the worker work until it has asked a question, and has done with what it had in hand."""
    running = asyncio.create_task(worker.run())
    await until(lambda: twilio.questions > 0, "a question")
    worker.stop()
    await running


async def taken(ledger: Ledger, provider: Twilio, *, hours: float = 1) -> tuple[UUID, str]:
    """An SMS that Twilio took so long ago; returns the notification and the sid."""
    at = now() - timedelta(hours=hours)
    stream = await lives.begin(ledger, channel=Channel.SMS, at=at)
    attempt, said = uuid4(), TextMessage("+15005550006", "Hi")
    outcome = await provider.send(Sending(notification=stream, attempt=attempt, address=NUMBER, content=said))
    assert isinstance(outcome, Accepted)
    origin = n.Origin(now=at, cause="agenda", by="deliver")
    intent = n.Intent(
        attempt=attempt,
        provider="twilio",
        address_hash="ab" * 16,
        digest=said.digest(),
        template_version="v1",
        locale="en",
        deadline_at=at + timedelta(seconds=10),
    )
    await lives.decide(ledger, stream, lambda state, _: n.start_attempt(state, intent, origin))
    await lives.decide(ledger, stream, lambda state, _: n.settle(state, attempt, outcome, origin, retry_at=at))
    return stream, outcome.reference


async def read(ledger: Ledger, stream: UUID) -> Loaded:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return loaded


async def topics(application: Connection, stream: UUID) -> list[str]:
    query = "SELECT topic FROM ledger.stored_events WHERE originator_id = %s ORDER BY originator_version"
    return [topic.removeprefix("notification.") for (topic,) in await rows(application, query, stream)]


async def handle(deliver: Deliver, loaded: Loaded) -> None:
    claim = Claim(loaded.stream, 1, loaded.state.version, Lane.LOW)
    await deliver.handle(Lease(claim, uuid4(), time.monotonic() + 60), loaded, asyncio.Event())


TAKEN = ["requested", "rendered", "attempt_started", "dispatched"]


async def test_an_sms_that_is_due_to_be_asked_for_is_asked_for_once_and_no_message_is_sent(
    ledger: Ledger, worker: Worker, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, sid = await taken(ledger, provider)
    early, _ = await taken(ledger, provider, hours=0.9)
    twilio.statuses[sid] = "delivered"
    await until_asked(worker, twilio)
    assert (await read(ledger, stream)).state.status is Status.DELIVERED
    assert await topics(application, stream) == [*TAKEN, "delivered", "inquired"]
    assert await topics(application, early) == TAKEN
    assert (twilio.questions, len(twilio.requests)) == (1, 2)
    assert await rows(application, "SELECT notification FROM ledger.agenda") == [(early,)]


async def test_an_sms_that_is_still_on_its_way_is_asked_for_again_an_hour_later(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, sid = await taken(ledger, provider)
    twilio.statuses[sid] = "sent"
    await handle(deliver, await read(ledger, stream))
    assert await topics(application, stream) == [*TAKEN, "inquired"]
    ((due_at, lane),) = await rows(application, "SELECT due_at, lane FROM ledger.agenda")
    assert timedelta(minutes=55) < due_at - now() < timedelta(minutes=65)
    assert lane == "low"
    await handle(deliver, await read(ledger, stream))
    assert twilio.questions == 1


async def test_i08_two_processes_that_ask_at_a_time_record_one_answer(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, sid = await taken(ledger, provider)
    twilio.statuses[sid] = "delivered"
    loaded = await read(ledger, stream)
    await asyncio.gather(*(handle(deliver, loaded) for _ in range(4)))
    assert await topics(application, stream) == [*TAKEN, "delivered", "inquired"]


async def test_i08_the_callback_that_comes_after_the_answer_is_no_second_fact(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, sid = await taken(ledger, provider)
    twilio.statuses[sid] = "delivered"
    loaded = await read(ledger, stream)
    (attempt,) = loaded.state.attempts
    answer = await provider.ask(sid, notification=stream, attempt=attempt.id)
    assert isinstance(answer, Answer)
    assert answer.report is not None
    await handle(deliver, loaded)
    receive = Receive(ledger, set_aside_in(ledger.store), Metrics(CollectorRegistry()))
    by_reference = msgspec.structs.replace(answer.report, notification=None, attempt=None)
    await receive.reports([answer.report, by_reference])
    assert await topics(application, stream) == [*TAKEN, "delivered", "inquired"]


async def test_i07_an_answer_that_the_number_is_dead_forbids_the_number(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio
):
    twilio.behaviour = Behaviour(life=("undelivered",), error_code=30005)
    stream, _ = await taken(ledger, provider)
    await until(lambda: "undelivered" in twilio.statuses.values(), "the status")
    await handle(deliver, await read(ledger, stream))
    loaded = await read(ledger, stream)
    assert loaded.state.status is Status.BOUNCED
    assert listed_for(loaded) is not None


async def test_i13_a_question_that_fails_is_no_fact_and_waits(
    ledger: Ledger, worker: Worker, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, _ = await taken(ledger, provider)
    twilio.behaviour = Behaviour(status=500, code=20500)
    await until_asked(worker, twilio)
    assert await topics(application, stream) == TAKEN
    ((wait, claims),) = await rows(application, "SELECT wait_until - now(), claims FROM ledger.agenda")
    assert (timedelta(minutes=4) < wait <= timedelta(minutes=5), claims) == (True, 0)


async def test_i13_after_a_day_of_silence_and_no_answer_nobody_asks_any_more(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio, application: Connection
):
    stream, sid = await taken(ledger, provider, hours=24)
    twilio.behaviour = Behaviour(status=500, code=20500)
    assert isinstance(await provider.ask(sid, notification=stream, attempt=uuid4()), Postponed)
    await handle(deliver, await read(ledger, stream))
    assert await topics(application, stream) == [*TAKEN, "inquired"]
    assert await rows(application, "SELECT notification FROM ledger.agenda") == []


async def test_i20_a_question_keeps_no_message_from_its_turn(
    ledger: Ledger, deliver: Deliver, provider: Twilio, twilio: FakeTwilio
):
    """The right to a call that it was claimed with goes back before the question waits for its answer."""
    gate = Gate(provider, ledger.store.connection, rate=1)
    stream, _ = await taken(ledger, provider)
    loaded = await read(ledger, stream)
    assert await gate.room(1) == 1
    token = gate.take()
    assert token is not None
    lease = Lease(Claim(stream, 1, loaded.state.version, Lane.LOW), uuid4(), time.monotonic() + 60, token)
    twilio.behaviour = Behaviour(delay=timedelta(minutes=1))
    asking = asyncio.create_task(deliver.handle(lease, loaded, asyncio.Event()))
    await until(lambda: twilio.questions > 0, "a question")
    assert not token.good
    asking.cancel()
