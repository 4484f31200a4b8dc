"""What is due: claimed by competing workers, each row by one of them at a time."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from ledger import agenda
from ledger.agenda import Claim, Depth, Size, WaitsFor
from ledger.decision import AgendaRow
from ledger.notification import Due
from ledger.store import Encoded, Store, connect
from ledger.values import Channel, Lane
from tests.integration.ledger.parts import Connection, new_id, now, rows
from tests.support.postgres import Database

ONE_DATABASE = True

LEASE = timedelta(minutes=1)
OVER = timedelta(seconds=-1)
MOST = dict.fromkeys(Lane, 1_000)
OWNER, OTHER = uuid4(), uuid4()


async def make_due(
    store: Store, count: int = 1, *, lane: Lane = Lane.NORMAL, channel: Channel = Channel.EMAIL, seconds: float = -1
) -> list[UUID]:
    ids = [new_id() for _ in range(count)]
    due = Due(now() + timedelta(seconds=seconds), channel, lane)
    await store.append([Encoded(agenda=[AgendaRow(notification, 1, due)]) for notification in ids])
    return ids


async def claimed(
    connection: Connection, *, limit: int = 100, owner: UUID = OWNER, lease: timedelta = LEASE
) -> list[Claim]:
    return await agenda.claim(connection, Channel.EMAIL, MOST, owner=owner, limit=limit, lease=lease)


def ids(claims: Iterable[Claim]) -> set[UUID]:
    return {claim.notification for claim in claims}


async def test_what_is_due_is_claimed_with_its_version_and_then_is_not_there(store: Store, application: Connection):
    (due,) = await make_due(store)
    await make_due(store, seconds=60)
    await make_due(store, channel=Channel.SMS)
    assert await claimed(application) == [Claim(due, 1, 1, Lane.NORMAL)]
    assert await claimed(application, owner=OTHER) == []


async def test_urgent_lanes_come_first_however_long_others_have_waited(store: Store, application: Connection):
    waiting = {lane: await make_due(store, 2, lane=lane, seconds=-10 - n) for n, lane in enumerate(Lane)}
    order = [ids(await claimed(application, limit=2)) for _ in Lane]
    assert order == [set(waiting[lane]) for lane in (Lane.URGENT, Lane.HIGH, Lane.NORMAL, Lane.LOW)]


async def test_within_a_lane_the_longest_due_comes_first(store: Store, application: Connection):
    waiting = [(await make_due(store, seconds=-seconds))[0] for seconds in (10, 30, 20)]
    order = [ids(await claimed(application, limit=1)) for _ in waiting]
    assert order == [{waiting[1]}, {waiting[2]}, {waiting[0]}]


async def test_each_row_goes_to_exactly_one_of_four_that_claim_at_once(store: Store, database: Database):
    due = await make_due(store, 400)

    async def claim_all(connection: Connection) -> list[Claim]:
        found: list[Claim] = []
        while claims := await claimed(connection, limit=7, owner=uuid4()):
            found += claims
        return found

    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(database.url)) for _ in range(4)]
        parts = await asyncio.gather(*(claim_all(connection) for connection in connections))
    everything = [claim.notification for part in parts for claim in part]
    assert sorted(everything) == sorted(due)
    assert all(parts)


async def test_a_row_that_another_holds_is_passed_over_and_not_waited_for(
    store: Store, database: Database, application: Connection
):
    held, free = await make_due(store, 2)
    async with await connect(database.url) as holder, holder.transaction():
        await holder.execute("SELECT * FROM ledger.agenda WHERE notification = %s FOR UPDATE", (held,))
        async with asyncio.timeout(60):
            assert ids(await claimed(application)) == {free}


async def test_i13_a_lease_that_has_ended_makes_a_row_claimable_again_and_counts(store: Store, application: Connection):
    (due,) = await make_due(store)
    assert await claimed(application, lease=OVER) == [Claim(due, 1, 1, Lane.NORMAL)]
    for number in (2, 3):
        assert await claimed(application) == []
        again = await agenda.claim_again(application, Channel.EMAIL, owner=uuid4(), lease=OVER)
        assert again == Claim(due, number, 1, Lane.NORMAL)


async def test_i15_of_what_was_claimed_before_one_row_is_claimed_and_charged_at_a_time(
    store: Store, application: Connection
):
    due = await make_due(store, 3)
    await claimed(application, lease=OVER)
    assert (await agenda.look_ahead(application, Channel.EMAIL)).again
    taken = await agenda.claim_again(application, Channel.EMAIL, owner=OWNER, lease=LEASE)
    assert taken is not None
    assert await rows(application, "SELECT claims FROM ledger.agenda ORDER BY claims") == [(1,), (1,), (2,)]
    assert taken.notification in due


async def test_what_is_given_back_waits_and_counts_from_zero(store: Store, application: Connection):
    (due,) = await make_due(store)
    await claimed(application)
    await agenda.wait(application, [due], owner=OWNER, pause=LEASE, waits_for=WaitsFor.RATE)
    assert await claimed(application) == []
    query = "SELECT claims, owner, wait_until - now() BETWEEN %s AND %s FROM ledger.agenda"
    assert await rows(application, query, LEASE / 2, LEASE) == [(0, None, True)]


async def test_nobody_gives_back_what_another_has_claimed(store: Store, application: Connection):
    (due,) = await make_due(store)
    await claimed(application)
    await agenda.wait(application, [due], owner=OTHER, pause=OVER, waits_for=WaitsFor.RATE)
    assert await claimed(application) == []
    await agenda.wait(application, [due], owner=OWNER, pause=OVER, waits_for=WaitsFor.RATE)
    assert ids(await claimed(application)) == {due}


async def test_i13_what_was_claimed_and_never_arrived_is_given_back(store: Store, application: Connection):
    in_hand, lost = await make_due(store, 2)
    others = await make_due(store, 1, lane=Lane.LOW)
    await claimed(application, limit=2)
    await claimed(application, owner=OTHER)
    await agenda.give_back_lost(application, owner=OWNER, in_hand=[in_hand])
    assert await claimed(application) == [Claim(lost, 1, 1, Lane.NORMAL)]
    assert others


async def test_it_says_how_long_until_something_can_be_claimed(store: Store, application: Connection):
    ahead = await agenda.look_ahead(application, Channel.EMAIL)
    assert (ahead.wait, ahead.again, abs(ahead.now - datetime.now(UTC)) < LEASE) == (None, False, True)
    await make_due(store, lane=Lane.LOW, seconds=60)
    wait = (await agenda.look_ahead(application, Channel.EMAIL)).wait
    assert wait is not None
    assert timedelta(seconds=30) < wait <= timedelta(seconds=60)
    await make_due(store)
    assert (await agenda.look_ahead(application, Channel.EMAIL)).wait == timedelta(0)
    await claimed(application, lease=timedelta(seconds=50))
    wait = (await agenda.look_ahead(application, Channel.EMAIL)).wait
    assert wait is not None
    assert timedelta(seconds=30) < wait <= timedelta(seconds=50)


async def test_its_depth_tells_what_is_due_and_what_waits(store: Store, application: Connection):
    async def depth(channel: Channel, lane: Lane, *, most: int = 10) -> Depth:
        found = await agenda.depth(application, most=most)
        assert len(found) == len(Channel) * len(Lane)
        return next(one for one in found if (one.channel, one.lane) == (channel.value, lane.value))

    assert {one.due for one in await agenda.depth(application, most=10)} == {0}
    assert await agenda.sizes(application) == []
    await make_due(store, 2, seconds=-100)
    await make_due(store, seconds=60)
    await make_due(store, channel=Channel.SMS, lane=Lane.URGENT, seconds=60)
    assert await depth(Channel.SMS, Lane.URGENT) == Depth("sms", "urgent", 0, 0.0, 0)
    email = await depth(Channel.EMAIL, Lane.NORMAL)
    assert (email.due, email.claimed) == (2, 0)
    assert 99 < email.oldest_due < 160
    limited = await depth(Channel.EMAIL, Lane.NORMAL, most=1)
    assert (limited.due, limited.oldest_due > 99) == (1, True)
    sizes = sorted(await agenda.sizes(application), key=lambda size: size.channel)
    assert sizes == [Size("email", "normal", 3, 2), Size("sms", "urgent", 1, 0)]
    await claimed(application, limit=1)
    email = await depth(Channel.EMAIL, Lane.NORMAL)
    assert (email.due, email.claimed) == (1, 1)


async def test_how_deep_it_is_is_found_by_the_indexes_however_long_it_is(
    store: Store, application: Connection, owner: Connection
):
    await make_due(store, 2_000)
    await claimed(application, limit=3)
    # What is planned without statistics, and when they come, is chance.
    await owner.execute("ANALYZE ledger.agenda")
    for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
        await application.execute(f"SET {setting} = off".encode())
    given = {"channels": agenda._CHANNELS, "lanes": agenda._LANES, "most": 10}
    plan = await application.execute(f"EXPLAIN {agenda._DEPTH}".encode(), given)
    told = "\n".join([line for (line,) in await plan.fetchall()])
    assert "Index Scan using agenda_claimable" in told
    assert "Index Scan using agenda_claimed" in told
    assert "Seq Scan" not in told
