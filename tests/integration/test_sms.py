"""SMS over the real ledger and the fake of Twilio: what a person's STOP does, and what the caps of countries do."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.spending import Spending, caps_in
from handlers.worker import Lease
from ledger.agenda import Claim
from ledger.ledger import Ledger, Loaded
from ledger.policy import AllowList
from ledger.status import Status
from ledger.values import Channel, Lane
from providers.fakes.twilio import ACCOUNT, TOKEN, Behaviour, FakeTwilio
from providers.guard import Gate, Route
from providers.pricing import Price, Prices
from providers.twilio import Twilio
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, rows
from tests.support.postgres import Database

US, GB = "+12025550123", "+447400123456"
PRICES = Prices("USD", {"twilio": Price(Decimal("0.35"), {"US": Decimal("0.01"), "GB": Decimal("0.05")})})
STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)
COMMITS = "SELECT count(DISTINCT xmin::text) FROM ledger.stored_events WHERE topic = ANY(%s)"


@pytest.fixture
async def twilio() -> AsyncIterator[FakeTwilio]:
    """A Twilio that reports nothing by itself."""
    fake = await FakeTwilio.start(behaviour=Behaviour(life=()))
    yield fake
    await fake.stop()


@asynccontextmanager
async def texting(ledger: Ledger, fake: FakeTwilio, *, caps: str = "") -> AsyncIterator[Deliver]:
    client = await Twilio.open(
        account_sid=ACCOUNT, auth_token=TOKEN, public_url="http://127.0.0.1:9", base_url=fake.url
    )
    yield Deliver(
        ledger,
        Renderer(sender=load().sender, sms_sender="+15005550006", default_locale="en"),
        Route([Gate(client, ledger.store.connection)]),
        allowed=AllowList(frozenset({"*"})),
        metrics=Metrics(CollectorRegistry()),
        spending=Spending(PRICES, caps_in(caps), Channel.SMS),
    )
    await client.aclose()


async def asked_for(database: Database, application: Connection, *numbers: str) -> list[UUID]:
    """Ask for an SMS to each of these numbers, in this order."""
    messages = [message("OrderConfirmedEvent", userId=str(uuid4()), userPhoneNumber=number) for number in numbers]
    for one in messages:
        await take_in(database.url, [one], CHANNELS="sms")
    return [stream for (stream,) in await rows(application, STREAMS)][-len(numbers) :]


async def handled(deliver: Deliver, ledger: Ledger, stream: UUID) -> Loaded:
    """Handle it as a worker would; returns how it stands then."""
    loaded = await ledger.load(stream)
    assert isinstance(loaded, Loaded)
    claim = Claim(stream, 1, loaded.state.version, Lane.NORMAL)
    await deliver.handle(Lease(claim, uuid4(), time.monotonic() + 60), loaded, asyncio.Event())
    after = await ledger.load(stream)
    assert after is not None
    return after


async def test_i07_who_has_answered_stop_is_suppressed_for_sms_with_the_refusal_that_says_so(
    ledger: Ledger, database: Database, twilio: FakeTwilio, application: Connection
):
    first, second = await asked_for(database, application, GB, GB)
    twilio.behaviour = Behaviour(status=400, code=21610, message="Attempt to send to unsubscribed recipient")
    async with texting(ledger, twilio) as deliver:
        refused = await handled(deliver, ledger, first)
        suppressed = await handled(deliver, ledger, second)
    assert (refused.state.status, refused.state.reason) == (Status.FAILED, "refused: 21610")
    assert (suppressed.state.status, suppressed.state.reason) == (Status.SUPPRESSED, "suppressed_address")
    assert suppressed.suppression is not None
    assert set(suppressed.suppression.entries) == {("opt_out", None)}
    assert len(twilio.requests) == 1
    together = ["notification.attempt_failed", "suppression.listed"]
    assert await rows(application, COMMITS, together) == [(1,)]


@pytest.mark.usefixtures("not_at_midnight")
async def test_i20_an_sms_counts_in_the_cap_of_its_country_and_in_that_of_the_channel(
    ledger: Ledger, database: Database, twilio: FakeTwilio, application: Connection
):
    """Two to Britain are too much for Britain, not for the channel; two to America are too much for the channel."""
    streams = await asked_for(database, application, GB, GB, US, US)
    async with texting(ledger, twilio, caps="sms=0.065 USD, sms:GB=0.06 USD") as deliver:
        after = [(await handled(deliver, ledger, stream)).state for stream in streams]
        assert [one.status for one in after] == [Status.DISPATCHED, Status.REQUESTED] * 2
        assert [one.cost[0].amount for one in after if one.cost] == [Decimal("0.05"), Decimal("0.01")]
        assert [sent.to for sent in twilio.requests] == [GB, US]
    used = await rows(application, "SELECT key, used FROM ledger.quota WHERE starts_with(key, 'spend:') ORDER BY key")
    assert used == [("spend:USD:sms", Decimal("0.06")), ("spend:USD:sms:GB", Decimal("0.05"))]
