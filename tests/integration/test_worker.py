import asyncio
import time
from collections import Counter
from datetime import timedelta

from prometheus_client import CollectorRegistry

from handlers.metrics import Metrics
from handlers.worker import PREPARING, Lease, Worker
from ledger.ledger import Ledger, Loaded
from ledger.signals import Signals
from ledger.values import Channel, Lane
from providers.guard import Admission
from tests.integration.ledger.parts import begun
from tests.support.postgres import Database
from tests.support.service import until

SLOTS = 8


class Hanging:
    """A handler whose provider never answers before `answers` is set; its items are prepared at once, or only then."""

    channel = Channel.EMAIL

    def __init__(self, *, prepares: bool = True) -> None:
        self.prepares = prepares
        self.asked = 0
        self.in_hand: Counter[Lane] = Counter()
        self.answers = asyncio.Event()

    async def admit(self, free: int) -> Admission:
        self.asked += 1
        return Admission(tuple(Lane), free)

    async def handle(self, lease: Lease, loaded: Loaded, prepared: asyncio.Event) -> None:
        assert lease.claim.lane is loaded.state.requested.lane
        if self.prepares:
            prepared.set()
        self.in_hand[loaded.state.requested.lane] += 1
        await self.answers.wait()


class ShutOut(Hanging):
    """A handler whose providers are all shut."""

    async def admit(self, free: int) -> Admission:
        assert free <= SLOTS
        self.asked += 1
        return Admission((), 0, wait=timedelta(milliseconds=20))


async def ask_for(ledger: Ledger, count: int, lane: Lane) -> None:
    await asyncio.gather(*(ledger.append(begun(lane=lane)) for _ in range(count)))


async def test_i21_what_can_wait_never_holds_all_slots_however_long_its_provider_hangs(
    ledger: Ledger, database: Database
):
    handler = Hanging()
    worker = Worker(ledger, handler, Signals(database.url), metrics=Metrics(CollectorRegistry()), slots=SLOTS)
    await ask_for(ledger, 3 * SLOTS, Lane.LOW)
    running = asyncio.create_task(worker.run())
    await until(lambda: handler.in_hand[Lane.LOW] == SLOTS * 3 // 4, "the share of what can wait")
    await ask_for(ledger, 1, Lane.URGENT)
    await until(lambda: handler.in_hand[Lane.URGENT] == 1, "the urgent one")
    assert handler.in_hand == {Lane.LOW: SLOTS * 3 // 4, Lane.URGENT: 1}
    handler.answers.set()
    worker.stop()
    await running


async def test_nothing_is_claimed_while_no_provider_may_be_called(ledger: Ledger, database: Database):
    handler = ShutOut()
    worker = Worker(ledger, handler, Signals(database.url), metrics=Metrics(CollectorRegistry()), slots=SLOTS)
    await ask_for(ledger, SLOTS, Lane.URGENT)
    running = asyncio.create_task(worker.run())
    await until(lambda: handler.asked > 3, "some turns")
    worker.stop()
    await running
    assert not handler.in_hand


async def test_what_is_due_and_may_not_be_claimed_is_asked_for_now_and_then(ledger: Ledger, database: Database):
    handler = Hanging()
    worker = Worker(ledger, handler, Signals(database.url), metrics=Metrics(CollectorRegistry()), slots=SLOTS)
    await ask_for(ledger, 3 * SLOTS, Lane.LOW)
    running = asyncio.create_task(worker.run())
    await until(lambda: handler.in_hand[Lane.LOW] == SLOTS * 3 // 4, "the share of what can wait")
    began, asked = time.monotonic(), handler.asked
    await until(lambda: handler.asked >= asked + 20, "20 turns")
    assert time.monotonic() - began > 0.5
    handler.answers.set()
    worker.stop()
    await running


async def test_a_single_slot_serves_what_can_wait_too(ledger: Ledger, database: Database):
    handler = Hanging()
    handler.answers.set()
    worker = Worker(ledger, handler, Signals(database.url), metrics=Metrics(CollectorRegistry()), slots=1)
    await ask_for(ledger, 3, Lane.LOW)
    running = asyncio.create_task(worker.run())
    await until(lambda: handler.in_hand[Lane.LOW] == 3, "all of it")
    worker.stop()
    await running


async def test_of_what_can_wait_few_are_on_their_way_to_their_intent_at_once(ledger: Ledger, database: Database):
    handler = Hanging(prepares=False)
    worker = Worker(ledger, handler, Signals(database.url), metrics=Metrics(CollectorRegistry()))
    await ask_for(ledger, 3 * PREPARING, Lane.LOW)
    running = asyncio.create_task(worker.run())
    await until(lambda: handler.in_hand[Lane.LOW] == PREPARING, "as many as may be prepared at once")
    await ask_for(ledger, 1, Lane.URGENT)
    await until(lambda: handler.in_hand[Lane.URGENT] == 1, "the urgent one")
    assert handler.in_hand == {Lane.LOW: PREPARING, Lane.URGENT: 1}
    handler.answers.set()
    await until(lambda: handler.in_hand[Lane.LOW] == 3 * PREPARING, "all of it")
    worker.stop()
    await running
