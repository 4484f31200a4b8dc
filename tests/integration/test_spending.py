"""Daily caps over the real quota, by processes as they run: the money stays within the cap, and the excess waits."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.spending import Cap, Spending, caps_in
from handlers.worker import Lease
from ledger.agenda import Claim
from ledger.decision import Take
from ledger.ledger import Ledger, Loaded
from ledger.policy import AllowList
from ledger.status import Status
from ledger.store import Encoded
from ledger.values import Channel
from ops.gauges import Gauges
from ops.wiring import PROVIDERS
from projections.notification_log import NotificationLog
from providers.fakes.ses import FakeSes
from providers.guard import Gate, Route
from providers.pricing import load as load_prices
from providers.ses import Ses
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.audit import count
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message, shipped
from tests.integration.ledger.parts import Connection, rows, set_aside_in, value
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import WORKER, until

pytestmark = pytest.mark.usefixtures("not_at_midnight")

MAIL = Decimal("0.0001")
STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)
WAITING = "SELECT count(*) FROM ledger.agenda WHERE wait_until > now() + interval '1 second' AND owner IS NULL"
USED = "SELECT used FROM ledger.quota WHERE key = 'spend:USD:email'"
STARTED = "SELECT count(*) FROM ledger.stored_events WHERE topic = 'notification.attempt_started'"
COSTS = """
SELECT convert_from(state, 'UTF8')::json -> 'cost' ->> 'amount' FROM ledger.stored_events
WHERE topic = 'notification.attempt_started'
"""


@asynccontextmanager
async def deliverer(ledger: Ledger, fake: FakeSes, caps: str) -> AsyncIterator[Deliver]:
    ses = await Ses.open(region="eu-west-1", endpoint_url=fake.url, access_key_id="key", secret_access_key="none")
    yield Deliver(
        ledger,
        Renderer(sender=load().sender, default_locale="en"),
        Route([Gate(ses, ledger.store.connection)]),
        allowed=AllowList(frozenset({"*"})),
        metrics=Metrics(CollectorRegistry()),
        spending=Spending(load_prices(providers=PROVIDERS), caps_in(caps), Channel.EMAIL),
    )
    await ses.aclose()


async def handled(ledger: Ledger, deliver: Deliver, application: Connection, *, nth: int = 0) -> Loaded:
    """Handle the nth notification as a worker would that has claimed it; returns how it stands then."""
    stream = (await rows(application, STREAMS))[nth][0]
    loaded = await ledger.load(stream)
    assert loaded is not None
    owner = uuid4()
    given = (owner, stream)
    claim = "UPDATE ledger.agenda SET owner = %s, claims = 1, lease_until = now() + '1 minute' WHERE notification = %s"
    await application.execute(claim, given)
    lease = Lease(Claim(stream, 1, loaded.state.version, loaded.state.requested.lane), owner, time.monotonic() + 60)
    await deliver.handle(lease, loaded, asyncio.Event())
    after = await ledger.load(stream)
    assert after is not None
    return after


def tomorrow() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def mail_to(database: Database, *names: str) -> None:
    await take_in(database.url, [message("OrderShippedEvent", userEmail=f"{name}@sandbox.example") for name in names])


async def test_i20_three_processes_together_stay_within_a_cap_and_the_excess_waits_for_the_next_day(
    database: Database, fake: FakeSes, tmp_path: Path
):
    await take_in(database.url, shipped(120))
    settings = {"DATABASE_URL": database.url, "SES_ENDPOINT_URL": fake.url, "SPEND_CAPS": "email=0.005 USD"}
    async with processes.running(tmp_path, **settings) as service:
        for _ in range(3):
            await service.start("deliver", program=WORKER)
        await until(lambda: count(database.url, WAITING) == 70, "the excess to wait")
        assert len(fake.requests) == count(database.url, STARTED) == 50
        assert "spend_cap_reached" in service.logs()
        await service.stop_all()
        # What waits for tomorrow is looked at again by who knows another cap.
        await service.start("deliver", program=WORKER, SPEND_CAPS="email=1 USD")
        await until(lambda: len(fake.requests) == 120, "the excess")


async def test_i20_what_is_over_the_cap_waits_without_a_fact_until_the_day_is_over(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    await mail_to(database, "success", "success")
    async with deliverer(ledger, fake, f"email={MAIL} USD") as deliver:
        assert (await handled(ledger, deliver, application)).state.status is Status.DISPATCHED
        with capture_logs() as logs:
            waiting = await handled(ledger, deliver, application, nth=1)
            await handled(ledger, deliver, application, nth=1)
    assert (waiting.state.version, len(fake.requests)) == (1, 1)
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == ["spend_cap_reached"]
    until_when = await value(application, "SELECT wait_until FROM ledger.agenda")
    assert abs(until_when - tomorrow()) < timedelta(seconds=5)
    assert await value(application, "SELECT waits_for FROM ledger.agenda") == "spend_cap"


async def test_what_waits_for_the_next_day_is_looked_at_when_it_expires(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    await take_in(database.url, [message("PasswordResetRequestedEvent", emailAddress="success@sandbox.example")])
    async with deliverer(ledger, fake, "email=0 USD") as deliver:
        waiting = await handled(ledger, deliver, application)
    until_when = await value(application, "SELECT wait_until FROM ledger.agenda")
    # In the last half hour of a day, the next one comes first.
    assert abs(until_when - min(waiting.state.requested.expires_at, tomorrow())) < timedelta(seconds=5)


async def test_i27_what_a_provider_has_certainly_not_taken_goes_back_and_a_doubt_stays_spent(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    """The quota is the sum of the costs of those that count."""
    await mail_to(database, "success", "timeout", "refused", "throttled")
    async with deliverer(ledger, fake, "email=1 USD") as deliver:
        after = [await handled(ledger, deliver, application, nth=nth) for nth in range(4)]
    statuses = [Status.DISPATCHED, Status.IN_DOUBT, Status.FAILED, Status.DEFERRED]
    assert [one.state.status for one in after] == statuses
    assert await rows(application, COSTS) == [(str(MAIL),)] * 4
    spent = sum((money.amount for one in after for money in one.state.cost), Decimal(0))
    assert await value(application, USED) == spent == 2 * MAIL


async def test_how_much_of_a_cap_is_spent_is_shown_and_said_once_when_it_gets_near(
    ledger: Ledger, application: Connection
):
    registry = CollectorRegistry()
    caps = caps_in("email=10 USD, sms=10 USD, sms:GB=1 USD, sms:US=0 USD")
    gauges = Gauges(registry, ledger, set_aside_in(ledger.store), NotificationLog(), caps=caps)

    def shown(cap: Cap) -> float | None:
        given = {"channel": cap.channel.value, "country": cap.country or ""}
        return registry.get_sample_value("notification_spend_ratio", given)

    with capture_logs() as logs:
        await spend(ledger, caps[0], "7.9")
        await spend(ledger, caps[2], "0.8")
        for _ in range(2):
            await gauges._refresh_spending()
        assert [shown(cap) for cap in caps] == [0.79, 0.0, 0.8, 0.0]
        await spend(ledger, caps[0], "0.1")
        await gauges._refresh_spending()
    near = [(line["channel"], line["country"]) for line in logs if line["event"] == "spend_cap_near"]
    assert near == [("sms", "GB"), ("email", None)]


async def spend(ledger: Ledger, cap: Cap, amount: str) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    take = Take(cap.key, today, Decimal(amount), cap.limit)
    assert await ledger.store.append([Encoded(takes=[take])]) == {}
