import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.receive import Receive
from handlers.worker import Lease
from ledger.agenda import Claim
from ledger.ledger import Ledger, Loaded
from ledger.policy import AllowList
from ledger.status import Status
from ledger.values import Category, Channel, Lane, Personal, Report, ReportKind
from providers.fakes.ses import FakeSes
from providers.guard import Gate, Route
from providers.ses import Ses
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, rows, set_aside_in
from tests.support.postgres import Database
from tests.unit.templates.samples import MEANINGS

RENDERED = "SELECT convert_from(state, 'UTF8') FROM ledger.stored_events WHERE topic = 'notification.rendered'"
STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)


@pytest.fixture
async def deliver(ledger: Ledger, fake: FakeSes) -> AsyncIterator[Deliver]:
    ses = await Ses.open(region="eu-west-1", endpoint_url=fake.url, access_key_id="key", secret_access_key="none")
    renderer = Renderer(sender=load(None).sender, default_locale="en")
    route = Route([Gate(ses, ledger.store.connection)])
    yield Deliver(ledger, renderer, route, allowed=AllowList(frozenset({"*"})), metrics=Metrics(CollectorRegistry()))
    await ses.aclose()


async def read(ledger: Ledger, stream: UUID) -> Loaded:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return loaded


async def handle(deliver: Deliver, loaded: Loaded) -> None:
    claim = Claim(loaded.stream, 1, loaded.state.version, Lane.NORMAL)
    await deliver.handle(Lease(claim, uuid4(), time.monotonic() + 60), loaded, asyncio.Event())


async def test_i07_what_was_read_before_a_suppression_is_not_sent_after_it(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    address = "ada@sandbox.example"
    await take_in(database.url, [message("OrderShippedEvent", userEmail=address) for _ in range(2)])
    first, second = [await read(ledger, stream) for (stream,) in await rows(application, STREAMS)]
    await handle(deliver, first)
    (attempt,) = (await read(ledger, first.stream)).state.attempts
    bounce = Report(
        provider="ses",
        reference=attempt.reference or "",
        kind=ReportKind.BOUNCED,
        key="bounce",
        notification=first.stream,
        attempt=attempt.id,
        suppresses=True,
    )
    await Receive(ledger, set_aside_in(ledger.store), Metrics(CollectorRegistry())).reports([bounce])
    await handle(deliver, second)
    assert [request.tags["notification"] for request in fake.requests] == [str(first.stream)]
    now_known = await read(ledger, second.stream)
    assert now_known.state.attempts == ()
    await handle(deliver, now_known)
    assert (await read(ledger, second.stream)).state.status is Status.SUPPRESSED


async def test_i06_a_mail_that_is_refused_falls_back_to_one_sms_whoever_handles_it(
    ledger: Ledger, database: Database, deliver: Deliver, application: Connection
):
    failed = message("PaymentFailedEvent", userEmail="refused@sandbox.example", userPhoneNumber="+442071838750")
    await take_in(database.url, [failed], CHANNELS="email,sms")
    ((stream,),) = await rows(application, STREAMS)
    await handle(deliver, await read(ledger, stream))
    refused = await read(ledger, stream)
    assert refused.state.status is Status.FAILED
    await asyncio.gather(handle(deliver, refused), handle(deliver, refused))
    first, second = [await read(ledger, stream) for (stream,) in await rows(application, STREAMS)]
    assert (first.state.fell_back_to, second.state.requested.fallback_of) == (second.stream, first.stream)
    instead = second.state.requested
    assert (instead.channel, instead.cause) == (Channel.SMS, f"fallback:{first.stream}")
    assert isinstance(instead.personal, Personal)
    assert instead.personal.address == "+442071838750"
    assert instead.address_hash == ledger.identity.address_hash("+442071838750")
    assert await rows(application, "SELECT notification, channel FROM ledger.agenda") == [(second.stream, "sms")]


def contact(user_id: str, **said: str | None) -> dict[str, Any]:
    payload = {"userId": user_id, **said}
    return {**message("UserRegisteredEvent"), "messageType": "UserContactChangedEvent", "payload": payload}


def shipped_without_an_address(user_id: str, **changes: str | None) -> dict[str, Any]:
    return message("OrderShippedEvent", userId=user_id, userEmail=None, **changes)


async def test_an_order_without_an_address_goes_to_the_one_that_the_person_is_known_by(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    address = "ada@sandbox.example"
    await take_in(database.url, [contact("ada", emailAddress=address, firstName="Ada")])
    await take_in(database.url, [shipped_without_an_address("ada", firstName=None)])
    ((stream,),) = await rows(application, STREAMS)
    await handle(deliver, await read(ledger, stream))
    (request,) = fake.requests
    assert request.to == address
    assert request.body is not None
    assert request.body.content.simple.body.text is not None
    assert "Ada" in request.body.content.simple.body.text.data
    assert (await read(ledger, stream)).state.status is Status.DISPATCHED


async def test_i07_a_contact_that_changes_between_the_reading_and_the_intent_is_the_one_that_is_written_to(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    await take_in(database.url, [contact("ada", emailAddress="old@sandbox.example")])
    await take_in(database.url, [shipped_without_an_address("ada")])
    ((stream,),) = await rows(application, STREAMS)
    known = await read(ledger, stream)
    await take_in(database.url, [contact("ada", emailAddress="new@sandbox.example")])
    await handle(deliver, known)
    assert fake.requests == []
    await handle(deliver, await read(ledger, stream))
    assert [request.to for request in fake.requests] == ["new@sandbox.example"]


async def test_a_person_without_an_address_is_not_written_to_and_the_history_says_what_was_looked_at(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    await take_in(database.url, [shipped_without_an_address("ada")])
    ((stream,),) = await rows(application, STREAMS)
    await handle(deliver, await read(ledger, stream))
    after = (await read(ledger, stream)).state
    assert (after.status, after.reason, fake.requests) == (Status.SUPPRESSED, "no_usable_address", [])


async def test_i07_an_address_that_becomes_known_while_none_is_found_is_used(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    await take_in(database.url, [shipped_without_an_address("ada")])
    ((stream,),) = await rows(application, STREAMS)
    known = await read(ledger, stream)
    await take_in(database.url, [contact("ada", emailAddress="ada@sandbox.example")])
    await handle(deliver, known)
    assert (await read(ledger, stream)).state.ended is None
    await handle(deliver, await read(ledger, stream))
    assert [request.to for request in fake.requests] == ["ada@sandbox.example"]


OWN_ADDRESS_ALONE = {"EmailVerificationRequestedEvent", "LowStockWarningEvent"}
ADDRESSES = ("emailAddress", "phoneNumber", "userEmail", "userPhoneNumber")


async def test_every_message_of_the_platform_with_its_address_left_out_goes_where_the_person_is_known_to_be(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    bare = [message(each, **dict.fromkeys(ADDRESSES)) for each in sorted(MEANINGS.keys() - OWN_ADDRESS_ALONE)]
    people = set()
    for one in bare:
        for subscriber in one["payload"].get("subscribers", []):
            subscriber.pop("email", None)
            people.add(subscriber["userId"])
        people |= {one["payload"]["userId"]} if "userId" in one["payload"] else set()
    await take_in(database.url, [contact(user, emailAddress=f"{user}@sandbox.example") for user in sorted(people)])
    await take_in(database.url, bare)
    ended = {}
    for (stream,) in await rows(application, STREAMS):
        await handle(deliver, await read(ledger, stream))
        state = (await read(ledger, stream)).state
        ended[state.requested.type] = (state.status, state.requested.category is Category.MARKETING)
    assert set(ended.values()) == {(Status.DISPATCHED, False), (Status.SUPPRESSED, True)}
    assert {request.to.removesuffix("@sandbox.example") for request in fake.requests} <= people
    assert len(fake.requests) == sum(status is Status.DISPATCHED for status, _ in ended.values())


@pytest.mark.parametrize(
    ("locale", "used", "passed_over", "subject"),
    [
        ("fr-CA", "fr", ["fr-CA"], "est en route"),
        ("en", "en", [], "is on its way"),
        ("pt-BR", "en", ["pt-BR", "pt"], "is on its way"),
    ],
)
async def test_a_person_is_told_in_the_nearest_language_and_the_fact_says_which_came_before(
    ledger: Ledger,
    database: Database,
    deliver: Deliver,
    fake: FakeSes,
    application: Connection,
    *,
    locale: str,
    used: str,
    passed_over: list[str],
    subject: str,
):
    await take_in(database.url, [contact("ada", emailAddress="ada@sandbox.example", locale=locale)])
    await take_in(database.url, [shipped_without_an_address("ada", locale=None)])
    ((stream,),) = await rows(application, STREAMS)
    await handle(deliver, await read(ledger, stream))
    ((state,),) = await rows(application, RENDERED)
    fact = json.loads(state)
    assert (fact["locale"], fact.get("passed_over", [])) == (used, passed_over)
    (request,) = fake.requests
    assert request.body is not None
    assert subject in request.body.content.simple.subject.data


async def test_a_language_that_no_message_names_is_the_person_s_own(
    ledger: Ledger, database: Database, deliver: Deliver, fake: FakeSes, application: Connection
):
    await take_in(database.url, [contact("ada", emailAddress="ada@sandbox.example", locale="en-GB")])
    await take_in(database.url, [shipped_without_an_address("ada", locale=None)])
    ((stream,),) = await rows(application, STREAMS)
    known = await read(ledger, stream)
    assert (known.state.requested.locale, known.person.locale) == ("en", "en-GB")
    await handle(deliver, known)
    assert len(fake.requests) == 1
