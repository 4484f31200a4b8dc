"""What is counted of a delivery: when a provider has it, what that took, what the provider said, what it cost."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.pauses import Pauses
from handlers.spending import Spending
from handlers.worker import Lease
from ledger.agenda import Claim
from ledger.ledger import Ledger
from ledger.operations import Selector
from ledger.policy import AllowList
from ledger.values import Channel, Lane
from ops.gauges import Gauges
from ops.wiring import PROVIDERS
from projections.notification_log import NotificationLog
from providers.fakes.ses import Behaviour, FakeSes
from providers.guard import Gate, Route
from providers.pricing import load as load_prices
from providers.ses import Ses
from templates.catalogue import load
from templates.rendering import Renderer
from tests.integration.ledger import lives
from tests.integration.ledger.parts import now, opened_store, set_aside_in
from tests.support.postgres import Database

HANDOVER = "notification_handover_seconds"
REQUESTS = "notification_provider_requests_total"
REFRESHED = "notification_gauges_refreshed_timestamp_seconds"
COST = "notification_provider_cost_total"
OF_MAIL = {"channel": "email", "lane": "normal"}
HOUR = timedelta(hours=1)


async def begin(ledger: Ledger, **changes: Any) -> UUID:
    """A mail whose words need no data."""
    return await lives.begin(ledger, type="welcome", template="welcome", **changes)


class Measured:
    """A delivery of mail, and what it counts."""

    def __init__(self, ledger: Ledger, ses: Ses) -> None:
        self._registry = CollectorRegistry()
        self._ledger = ledger
        prices = load_prices(None, providers=PROVIDERS)
        self._deliver = Deliver(
            ledger,
            Renderer(sender=load(None).sender, default_locale="en"),
            Route([Gate(ses, ledger.store.connection)]),
            allowed=AllowList(frozenset({"*"})),
            metrics=Metrics(self._registry),
            spending=Spending(prices, (), Channel.EMAIL),
        )

    async def handle(self, stream: UUID) -> None:
        loaded = await self._ledger.load(stream)
        assert loaded is not None
        claim = Claim(stream, 1, loaded.state.version, Lane.NORMAL)
        await self._deliver.handle(Lease(claim, uuid4(), time.monotonic() + 60), loaded, asyncio.Event())

    def value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(name, labels) or 0

    def handed_over(self, *, within: str = "+Inf") -> float:
        return self.value(f"{HANDOVER}_bucket", **OF_MAIL, le=within)


@pytest.fixture
async def measured(ledger: Ledger, fake: FakeSes) -> AsyncIterator[Measured]:
    ses = await Ses.open(
        region="eu-west-1",
        endpoint_url=fake.url,
        access_key_id="key",
        secret_access_key="none",
        deadline=timedelta(seconds=1),
    )
    yield Measured(ledger, ses)
    await ses.aclose()


async def test_what_a_provider_has_taken_counts_once_from_when_it_was_taken_in(ledger: Ledger, measured: Measured):
    for ago in (timedelta(0), HOUR):
        stream = await begin(ledger, at=now() - ago)
        for _ in range(2):
            await measured.handle(stream)
    assert (measured.handed_over(within="10.0"), measured.handed_over()) == (1, 2)
    assert measured.value(f"{HANDOVER}_sum", **OF_MAIL) == pytest.approx(3600, abs=60)


async def test_the_time_that_somebody_wanted_it_to_wait_does_not_count(ledger: Ledger, measured: Measured):
    sent_at = await begin(ledger, at=now() - HOUR, send_at=now() - timedelta(seconds=1))
    await measured.handle(sent_at)
    assert measured.handed_over(within="10.0") == 1
    paused = await begin(ledger, at=now() - HOUR)
    pauses = Pauses(ledger, types=load(None).kinds, providers=PROVIDERS)
    begun = await pauses.begin(Selector(channel=Channel.EMAIL), reason="a test", by="test")
    await pauses.end(begun.pause.pause, reason="a test", by="test")
    await measured.handle(paused)
    assert (measured.handed_over(within="10.0"), measured.handed_over()) == (2, 2)


@pytest.mark.parametrize(
    ("behaviour", "result", "costs"),
    [
        (Behaviour(), "answered", True),
        (Behaviour(status=400, code="MessageRejected"), "refused", False),
        (Behaviour(status=429, code="TooManyRequestsException", retry_after=1), "throttled", False),
        (Behaviour(status=503, code="ServiceUnavailable"), "unavailable", False),
        (Behaviour(status=403, code="AccessDeniedException"), "fault_of_ours", False),
        (Behaviour(status=0), "no_answer", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_request_is_counted_by_what_came_back_and_costs_what_may_have_been_taken(
    ledger: Ledger, measured: Measured, fake: FakeSes, behaviour: Behaviour, result: str, *, costs: bool
):
    fake.behaviour = behaviour
    await measured.handle(await begin(ledger))
    assert measured.value(REQUESTS, provider="ses", operation="send", result=result) == 1
    assert bool(measured.value(COST, channel="email", provider="ses", currency="USD")) is costs
    assert measured.handed_over() == (result == "answered")


async def test_the_store_says_how_long_each_operation_took(database: Database):
    metrics = Metrics(registry := CollectorRegistry())
    async with opened_store(database.url, timed=metrics.time_database) as store:
        await store.append([])
        await store.now()
    for operation in ("wait", "query", "append"):
        assert registry.get_sample_value("notification_database_seconds_count", {"operation": operation}) == 1


async def test_it_is_seen_when_the_gauges_were_last_right(ledger: Ledger, database: Database):
    gauges = Gauges(registry := CollectorRegistry(), ledger, set_aside_in(ledger.store), NotificationLog())
    await gauges.refresh()
    before = registry.get_sample_value(REFRESHED)
    assert before == pytest.approx(time.time(), abs=60)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE ledger.dead_letter RENAME TO gone")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await gauges.refresh()
    assert registry.get_sample_value(REFRESHED) == before


async def test_what_is_due_is_counted_each_time_up_to_a_limit_and_beyond_it_once_a_minute(
    ledger: Ledger, database: Database
):
    gauges = Gauges(registry := CollectorRegistry(), ledger, set_aside_in(ledger.store), NotificationLog())
    due = (
        "INSERT INTO ledger.agenda (notification, channel, lane, due_at, version) "
        "SELECT gen_random_uuid(), 'email', 'normal', now() + %s * interval '1 s', 1 FROM generate_series(1, %s)"
    )

    async def told() -> tuple[float | None, float | None, float | None]:
        await gauges.refresh()
        labels = {"channel": "email", "lane": "normal"}
        names = ("agenda_due", "agenda_rows", "agenda_claimed")
        due, waiting, claimed = (registry.get_sample_value(f"notification_{name}", labels) for name in names)
        return due, waiting, claimed

    assert await told() == (0, None, 0)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(due, (-60, 900))
        assert await told() == (900, None, 0)
        connection.execute(due, (-60, 300))
        assert await told() == (1000, None, 0)
        connection.execute(due, (3600, 50))
        gauges._count_at = 0
        assert await told() == (1200, 1250, 0)
        connection.execute("DELETE FROM ledger.agenda WHERE due_at < now()")
        assert await told() == (0, 1250, 0)
