"""The stop button over the real log and a provider of our own: what is paused waits, the rest goes on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.pauses import NoSuchPauseError, NothingSuchError, Pauses
from handlers.worker import SLOTS, Lease, Worker
from ledger.agenda import Claim
from ledger.ledger import Ledger, Loaded
from ledger.operations import Selector
from ledger.policy import AllowList
from ledger.status import Status
from ledger.store import Encoded
from ledger.values import Channel, Lane
from ops.gauges import Gauges
from projections.notification_log import NotificationLog
from providers.fakes.ses import FakeSes
from providers.fakes.smtp import FakeSmtp
from providers.guard import Gate, Route
from providers.ses import Ses
from providers.smtp import Smtp
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.audit import count
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, rows, running_ledger, set_aside_in, value
from tests.support.postgres import Database
from tests.support.service import reached, until

WHY = {"by": "tester", "reason": "a test"}
MAIL = Selector(channel=Channel.EMAIL)
SHIPPED = Selector(type="order_shipped")
STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)
# Our own waiting is no fact: a row that waits stands in the agenda alone.
WAITING = "SELECT count(*) FROM ledger.agenda WHERE wait_until > now() + interval '10 seconds'"
CLAIM = "UPDATE ledger.agenda SET owner = %s, claims = 1, lease_until = now() + '1 minute' WHERE notification = %s"
IN_ORDER = """
SELECT topic FROM ledger.stored_events
WHERE topic IN ('operations.paused', 'operations.resumed', 'notification.attempt_started') ORDER BY notification_id
"""


def pauses_of(ledger: Ledger) -> Pauses:
    return Pauses(ledger, types=load().kinds, providers={"ses", "smtp"})


@pytest.fixture
def pauses(ledger: Ledger) -> Pauses:
    return pauses_of(ledger)


@pytest.fixture
async def relay() -> AsyncIterator[FakeSmtp]:
    relay = await FakeSmtp.start()
    yield relay
    await relay.stop()


@asynccontextmanager
async def deliverer(ledger: Ledger, fake: FakeSes, relay: FakeSmtp | None = None) -> AsyncIterator[Deliver]:
    async with AsyncExitStack() as stack:
        ses = await Ses.open(region="eu-west-1", endpoint_url=fake.url, access_key_id="key", secret_access_key="none")
        stack.push_async_callback(ses.aclose)
        gates = [Gate(ses, ledger.store.connection)]
        if relay is not None:
            smtp = await Smtp.open(relay.url)
            stack.push_async_callback(smtp.aclose)
            gates.append(Gate(smtp, ledger.store.connection))
        route = Route(gates, failover={Lane.URGENT, Lane.HIGH})
        renderer = Renderer(sender=load().sender, default_locale="en")
        allowed = AllowList(frozenset({"*"}))
        # All that these tests send goes to one person.
        metrics = Metrics(CollectorRegistry())
        yield Deliver(ledger, renderer, route, allowed=allowed, metrics=metrics, ceiling=1_000)


@asynccontextmanager
async def delivering(
    ledger: Ledger, fake: FakeSes, relay: FakeSmtp | None = None, *, slots: int = SLOTS
) -> AsyncIterator[None]:
    """Deliver as a process does, until the block ends."""
    async with deliverer(ledger, fake, relay) as deliver:
        worker = Worker(ledger, deliver, ledger._signals, metrics=Metrics(CollectorRegistry()), slots=slots)
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            deliver.stop()
            worker.stop()
            await task


async def read(ledger: Ledger, stream: UUID) -> Loaded:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return loaded


async def asked_for(database: Database, *types: str) -> None:
    """One mail for each of these messages, each to another person."""
    people = (f"person-{number}@sandbox.example" for number in range(len(types)))
    messages = [message(each, **{ADDRESS[each]: person}) for each, person in zip(types, people, strict=True)]
    await take_in(database.url, messages)


ADDRESS = {"OrderShippedEvent": "userEmail", "PasswordResetRequestedEvent": "emailAddress"}


async def handle(deliver: Deliver, loaded: Loaded, *, held_by: Connection | None = None) -> None:
    """Handle a notification as a worker would; its row is claimed for it where a connection is given."""
    owner = uuid4()
    if held_by is not None:
        await held_by.execute(CLAIM, (owner, loaded.stream))
    claim = Claim(loaded.stream, 1, loaded.state.version, loaded.state.requested.lane)
    await deliver.handle(Lease(claim, owner, time.monotonic() + 60), loaded, asyncio.Event())


async def test_i07_what_was_read_before_a_pause_is_not_sent_after_it(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, application: Connection
):
    await asked_for(database, "OrderShippedEvent")
    ((stream,),) = await rows(application, STREAMS)
    before = await read(ledger, stream)
    await pauses.begin(SHIPPED, **WHY)
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, before)
    assert not fake.requests
    assert (await read(ledger, stream)).state.attempts == ()


async def test_i07_of_pauses_and_intents_at_the_same_moment_no_attempt_begins_while_it_is_paused(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    """Two processes deliver while a third pauses and resumes; the log tells."""
    await asked_for(database, *["OrderShippedEvent"] * 120)
    async with (
        running_ledger(database.url) as second,
        running_ledger(database.url) as third,
        delivering(ledger, fake, slots=8),
        delivering(second, fake, slots=8),
    ):
        pauses = pauses_of(third)
        for sent in range(5, 105, 5):
            await reached(lambda: len(fake.requests), sent, "requests")
            begun = await pauses.begin(MAIL, **WHY)
            await pauses.end(begun.pause.pause, **WHY)
        await until(lambda: count(database.url, "SELECT count(*) FROM ledger.agenda") == 0, "the end")
    paused = False
    for (topic,) in await rows(application, IN_ORDER):
        assert not (paused and topic == "notification.attempt_started")
        paused = topic == "operations.paused" or (paused and topic != "operations.resumed")
    assert len(fake.requests) == 120


async def test_what_is_paused_waits_without_a_fact_and_goes_on_at_once_when_the_pause_ends(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, application: Connection
):
    begun = await pauses.begin(SHIPPED, **WHY)
    await asked_for(database, "OrderShippedEvent", "OrderShippedEvent", "PasswordResetRequestedEvent")
    async with delivering(ledger, fake):
        await until(lambda: count(database.url, WAITING) == 2, "the paused ones to wait")
        await until(lambda: len(fake.requests) == 1, "the one that is not paused")
        assert {(await read(ledger, stream)).state.status for (stream,) in (await rows(application, STREAMS))[:2]} == {
            Status.REQUESTED
        }
        before = time.monotonic()
        await pauses.end(begun.pause.pause, **WHY)
        await until(lambda: len(fake.requests) == 3, "the others")
        assert time.monotonic() - before < 5


async def test_i13_a_pause_that_ended_while_nobody_delivered_keeps_nothing_waiting(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes
):
    """Whoever resumed died behind the commit, and told nobody."""
    begun = await pauses.begin(SHIPPED, **WHY)
    await asked_for(database, "OrderShippedEvent")
    async with delivering(ledger, fake):
        await until(lambda: count(database.url, WAITING) == 1, "the paused one to wait")
    await pauses.end(begun.pause.pause, **WHY)
    async with running_ledger(database.url) as restarted, delivering(restarted, fake):
        await until(lambda: len(fake.requests) == 1, "the mail")


async def test_i13_what_is_made_to_wait_by_a_pause_that_has_ended_meanwhile_is_woken(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, application: Connection
):
    """It was read before the end of the pause, and laid down after all that waited had been woken."""
    begun = await pauses.begin(SHIPPED, **WHY)
    await asked_for(database, "OrderShippedEvent")
    ((stream,),) = await rows(application, STREAMS)
    before = await read(ledger, stream)
    await pauses.end(begun.pause.pause, **WHY)
    async with deliverer(ledger, fake) as deliver:
        await deliver.admit(1)
        await handle(deliver, before, held_by=application)
        assert count(database.url, WAITING) == 1
        await deliver.admit(1)
        assert count(database.url, WAITING) == 0


async def test_of_a_paused_channel_little_is_claimed_and_each_row_once(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, application: Connection
):
    begun = await pauses.begin(MAIL, **WHY)
    await asked_for(database, *["OrderShippedEvent"] * 60)
    async with delivering(ledger, fake):
        await until(lambda: count(database.url, WAITING) >= 16, "some to be looked at")
        assert await value(application, "SELECT count(*) FROM ledger.agenda WHERE claimable_at <= now()") > 0
        await pauses.end(begun.pause.pause, **WHY)
        await until(lambda: len(fake.requests) == 60, "all of it")


async def test_what_expires_while_it_is_paused_expires(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, application: Connection
):
    await pauses.begin(Selector(), **WHY)
    await asked_for(database, "PasswordResetRequestedEvent")
    ((stream,),) = await rows(application, STREAMS)
    expires = (await read(ledger, stream)).state.requested.expires_at
    async with deliverer(ledger, fake) as deliver:
        loaded = await read(ledger, stream)
        assert deliver._stopped.patience(loaded) <= expires - loaded.now() + timedelta(seconds=1)
        late = loaded.read_at - (expires - loaded.read_at)
        await handle(deliver, loaded_at(loaded, seconds=(loaded.read_at - late).total_seconds()))
    assert (await read(ledger, stream)).state.status is Status.EXPIRED
    assert not fake.requests


def loaded_at(loaded: Loaded, *, seconds: float) -> Loaded:
    """The same, read so much later."""
    fields = {name: getattr(loaded, name) for name in loaded.__struct_fields__}
    return Loaded(**fields | {"read_at": loaded.read_at + timedelta(seconds=seconds)})


async def test_while_a_provider_is_paused_the_next_serves_what_must_not_wait(
    ledger: Ledger, pauses: Pauses, database: Database, fake: FakeSes, relay: FakeSmtp
):
    begun = await pauses.begin(Selector(provider="ses"), **WHY)
    await asked_for(database, "OrderShippedEvent", "PasswordResetRequestedEvent")
    async with delivering(ledger, fake, relay):
        await until(lambda: len(relay.requests) == 1, "the urgent one, over the relay")
        await until(lambda: count(database.url, WAITING) == 1, "the other one to wait")
        assert not fake.requests
        await pauses.end(begun.pause.pause, **WHY)
        await until(lambda: len(fake.requests) == 1, "the other one, by SES")
    assert len(relay.requests) == 1


async def test_the_same_pause_twice_is_one_and_so_is_its_end(ledger: Ledger, pauses: Pauses, application: Connection):
    async with asyncio.TaskGroup() as group:
        begun = [group.create_task(pauses.begin(MAIL, **WHY)) for _ in range(4)]
    assert len({one.result().pause.pause for one in begun}) == 1
    assert [one.result().is_new for one in begun].count(True) == 1
    (pause,) = await pauses.listed()
    for _ in range(2):
        await pauses.end(pause.pause, **WHY)
    assert await pauses.listed() == ()
    topics = [topic for (topic,) in await rows(application, IN_ORDER)]
    assert topics == ["operations.paused", "operations.resumed"]


async def test_each_pause_in_force_is_shown_by_a_gauge(ledger: Ledger, pauses: Pauses):
    registry = CollectorRegistry()
    gauges = Gauges(registry, ledger, set_aside_in(ledger.store), NotificationLog())

    async def shown(**labels: str) -> float | None:
        await gauges.refresh()
        return registry.get_sample_value("notification_paused", {"type": "", "channel": "", "provider": ""} | labels)

    assert await shown() is None
    begun = await pauses.begin(Selector(channel=Channel.SMS, provider="smtp"), **WHY)
    await pauses.begin(Selector(), **WHY)
    assert (await shown(channel="sms", provider="smtp"), await shown()) == (1, 1)
    await pauses.end(begun.pause.pause, **WHY)
    assert (await shown(channel="sms", provider="smtp"), await shown()) == (None, 1)


async def test_a_pause_of_what_is_not_there_is_refused_with_every_fault(pauses: Pauses):
    with pytest.raises(NothingSuchError) as caught:
        await pauses.begin(Selector(type="order_shiped", provider="sess"), **WHY)
    assert caught.value.names == ["type", "provider"]
    with pytest.raises(NoSuchPauseError):
        await pauses.end(uuid4(), **WHY)
    with pytest.raises(NoSuchPauseError):
        await pauses.end_selected(MAIL, **WHY)


async def test_a_fact_of_operations_that_only_a_newer_release_can_read_stops_everything(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    newer = [(ledger.operations.stream, 1, "operations.slowed", b'{"by":"a newer release"}')]
    await ledger.store.append([Encoded(facts=newer)])
    await asked_for(database, "OrderShippedEvent")
    async with delivering(ledger, fake):
        await until(lambda: count(database.url, WAITING) == 1, "it to wait")
    assert not fake.requests
