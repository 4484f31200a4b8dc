"""The rules in delivery, over real quotas: who is capped, by which evidence, what waits for the end of quiet hours."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.recipients import tell
from handlers.spending import Spending, caps_in
from handlers.worker import Lease
from ledger import policy
from ledger.agenda import Claim
from ledger.decision import Take
from ledger.ledger import Ledger, Loaded
from ledger.notification import Saw
from ledger.policy import AllowList
from ledger.preferences import Choice, ConsentNews, PreferenceNews, QuietHours
from ledger.status import Status
from ledger.values import Category, Channel, FrequencyCap, Lane, Personal
from ops.wiring import PROVIDERS
from providers.fakes.ses import FakeSes
from providers.guard import Gate, Route
from providers.pricing import load as load_prices
from providers.ses import Ses
from templates.catalogue import load
from templates.rendering import Renderer
from tests.integration.ledger.parts import IDENTITY, Connection, begun, new_id, rows, running_ledger, value
from tests.support.postgres import Database
from tests.unit.templates.samples import sample

pytestmark = pytest.mark.usefixtures("not_at_the_full_hour")

# Longer than any test, and no boundary of it lies within one.
TWICE, ONCE = (FrequencyCap(most, timedelta(weeks=8)) for most in (2, 1))
MARKETING: dict[str, Any] = {"category": Category.MARKETING, "consent": "marketing"}
SAID = {
    name: said for name, said in sample("OrderShippedEvent")["payload"].items() if name not in {"userId", "firstName"}
}
USED = "SELECT used FROM ledger.quota WHERE key LIKE %s"
# Of everything there is one fact in these tests.
EVIDENCE = """
SELECT convert_from(state, 'UTF8')::json ->> 'rule', convert_from(state, 'UTF8')::json -> 'inputs'
FROM ledger.stored_events WHERE topic = 'notification.' || %s
"""


@asynccontextmanager
async def deliverer(ledger: Ledger, fake: FakeSes, **limits: Any) -> AsyncIterator[Deliver]:
    ses = await Ses.open(region="eu-west-1", endpoint_url=fake.url, access_key_id="key", secret_access_key="none")
    yield Deliver(
        ledger,
        Renderer(sender=load().sender, default_locale="en"),
        Route([Gate(ses, ledger.store.connection)]),
        allowed=AllowList(frozenset({"*"})),
        metrics=Metrics(CollectorRegistry()),
        **limits,
    )
    await ses.aclose()


@pytest.fixture
async def deliver(ledger: Ledger, fake: FakeSes) -> AsyncIterator[Deliver]:
    async with deliverer(ledger, fake) as deliver:
        yield deliver


async def wishes(ledger: Ledger, **said: Any) -> int:
    """Let the person say something; returns the version of what they have said."""
    known = await tell(ledger, PreferenceNews(user_id="u-1", said_at=datetime.now(UTC), **said), by="test")
    return known.version


async def agree(ledger: Ledger, *, granted: bool = True) -> int:
    return await wishes(ledger, consents=(ConsentNews(purpose="marketing", granted=granted),))


async def requested(ledger: Ledger, to: str = "success", **changes: Any) -> UUID:
    stream, address = new_id(), f"{to}@sandbox.example"
    said = Personal(address, "Ada", SAID)
    await ledger.append(begun(stream, personal=said, address_hash=IDENTITY.address_hash(address), **changes))
    return stream


async def read(ledger: Ledger, stream: UUID, *, later: timedelta = timedelta(0)) -> Loaded:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return msgspec.structs.replace(loaded, read_at=loaded.read_at + later)


async def handled(deliver: Deliver, ledger: Ledger, stream: UUID, *, later: timedelta = timedelta(0)) -> Loaded:
    """Handle it as a worker would that has claimed it, so much later; returns how it stands then."""
    loaded = await read(ledger, stream, later=later)
    lease = Lease(Claim(stream, 1, loaded.state.version, Lane.NORMAL), uuid4(), time.monotonic() + 60)
    await deliver.handle(lease, loaded, asyncio.Event())
    return await read(ledger, stream)


async def test_i20_two_replicas_together_send_no_more_than_the_cap_and_the_evidence_says_so(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    await agree(ledger)
    streams = [await requested(ledger, frequency_cap=TWICE, **MARKETING) for _ in range(8)]
    async with AsyncExitStack() as stack:
        replicas = [ledger, await stack.enter_async_context(running_ledger(database.url))]
        both = [(await stack.enter_async_context(deliverer(replica, fake)), replica) for replica in replicas]
        ended = await asyncio.gather(*(handled(*both[nth % 2], stream) for nth, stream in enumerate(streams)))
    assert len(fake.requests) == 2
    assert sorted(one.state.status for one in ended) == [Status.DISPATCHED] * 2 + [Status.SUPPRESSED] * 6
    assert await value(application, USED, "frequency_cap:%") == 2
    for rule, inputs in await rows(application, EVIDENCE, "suppressed"):
        assert rule == "frequency_cap"
        assert inputs.items() >= {"category": "marketing", "used": "2", "limit": "2", "window": "8w"}.items()
        assert datetime.fromisoformat(inputs["since"]) <= datetime.now(UTC) < datetime.fromisoformat(inputs["until"])


async def test_what_is_certainly_refused_for_good_is_not_counted(
    ledger: Ledger, deliver: Deliver, fake: FakeSes, application: Connection
):
    await agree(ledger)
    refused = await handled(deliver, ledger, await requested(ledger, "refused", frequency_cap=ONCE, **MARKETING))
    assert refused.state.status is Status.FAILED
    assert await rows(application, "SELECT DISTINCT used FROM ledger.quota") == [(Decimal(0),)]
    sent = await handled(deliver, ledger, await requested(ledger, frequency_cap=ONCE, **MARKETING))
    assert sent.state.status is Status.DISPATCHED


async def test_a_retry_counts_no_more_and_a_doubt_stays_counted(
    ledger: Ledger, deliver: Deliver, fake: FakeSes, application: Connection
):
    await agree(ledger)
    stream = await requested(ledger, frequency_cap=TWICE, **MARKETING)
    async with deliverer(ledger, fake) as ending:
        ending.stop()
        await handled(ending, ledger, stream)
    after = await handled(deliver, ledger, stream)
    assert (len(after.state.attempts), after.state.status) == (2, Status.DISPATCHED)
    assert await value(application, USED, "frequency_cap:%") == 1
    doubtful = await handled(deliver, ledger, await requested(ledger, "timeout", frequency_cap=TWICE, **MARKETING))
    assert doubtful.state.status is Status.IN_DOUBT
    assert await value(application, USED, "frequency_cap:%") == 2


async def test_above_the_ceiling_nothing_of_the_type_is_sent_and_an_operator_hears_of_it(
    ledger: Ledger, fake: FakeSes, application: Connection
):
    async with deliverer(ledger, fake, ceiling=2) as deliver:
        for category in (Category.SECURITY, Category.TRANSACTIONAL):
            await handled(deliver, ledger, await requested(ledger, category=category))
        with capture_logs() as logs:
            above = await handled(deliver, ledger, await requested(ledger, category=Category.SECURITY))
        await handled(deliver, ledger, await requested(ledger, type="order_delivered"))
        await handled(deliver, ledger, await requested(ledger, recipient="user:u-2", user_id="u-2"))
    assert (above.state.status, above.state.reason) == (Status.SUPPRESSED, "ceiling")
    assert len(fake.requests) == 4
    assert [(line["event"], line["type"]) for line in logs if line["log_level"] == "error"] == [
        ("ceiling_reached", "order_shipped")
    ]
    ((rule, inputs),) = await rows(application, EVIDENCE, "suppressed")
    assert rule == "ceiling"
    assert inputs.items() >= {"type": "order_shipped", "used": "2", "limit": "2", "window": "1h"}.items()


async def test_who_may_get_it_and_costs_too_much_waits_for_the_money(ledger: Ledger, fake: FakeSes):
    await agree(ledger)
    spending = Spending(load_prices(providers=PROVIDERS), caps_in("email=0 USD"), Channel.EMAIL)
    async with deliverer(ledger, fake, spending=spending) as deliver:
        waiting = await handled(deliver, ledger, await requested(ledger, frequency_cap=ONCE, **MARKETING))
    async with deliverer(ledger, fake) as deliver:
        await handled(deliver, ledger, waiting.stream)
    async with deliverer(ledger, fake, spending=spending) as deliver:
        ended = await handled(deliver, ledger, await requested(ledger, frequency_cap=ONCE, **MARKETING))
    assert (waiting.state.version, len(fake.requests)) == (1, 1)
    assert (ended.state.status, ended.state.reason) == (Status.SUPPRESSED, "frequency_cap")


async def test_i07_a_consent_that_is_taken_back_stops_what_was_read_before(
    ledger: Ledger, deliver: Deliver, fake: FakeSes, application: Connection
):
    await agree(ledger)
    before = await read(ledger, stream := await requested(ledger, **MARKETING))
    version = await agree(ledger, granted=False)
    lease = Lease(Claim(stream, 1, 1, Lane.NORMAL), uuid4(), time.monotonic() + 60)
    await deliver.handle(lease, before, asyncio.Event())
    assert (await read(ledger, stream)).state.version == 1
    assert (await handled(deliver, ledger, stream)).state.reason == "no_consent"
    assert not fake.requests
    ((_, inputs),) = await rows(application, EVIDENCE, "suppressed")
    assert (inputs["consent"], inputs["version"]) == ("withdrawn", str(version))


async def test_an_attempt_names_the_policy_and_the_versions_of_what_that_has_seen(
    ledger: Ledger, deliver: Deliver, application: Connection
):
    version = await agree(ledger)
    await handled(deliver, ledger, await requested(ledger, **MARKETING))
    started = "SELECT state FROM ledger.stored_events WHERE topic = 'notification.attempt_started'"
    fact = msgspec.json.decode(await value(application, started))
    assert fact["policy"] == policy.VERSION
    assert msgspec.convert(fact["saw"], Saw) == Saw(recipient=version, suppression=0)


def quiet(now: datetime, *, for_the_next: timedelta) -> QuietHours:
    return QuietHours((now - timedelta(hours=1)).time(), (now + for_the_next).time())


async def test_what_comes_in_quiet_hours_waits_for_their_end_and_is_sent_then(
    ledger: Ledger, deliver: Deliver, fake: FakeSes, application: Connection
):
    now = datetime.now(UTC)
    version = await wishes(ledger, quiet=quiet(now, for_the_next=timedelta(hours=2)))
    stream = await requested(ledger, quiet_hours=True)
    waiting = await handled(deliver, ledger, stream)
    assert (waiting.state.status, waiting.state.deferred_until) == (Status.DEFERRED, now + timedelta(hours=2))
    assert await value(application, "SELECT due_at FROM ledger.agenda") == now + timedelta(hours=2)
    ((rule, inputs),) = await rows(application, EVIDENCE, "deferred")
    assert (rule, inputs["time_zone"], inputs["version"]) == ("quiet_hours", "UTC", str(version))
    assert await handled(deliver, ledger, stream, later=timedelta(hours=1)) == waiting or not fake.requests
    sent = await handled(deliver, ledger, stream, later=timedelta(hours=2, seconds=1))
    assert (sent.state.status, len(fake.requests)) == (Status.DISPATCHED, 1)


async def test_when_quiet_hours_end_all_rules_look_again(ledger: Ledger, deliver: Deliver, fake: FakeSes):
    await wishes(ledger, quiet=quiet(datetime.now(UTC), for_the_next=timedelta(hours=2)))
    stream = await requested(ledger, quiet_hours=True)
    await handled(deliver, ledger, stream)
    await wishes(ledger, choices=(Choice(Category.TRANSACTIONAL, Channel.EMAIL, enabled=False),))
    ended = await handled(deliver, ledger, stream, later=timedelta(hours=2, seconds=1))
    assert (ended.state.reason, fake.requests) == ("opted_out", [])


async def test_what_expires_in_quiet_hours_expires(ledger: Ledger, deliver: Deliver):
    now = datetime.now(UTC)
    await wishes(ledger, quiet=quiet(now, for_the_next=timedelta(hours=3)))
    # It is asked for as if it had been a day ago but an hour.
    stream = await requested(ledger, quiet_hours=True, at=now - timedelta(hours=23))
    await handled(deliver, ledger, stream)
    ended = await handled(deliver, ledger, stream, later=timedelta(hours=1, seconds=1))
    assert ended.state.status is Status.EXPIRED


async def test_counts_are_kept_for_a_day_after_their_window_and_what_was_spent_for_longer(
    ledger: Ledger, application: Connection
):
    ages = {
        "ceiling:3600:old": timedelta(hours=26),
        "ceiling:3600:young": timedelta(hours=24),
        "frequency_cap:604800:old": timedelta(days=9),
        "frequency_cap:604800:young": timedelta(days=7),
        "spend:USD:sms": timedelta(days=90),
        "spend:USD:sms:GB": timedelta(days=92),
    }
    now = datetime.now(UTC)
    taken = tuple(Take(key, now - age, amount=Decimal(1), limit=Decimal(1)) for key, age in ages.items())
    await ledger.append(msgspec.structs.replace(begun(), takes=taken))
    await ledger.store.purge_intake()
    assert {key for (key,) in await rows(application, "SELECT key FROM ledger.quota")} == {
        "ceiling:3600:young",
        "frequency_cap:604800:young",
        "spend:USD:sms",
    }
