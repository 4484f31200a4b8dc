"""What was spent is what the attempts cost that somebody may have taken: by day, whatever batches the facts came in."""

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from ledger.follower import prepare
from ledger.mapping import Recorded
from ledger.store import Store
from ledger.values import Channel, Cost
from projections.costs import Asked, By, Costs, Sum, costs
from tests.integration.projections.lives import MAPPER, Life, steps, wishes, write_interleaved

VIEW = Costs()
DAY = timedelta(days=1)
on_one_database = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
async def empty(connection: AsyncConnection[Any]) -> AsyncConnection[Any]:
    await prepare(connection, VIEW)
    return connection


async def folded(store: Store, connection: AsyncConnection[Any], after: int, *, batch: int) -> None:
    rows = await store.read(after=after, limit=10_000)
    facts = [Recorded(r.stream, r.version, r.topic, MAPPER.decode(r.topic, r.state), r.position) for r in rows]
    for first in range(0, len(facts), batch):
        async with connection.transaction():
            await VIEW.fold(connection, facts[first : first + batch])


async def around(connection: AsyncConnection[Any], now: datetime, *by: By, **only: str) -> list[Sum]:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = {By(name): value for name, value in only.items()}
    return await costs(connection, Asked(since=day - 40 * DAY, until=day + 40 * DAY, by=by, only=wanted))


@on_one_database
@given(drawn=st.lists(st.tuples(wishes, steps), min_size=1, max_size=6), batch=st.integers(1, 30))
async def test_i27_costs_are_those_that_the_notifications_show_whatever_the_batches(
    store: Store, empty: AsyncConnection[Any], drawn: Any, batch: int
):
    await empty.execute("TRUNCATE views.costs_v1")
    now, head = await store.now(), await store.head()
    written = [Life(now, **wish).live(*steps) for wish, steps in drawn]
    await write_interleaved(store, written)
    await folded(store, empty, head, batch=batch)
    expected: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, Decimal(0)])
    for state in (life.state for life in written):
        sums = expected[state.requested.type, state.requested.channel.value]
        sums[0] += len(state.attempts)
        sums[1] += sum(money.amount for money in state.cost)
    found = await around(empty, now, By.TYPE, By.CHANNEL)
    assert {(one.names["type"], one.names["channel"]): [one.attempts, one.amount] for one in found} == {
        key: sums for key, sums in expected.items() if sums[0]
    }


def sms(at: datetime, cost: Cost | None, *steps: str) -> Life:
    """Let an SMS be tried once, a while after it was requested."""
    life = Life(at - timedelta(minutes=30), channel=Channel.SMS)
    life.now = at
    life.live("attempt")
    life.facts[-1] = msgspec.structs.replace(life.facts[-1], cost=cost)
    return life.live(*steps)


async def test_a_day_is_that_of_the_attempt_and_a_doubt_is_paid_where_a_refusal_is_not(
    store: Store, empty: AsyncConnection[Any]
):
    night = (await store.now()).replace(hour=0, minute=10)
    british = Cost(amount=Decimal("0.0400"), currency="USD", units=2, country="GB")
    paid = [sms(night, british, "in_doubt"), sms(night - DAY, british, "accepted", "bounced")]
    # The provider says no, and delivers it all the same.
    paid.append(sms(night, british, "refused", "delivered"))
    unpaid = [sms(night, british, "refused"), sms(night, None, "accepted")]
    other = sms(night, msgspec.structs.replace(british, currency="EUR"), "accepted")
    await write_interleaved(store, [*paid, *unpaid, other])
    await folded(store, empty, 0, batch=1)
    day = night.replace(hour=0, minute=0, second=0, microsecond=0)
    told = [
        (one.day, one.names["country"], one.currency, one.attempts, one.not_taken, one.units, one.amount)
        for one in await around(empty, night, By.DAY, By.COUNTRY)
    ]
    assert told == [
        (day - DAY, "GB", "USD", 1, 0, 2, Decimal("0.04")),
        (day, None, None, 1, 0, 0, Decimal(0)),
        (day, "GB", "EUR", 1, 0, 2, Decimal("0.04")),
        (day, "GB", "USD", 3, 1, 4, Decimal("0.08")),
    ]
    assert [one.attempts for one in await around(empty, night, country="GB", currency="USD")] == [4]
    assert await around(empty, night, type="nul\0") == await around(empty, night, channel="push") == []
