"""Statistics are the log, counted: whatever batches it came in, as notification_log has it, and within 5 % in time."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from ledger import notification as n
from ledger.follower import prepare
from ledger.mapping import Recorded
from ledger.store import Store
from ledger.values import Channel
from projections.delivery_statistics import Asked, Bucket, By, DeliveryStatistics, Latency, statistics
from projections.notification_log import BrokenStreamError, NotificationLog
from tests.integration.projections.lives import MAPPER, Life, steps, wishes, write_interleaved

VIEW = DeliveryStatistics()
DAY = timedelta(days=1)
on_one_database = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
drawn_lives = st.lists(st.tuples(wishes, steps), min_size=1, max_size=6)


@pytest.fixture
async def empty(connection: AsyncConnection[Any]) -> AsyncConnection[Any]:
    await prepare(connection, VIEW)
    return connection


async def folded(store: Store, connection: AsyncConnection[Any], after: int, *, batch: int) -> None:
    """Fold what was recorded since, by the statistics and by the log."""
    rows = await store.read(after=after, limit=10_000)
    facts = [Recorded(r.stream, r.version, r.topic, MAPPER.decode(r.topic, r.state), r.position) for r in rows]
    for first in range(0, len(facts), batch):
        async with connection.transaction():
            await VIEW.fold(connection, facts[first : first + batch])
            await NotificationLog().fold(connection, facts[first : first + batch])


async def around(connection: AsyncConnection[Any], now: datetime, *by: By, **only: str) -> list[Bucket]:
    asked = Asked(since=now - DAY, until=now + DAY, by=by, only={By(name): value for name, value in only.items()})
    return await statistics(connection, asked)


# The same from the log's own rows, and from the facts themselves.
_OF_THE_LOG = """
SELECT channel, type, category, template, coalesce(provider, ''), status, coalesce(reason, ''),
       count(*), sum(attempts), count(dispatched_at), count(delivered_at), count(first_opened_at),
       count(first_clicked_at), sum(opens), sum(clicks)
FROM views.notification_log WHERE notification = ANY(%s) GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
_OF_THE_FACTS = """
SELECT topic, count(DISTINCT originator_id) FROM ledger.stored_events WHERE originator_id = ANY(%s) GROUP BY topic
"""
_COMMON = (By.CHANNEL, By.TYPE, By.CATEGORY, By.TEMPLATE, By.PROVIDER, By.STATUS, By.REASON)
# Words for what has ever happened, by the facts that say so.
_EVER = {
    "attempted": "attempt_started",
    "doubted": "attempt_in_doubt",
    "dispatched": "dispatched",
    "delivered": "delivered",
    "opened": "opened",
    "complained": "complained",
}


def as_of_the_log(one: Bucket) -> tuple[Any, ...]:
    counts = (one.requested, one.attempts, one.dispatched, one.delivered, one.opened, one.clicked)
    return (*(one.names[name] or "" for name in _COMMON), *counts, one.opens, one.clicks)


def waits(states: Sequence[n.State]) -> list[timedelta]:
    """Return how long each waited for its first attempt, the shortest first."""
    return sorted(state.attempts[0].started_at - state.requested.recorded_at for state in states if state.attempts)


def rides(states: Sequence[n.State]) -> list[timedelta]:
    """Return how long each was on its way to its person, once a provider had taken it."""
    took = [[(a.delivered_at, a.dispatched_at) for a in state.attempts if a.delivered_at] for state in states]
    return sorted(delivered - dispatched for delivered, dispatched in map(min, filter(None, took)) if dispatched)


def is_near(told: Latency | None, took: Sequence[timedelta]) -> bool:
    """Whether percentiles are those of the durations, but for 5 % or a millisecond; none where there are none."""
    if told is None or not took:
        return told is None and not took
    exact = [took[math.ceil(len(took) * share) - 1] for share in (0.5, 0.9, 0.99)]
    near = all(
        abs(one - other) <= max(other * 0.05, timedelta(milliseconds=1))
        for one, other in zip((told.p50, told.p90, told.p99), exact, strict=True)
    )
    return near and told.notifications == len(took)


@on_one_database
@given(drawn=drawn_lives, batch=st.integers(1, 30))
async def test_i27_counts_are_those_of_the_log_and_of_the_facts_whatever_the_batches(
    store: Store, empty: AsyncConnection[Any], drawn: Any, batch: int
):
    await empty.execute("TRUNCATE views.delivery_statistics_v1, views.delivery_statistics_latency_v1")
    now, head = await store.now(), await store.head()
    written = [Life(now, **wish).live(*steps) for wish, steps in drawn]
    await write_interleaved(store, written)
    await folded(store, empty, head, batch=batch)
    streams, states = [life.stream for life in written], [life.state for life in written]
    logged = await (await empty.execute(_OF_THE_LOG, (streams,))).fetchall()
    assert Counter(map(as_of_the_log, await around(empty, now, *_COMMON))) == Counter(logged)
    facts = dict(await (await empty.execute(_OF_THE_FACTS, (streams,))).fetchall())
    (every,) = await around(empty, now)
    assert {name: getattr(every, name) for name in _EVER} == {
        name: facts.get(f"notification.{topic}", 0) for name, topic in _EVER.items()
    }
    assert is_near(every.to_provider, waits(states))
    assert is_near(every.to_recipient, rides(states))
    assert await rows_without_a_notification(empty) == 0


async def rows_without_a_notification(connection: AsyncConnection[Any]) -> int:
    ((rows,),) = await (
        await connection.execute("""
            SELECT (SELECT count(*) FROM views.delivery_statistics WHERE notifications = 0)
                 + (SELECT count(*) FROM views.delivery_statistics_latency WHERE notifications = 0)
        """)
    ).fetchall()
    return int(rows)


async def test_hours_and_days_are_told_apart_and_filters_hold(store: Store, empty: AsyncConnection[Any]):
    now = (await store.now()).replace(hour=12, minute=30)
    early, late = Life(now - DAY, channel=Channel.SMS), Life(now).live("attempt", "accepted")
    also = Life(now + timedelta(hours=1)).live("suppress")
    await write_interleaved(store, [early, late, also])
    await folded(store, empty, 0, batch=100)
    hour, day = now.replace(minute=0, second=0, microsecond=0), now.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = Asked(since=day - DAY, until=day + DAY)

    async def told(**asked: Any) -> list[tuple[datetime | None, int]]:
        return [(one.at, one.requested) for one in await statistics(empty, msgspec.structs.replace(whole, **asked))]

    assert await told(by=(By.HOUR,)) == [(hour - DAY, 1), (hour, 1), (hour + timedelta(hours=1), 1)]
    assert await told(by=(By.DAY,)) == [(day - DAY, 1), (day, 2)]
    assert await told(by=(By.DAY,), only={By.CHANNEL: "email"}) == [(day, 2)]
    assert await told(only={By.REASON: "suppressed_address", By.STATUS: "suppressed"}) == [(None, 1)]
    assert await told(only={By.TYPE: "nul\0"}) == await told(only={By.PROVIDER: "none of ours"}) == []
    assert await told(since=hour, until=hour + timedelta(hours=1)) == [(None, 1)]


@pytest.mark.parametrize("told", [[1, 3], [3]])
async def test_facts_that_do_not_follow_each_other_are_no_statistics(
    store: Store, empty: AsyncConnection[Any], told: list[int]
):
    life = Life(await store.now()).live("attempt", "accepted")
    facts = [Recorded(life.stream, version, "", life.facts[version - 1]) for version in told]
    with pytest.raises(BrokenStreamError):
        await VIEW.fold(empty, facts)
