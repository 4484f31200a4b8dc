import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.worker import Lease
from ledger import notification as n
from ledger.agenda import Claim
from ledger.ledger import Ledger, Loaded
from ledger.policy import AllowList
from ledger.status import Evidence, Status
from ledger.values import Lane
from providers.fakes.fcm import FakeFcm
from providers.fcm import Fcm
from providers.google_access import service_account
from providers.guard import Gate, Route
from templates.catalogue import load
from templates.rendering import Renderer
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, rows
from tests.support.devices import register, registered, remove
from tests.support.postgres import Database

STREAMS = (
    "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested' ORDER BY notification_id"
)
COMMITS = "SELECT count(DISTINCT xmin::text) FROM ledger.stored_events WHERE topic = ANY(%s)"


@pytest.fixture
async def phones() -> AsyncIterator[FakeFcm]:
    fake = await FakeFcm.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def deliver(ledger: Ledger, phones: FakeFcm) -> AsyncIterator[Deliver]:
    credentials, project = service_account(phones.credentials)
    fcm = await Fcm.open(credentials, project=project, base_url=phones.url, receipt=ledger.identity.receipt)
    renderer = Renderer(sender=load(None).sender, default_locale="en")
    route = Route([Gate(fcm, ledger.store.connection)])
    yield Deliver(ledger, renderer, route, allowed=AllowList(frozenset({"*"})), metrics=Metrics(CollectorRegistry()))
    await fcm.aclose()


async def read(ledger: Ledger, stream: UUID) -> Loaded:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return loaded


async def asked_for(database: Database, application: Connection, *users: str) -> list[UUID]:
    """Ask for a push to each of these people, and return their ids."""
    messages = [message("OrderShippedEvent", userId=user) for user in users]
    await take_in(database.url, messages, CHANNELS="push")
    return [stream for (stream,) in await rows(application, STREAMS)][-len(users) :]


async def handle(deliver: Deliver, loaded: Loaded) -> None:
    claim = Claim(loaded.stream, 1, loaded.state.version, Lane.NORMAL)
    await deliver.handle(Lease(claim, uuid4(), time.monotonic() + 60), loaded, asyncio.Event())


async def all_of(deliver: Deliver, ledger: Ledger, stream: UUID) -> Loaded:
    """Handle it as often as it is due at once."""
    for _ in range(20):
        loaded = await read(ledger, stream)
        due = n.next_due(loaded.state)
        if due is None or due.at > loaded.now():
            return loaded
        await handle(deliver, loaded)
    raise AssertionError("it is due for ever")


async def test_i05_i06_each_device_gets_one_push_by_an_intent_of_its_own(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "old", "tablet", "phone")
    (stream,) = await asked_for(database, application, "u-1")
    state = (await all_of(deliver, ledger, stream)).state
    assert [push.fid for push in phones.requests] == ["phone", "tablet", "old"]
    assert [push.tags["attempt"] for push in phones.requests] == [str(attempt.id) for attempt in state.attempts]
    assert len({attempt.id for attempt in state.attempts}) == 3
    assert (state.status, state.ended) == (Status.DISPATCHED, None)
    said = {tuple(push.said.items()) for push in phones.requests}
    assert len(said) == 1


async def test_a_push_carries_the_receipt_that_its_open_is_reported_by(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "phone")
    (stream,) = await asked_for(database, application, "u-1")
    (attempt,) = (await all_of(deliver, ledger, stream)).state.attempts
    (push,) = phones.requests
    assert ledger.identity.read_receipt(push.data["receipt"]) == (stream, attempt.id)


async def test_a_device_that_the_provider_does_not_know_is_dropped_with_its_refusal_and_used_no_more(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "phone", "unregistered")
    first, second = await asked_for(database, application, "u-1", "u-1")
    state = (await all_of(deliver, ledger, first)).state
    assert [attempt.evidence for attempt in state.attempts] == [Evidence.REFUSED, Evidence.DISPATCHED]
    assert await registered(ledger, "u-1") == ["phone"]
    together = ["notification.attempt_failed", "recipient.device_dropped"]
    reply = await application.execute(COMMITS, [together])
    assert await reply.fetchone() == (1,)
    await all_of(deliver, ledger, second)
    assert [push.fid for push in phones.requests] == ["unregistered", "phone", "phone"]


async def test_two_that_find_the_same_device_gone_at_the_same_time_drop_it_once(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "phone", "unregistered")
    streams = await asked_for(database, application, *["u-1"] * 5)
    loaded = [await read(ledger, stream) for stream in streams]
    await asyncio.gather(*(handle(deliver, each) for each in loaded))
    for stream in streams:
        state = (await all_of(deliver, ledger, stream)).state
        assert (state.status, state.attempts[-1].evidence) == (Status.DISPATCHED, Evidence.DISPATCHED)
    dropped = await rows(
        application, "SELECT count(*) FROM ledger.stored_events WHERE topic = 'recipient.device_dropped'"
    )
    assert dropped == [(1,)]
    assert await registered(ledger, "u-1") == ["phone"]


async def test_who_has_no_device_is_not_told(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    (stream,) = await asked_for(database, application, "u-2")
    state = (await all_of(deliver, ledger, stream)).state
    assert (state.status, state.reason) == (Status.SUPPRESSED, "no_usable_address")
    assert phones.requests == []


async def test_it_has_failed_where_no_device_is_known_any_more(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "unregistered-1", "unregistered-2")
    (stream,) = await asked_for(database, application, "u-1")
    state = (await all_of(deliver, ledger, stream)).state
    assert (state.status, state.reason) == (Status.FAILED, "refused: UNREGISTERED")
    assert len(phones.requests) == 2
    assert await registered(ledger, "u-1") == []


async def test_a_device_that_was_taken_off_meanwhile_is_left_out(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "old", "tablet", "phone")
    (stream,) = await asked_for(database, application, "u-1")
    await handle(deliver, await read(ledger, stream))
    await remove(ledger, "u-1", "tablet")
    state = (await all_of(deliver, ledger, stream)).state
    assert [push.fid for push in phones.requests] == ["phone", "old"]
    assert state.skipped == {ledger.identity.device_hash("tablet")}
    assert (state.status, state.ended) == (Status.DISPATCHED, None)


async def test_i07_a_device_that_is_taken_off_while_its_push_is_prepared_gets_none(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "tablet", "phone")
    (stream,) = await asked_for(database, application, "u-1")
    before = await read(ledger, stream)
    await remove(ledger, "u-1", "phone")
    await handle(deliver, before)
    assert phones.requests == []
    await all_of(deliver, ledger, stream)
    assert [push.fid for push in phones.requests] == ["tablet"]


async def test_one_device_without_quota_does_not_keep_the_others_waiting(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "phone", "unavailable")
    (stream,) = await asked_for(database, application, "u-1")
    await handle(deliver, await read(ledger, stream))
    loaded = await read(ledger, stream)
    device = ledger.identity.device_hash("phone")
    assert n.turn(loaded.state) == device
    assert n.sendable(loaded.state, loaded.now())


async def test_i18_no_installation_id_stands_in_the_clear(
    ledger: Ledger, database: Database, deliver: Deliver, phones: FakeFcm, application: Connection
):
    await register(ledger, "u-1", "f1d-0f-a-phone", "f1d-0f-a-tablet")
    (stream,) = await asked_for(database, application, "u-1")
    await all_of(deliver, ledger, stream)
    assert len(phones.requests) == 2
    found = await rows(
        application,
        "SELECT topic FROM ledger.stored_events WHERE position('f1d-0f-a' in convert_from(state, 'UTF8')) > 0",
    )
    assert found == []
