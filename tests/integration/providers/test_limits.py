import asyncio
import time
from datetime import timedelta

import psycopg

from ledger.store import Store
from providers.limits import FIRST_PAUSE, LONGEST_PAUSE, Grant, Limits, states
from tests.support.postgres import Database

RATE, BURST = 200.0, 20
PROBE = timedelta(seconds=16)


def limits(store: Store, *, rate: float | None = RATE) -> Limits:
    """What one process of several has."""
    return Limits(store.connection, "ses", rate=rate, burst=BURST, probe=PROBE)


def time_passes(database: Database) -> None:
    """Make the pause of the breaker a thing of the past."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE ledger.provider_limit SET shut_until = now(), probe_until = least(probe_until, now())"
        )


async def shut_for(store: Store) -> float:
    async with store.connection() as connection:
        (state,) = await states(connection)
    return state.shut_for


async def test_i20_several_processes_together_get_no_more_than_the_rate_and_one_burst(store: Store):
    began, together = time.monotonic(), [limits(store) for _ in range(3)]

    async def reserve(one: Limits) -> int:
        return sum([(await one.reserve(BURST)).calls for _ in range(60)])

    granted = sum(await asyncio.gather(*(reserve(one) for one in together)))
    assert BURST <= granted <= BURST + RATE * (time.monotonic() - began)


async def test_a_provider_that_was_never_shut_is_shut_for_no_time(store: Store):
    await limits(store).know()
    assert await shut_for(store) == 0


async def test_who_gets_nothing_is_told_when_the_next_call_is_due(store: Store):
    one = limits(store, rate=0.01)
    assert (await one.reserve(BURST + 5)).calls == BURST
    grant = await one.reserve(1)
    assert (grant.calls, grant.shut) == (0, False)
    assert timedelta(seconds=90) < grant.wait <= timedelta(seconds=100)


async def test_without_a_rate_everything_is_granted(store: Store):
    assert await limits(store, rate=None).reserve(1_000) == Grant(1_000, probe=False, shut=False, wait=timedelta(0))


async def test_an_open_breaker_lets_nobody_call_until_its_pause_is_over(store: Store):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    await one.trip("connect_failed")
    grant = await other.reserve(5)
    assert (grant.calls, grant.shut) == (0, True)
    assert timedelta(0) < grant.wait <= FIRST_PAUSE


async def test_of_many_that_ask_after_the_pause_one_gets_the_probe(store: Store, database: Database):
    several = [limits(store) for _ in range(4)]
    await several[0].reserve(1)
    await several[0].trip("connect_failed")
    time_passes(database)
    grants = await asyncio.gather(*(one.reserve(50) for one in several))
    assert sorted(grant.calls for grant in grants) == [0, 0, 0, 1]
    assert [grant.probe for grant in grants if grant.calls] == [True]


async def test_only_the_owner_of_the_probe_closes_the_breaker(store: Store, database: Database):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    await one.trip("connect_failed")
    time_passes(database)
    assert (await one.reserve(1)).probe
    await other.close()
    assert (await other.reserve(1)).shut
    await one.close()
    assert (await other.reserve(1)) == Grant(1, probe=False, shut=False, wait=timedelta(0))


async def test_a_probe_whose_process_died_is_given_to_another(store: Store, database: Database):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    await one.trip("connect_failed")
    time_passes(database)
    assert (await one.reserve(1)).probe
    time_passes(database)
    assert (await other.reserve(1)).probe
    await one.close()
    assert (await one.reserve(1)).shut, "the probe is another's by now"


async def test_each_failed_probe_doubles_the_pause_up_to_a_limit(store: Store, database: Database):
    one, pauses = limits(store), []
    await one.reserve(1)
    await one.trip("timeout")
    for _ in range(6):
        pauses.append(await shut_for(store))
        time_passes(database)
        assert (await one.reserve(1)).probe
        await one.trip("timeout")
    first = FIRST_PAUSE.total_seconds()
    for number, pause in enumerate(pauses):
        longest = min(LONGEST_PAUSE.total_seconds(), first * 2**number)
        assert longest / 2 < pause <= longest


async def test_what_others_report_while_it_is_open_does_not_prolong_the_pause(store: Store):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    for each in (one, other, other, one):
        await each.trip("timeout")
    assert await shut_for(store) <= FIRST_PAUSE.total_seconds()


async def test_a_provider_that_asks_for_quiet_gets_it_from_all(store: Store):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    await one.rest(timedelta(seconds=30))
    grant = await other.reserve(1)
    assert grant.shut
    assert timedelta(seconds=25) < grant.wait <= timedelta(seconds=30)


async def test_a_probe_that_is_asked_for_quiet_is_followed_by_another_when_the_quiet_is_over(
    store: Store, database: Database
):
    one, other = limits(store), limits(store)
    await one.reserve(1)
    await one.trip("timeout")
    time_passes(database)
    assert (await one.reserve(1)).probe
    await one.rest(timedelta(0))
    assert (await other.reserve(1)).probe
