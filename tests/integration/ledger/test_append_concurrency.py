"""Many writers at once: positions follow commits, no reader passes a gap, and no guard is raced."""

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from ledger.decision import Take
from ledger.errors import Refusal
from ledger.store import Encoded, Store
from tests.integration.ledger.parts import Connection, log, new_id, opened_store, rows, standing, stored
from tests.support.postgres import Database

ONE_DATABASE = True

WRITERS = 8
ROUNDS = 300


async def _write(store: Store, chance: random.Random) -> None:
    streams: dict[UUID, int] = {}
    for _ in range(25):
        batch = []
        for stream in [*chance.sample(sorted(streams), min(3, len(streams))), new_id()]:
            versions = range(streams.get(stream, 0) + 1, streams.get(stream, 0) + 1 + chance.randint(1, 4))
            streams[stream] = versions[-1]
            batch.append(Encoded(facts=stored(stream, *versions)))
        assert await store.append(batch) == {}


async def _follow(store: Store, done: asyncio.Event) -> list[tuple[UUID, int]]:
    """Read as a follower does: only behind the last position that was seen."""
    seen: list[tuple[UUID, int]] = []
    position, ending = 0, False
    while True:
        found = await store.read(after=position, limit=50)
        seen += [(row.stream, row.version) for row in found]
        position = found[-1].position if found else position
        if ending and not found:
            return seen
        ending = done.is_set()
        await asyncio.sleep(0)


async def test_i10_a_reader_sees_each_fact_once_and_in_order_while_eight_writers_append(
    database: Database, application: Connection
):
    chance = random.Random(8)
    done = asyncio.Event()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened_store(database.url)) for _ in range(WRITERS + 1)]
        reader = asyncio.create_task(_follow(stores[-1], done))
        await asyncio.gather(*(_write(store, random.Random(chance.random())) for store in stores[:-1]))
        done.set()
        seen = await reader
    everything = await log(application)
    assert seen == everything
    assert len(everything) > WRITERS * 25
    versions: dict[UUID, int] = {}
    for stream, version in everything:
        assert version == versions.get(stream, 0) + 1
        versions[stream] = version


async def test_i07_no_intent_has_a_position_after_the_suppression_that_it_is_guarded_against(
    database: Database, application: Connection
):
    chance = random.Random(7)
    pairs = [(standing(), new_id()) for _ in range(ROUNDS)]
    refused: list[dict[int, Refusal]] = []
    async with opened_store(database.url) as one, opened_store(database.url) as other:
        for suppression, notification in pairs:
            race = [
                one.append([Encoded(facts=stored(suppression))]),
                other.append([Encoded(facts=stored(notification), guards=[(suppression, 0)])]),
            ]
            chance.shuffle(race)
            refused.extend(await asyncio.gather(*race))
    found = await rows(application, "SELECT originator_id, notification_id FROM ledger.stored_events")
    positions: dict[UUID, int] = dict(found)
    sent = [(suppression, intent) for suppression, intent in pairs if intent in positions]
    assert all(positions[intent] < positions[suppression] for suppression, intent in sent)
    assert len(positions) == ROUNDS + len(sent)
    assert refused.count({0: Refusal.GUARD}) == ROUNDS - len(sent)
    assert 0 < len(sent) < ROUNDS


async def test_i20_writers_that_race_for_a_quota_never_take_more_than_there_is(
    database: Database, application: Connection
):
    take = Take("spend", datetime(2031, 5, 4, tzinfo=UTC), Decimal(1), Decimal(10))
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened_store(database.url)) for _ in range(4)]
        batches = [[Encoded(facts=stored(new_id()), takes=[take]) for _ in range(5)] for _ in stores]
        replies = await asyncio.gather(*(store.append(batch) for store, batch in zip(stores, batches, strict=True)))
    assert sum(len(reply) for reply in replies) == 10
    assert await rows(application, "SELECT used FROM ledger.quota") == [(Decimal(10),)]
    assert len(await log(application)) == 10


async def test_i02_one_message_given_to_eight_writers_at_once_is_taken_in_once(
    database: Database, application: Connection
):
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened_store(database.url)) for _ in range(WRITERS)]
        replies = await asyncio.gather(
            *(
                store.append([Encoded(facts=stored(new_id()), intake=(b"key", hash_))])
                for store, hash_ in zip(stores, [b"one", b"other"] * 4, strict=True)
            )
        )
    assert replies.count({}) == 1
    assert replies.count({0: Refusal.TAKEN_IN}) == 3
    assert replies.count({0: Refusal.CONFLICT}) == 4
    assert await rows(application, "SELECT conflicts FROM ledger.intake") == [(4,)]
    assert len(await log(application)) == 1
