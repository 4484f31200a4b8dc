import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import msgspec
import psycopg
import pytest

from ledger.store import Store
from ledger.values import Accepted, InDoubt, Lane, Outcome, Postponed, Refused
from providers.fakes.ses import Behaviour, FakeSes
from providers.guard import FAILURES, Gate, Route, Token
from providers.ses import Ses
from tests.integration.providers.vendors import SES
from tests.support import ports
from tests.support.postgres import Database
from tests.support.service import until

GONE = Behaviour(status=500, code="InternalFailure")
NO_KEYS = Behaviour(status=403, code="ExpiredTokenException")
QUIET = Behaviour(status=429, code="TooManyRequestsException", retry_after=30)


class Second(Ses):
    """The other provider of a route."""

    name = "second"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def gate(
    stack: AsyncExitStack, store: Store, url: str, *, rate: float | None = None, vendor: type[Ses] = Ses
) -> Gate:
    provider = await vendor.open(region="eu-west-1", endpoint_url=url, access_key_id="key", secret_access_key="none")
    stack.push_async_callback(provider.aclose)
    return Gate(provider, store.connection, rate=rate)


async def call(one: Gate) -> Outcome:
    """What an item does with a token in hand."""
    token = one.take()
    assert token is not None
    assert token.spend()
    return await one.send(msgspec.structs.replace(SES.sending, attempt=uuid4()), token)


async def turn(route: Route, lane: Lane, *tried: str) -> Gate | None:
    """Whose turn it is for an item that was tried so."""
    token = await route.take(lane, tried)
    return None if token is None else token.gate


async def fail(one: Gate, times: int) -> None:
    for _ in range(times):
        assert await one.room(1)
        assert isinstance(await call(one), InDoubt | Postponed)


def pause_is_over(database: Database) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.provider_limit SET shut_until = now()")


async def shut_for_a_while(one: Gate, fake: FakeSes, database: Database) -> None:
    """Open the breaker, and let its pause be over: what comes next is the probe."""
    fake.behaviour = GONE
    await fail(one, FAILURES)
    pause_is_over(database)


async def test_calls_that_fail_in_a_row_shut_the_provider_for_every_process(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    one, other = [await gate(stack, store, fake.url) for _ in range(2)]
    fake.behaviour = GONE
    await fail(one, FAILURES)
    assert [await each.room(5) for each in (one, other)] == [0, 0]
    assert (one.shut, other.shut) == (True, True)
    assert len(fake.requests) == FAILURES


async def test_an_answer_between_failures_starts_the_count_anew(stack: AsyncExitStack, store: Store, fake: FakeSes):
    one = await gate(stack, store, fake.url)
    for _ in range(2):
        fake.behaviour = GONE
        await fail(one, FAILURES - 1)
        fake.behaviour = None
        assert await one.room(1)
        assert isinstance(await call(one), Accepted)
    assert await one.room(1) == 1


async def test_one_fault_of_ours_is_enough(stack: AsyncExitStack, store: Store, fake: FakeSes):
    one = await gate(stack, store, fake.url)
    fake.behaviour = NO_KEYS
    await fail(one, 1)
    assert await one.room(1) == 0


async def test_retry_after_shuts_the_provider_for_as_long_as_it_asks(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    one = await gate(stack, store, fake.url)
    fake.behaviour = QUIET
    await fail(one, 1)
    assert await one.room(1) == 0
    assert timedelta(seconds=25) < one.wait <= timedelta(seconds=30)


async def test_a_probe_that_is_answered_opens_the_provider_again(
    stack: AsyncExitStack, store: Store, fake: FakeSes, database: Database
):
    one = await gate(stack, store, fake.url)
    await shut_for_a_while(one, fake, database)
    fake.behaviour = None
    assert await one.room(50) == 1
    assert isinstance(await call(one), Accepted)
    assert await one.room(50) == 50


async def test_a_probe_counts_also_when_others_asked_while_it_was_under_way(
    stack: AsyncExitStack, store: Store, fake: FakeSes, database: Database
):
    one = await gate(stack, store, fake.url)
    await shut_for_a_while(one, fake, database)
    fake.behaviour = Behaviour(delay=timedelta(milliseconds=200))
    assert await one.room(50) == 1
    calling = asyncio.create_task(call(one))
    await until(lambda: len(fake.requests) > FAILURES, "the probe")
    assert await one.room(50) == 0
    assert isinstance(await calling, Accepted)
    await until(lambda: one.wait == timedelta(0), "the next look")
    assert await one.room(50) == 50


async def test_many_that_ask_at_once_reserve_one_block(stack: AsyncExitStack, store: Store, fake: FakeSes):
    one = await gate(stack, store, fake.url, rate=100.0)
    assert max(await asyncio.gather(*(one.room(100) for _ in range(30)))) == 10


async def test_a_probe_that_fails_shuts_it_at_once(
    stack: AsyncExitStack, store: Store, fake: FakeSes, database: Database
):
    one = await gate(stack, store, fake.url)
    await shut_for_a_while(one, fake, database)
    await fail(one, 1)
    assert await one.room(50) == 0
    assert one.shut


async def test_a_token_is_handed_out_once_and_is_free_again_when_it_was_not_needed(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    one = await gate(stack, store, fake.url, rate=40.0)
    assert await one.room(10) == 4
    tokens = [one.take() for _ in range(5)]
    assert [token is not None for token in tokens] == [True] * 4 + [False]
    assert await one.room(10) == 0
    for token in tokens[:3]:
        assert token is not None
        token.give_back()
        token.give_back()
    assert await one.room(10) == 3


async def test_items_that_end_without_a_call_slow_no_other_down(stack: AsyncExitStack, store: Store, fake: FakeSes):
    """Many more than the rate allows in the time that this takes: each gives its token to the next."""
    one = await gate(stack, store, fake.url, rate=10.0)
    for _ in range(500):
        assert await one.room(1) or one.wait
        if token := one.take():
            token.give_back()
    assert await one.room(1) == 1


async def test_i20_a_token_that_was_held_for_too_long_makes_no_call(stack: AsyncExitStack, store: Store, fake: FakeSes):
    limited, unlimited = await gate(stack, store, fake.url, rate=40.0), await gate(stack, store, fake.url)
    now = time.monotonic()
    assert not Token(limited, void_at=now - 1, probe=False).spend()
    assert Token(limited, void_at=now + 60, probe=False).spend()
    assert Token(unlimited, void_at=now - 1, probe=False).spend(), "where there is no rate, no age breaks it"


async def test_what_left_before_the_breaker_opened_says_nothing_about_the_probe(
    stack: AsyncExitStack, store: Store, fake: FakeSes, database: Database
):
    one = await gate(stack, store, fake.url)
    assert await one.room(1)
    old = one.take()
    assert old is not None
    assert old.spend()
    await shut_for_a_while(one, fake, database)
    assert await one.room(1) == 1
    assert isinstance(await one.send(SES.sending, old), InDoubt)
    fake.behaviour = None
    assert isinstance(await call(one), Accepted)
    assert await one.room(50) == 50


async def test_a_probe_that_was_no_call_is_left_to_the_next_item(
    stack: AsyncExitStack, store: Store, fake: FakeSes, database: Database
):
    one = await gate(stack, store, fake.url)
    await shut_for_a_while(one, fake, database)
    fake.behaviour = None
    assert await one.room(50) == 1
    token = one.take()
    assert token is not None
    assert token.spend()
    outcome = await one.send(msgspec.structs.replace(SES.sending, address="nobody"), token)
    assert isinstance(outcome, Refused)
    assert await one.room(50) == 1
    assert isinstance(await call(one), Accepted)
    assert await one.room(50) == 50


async def test_what_must_not_wait_takes_the_next_provider_and_the_rest_waits(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    dead = f"http://127.0.0.1:{ports.free()}"
    first = await gate(stack, store, dead)
    second = await gate(stack, store, fake.url, vendor=Second)
    route = Route([first, second], failover=[Lane.URGENT])
    assert (await route.admit(10)).lanes == tuple(Lane)
    await fail(first, FAILURES)
    looked_at = await route.admit(100)
    assert (looked_at.gate, looked_at.lanes) == (None, tuple(Lane)), "what has expired must still end"
    assert looked_at.limit < 100
    admission = await route.admit(10)
    assert (admission.gate, admission.lanes, admission.limit) == (second, (Lane.URGENT,), 10)
    assert await turn(route, Lane.URGENT) is second
    assert await turn(route, Lane.LOW) is None
    assert route.wait(Lane.LOW, []) > timedelta(0)


async def test_a_rate_that_is_used_up_is_no_reason_to_take_the_next_provider(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    first = await gate(stack, store, fake.url, rate=0.01)
    second = await gate(stack, store, fake.url, vendor=Second)
    route = Route([first, second], failover=[Lane.URGENT])
    assert await turn(route, Lane.URGENT) is first
    assert await turn(route, Lane.URGENT) is None
    assert (await route.admit(10)).limit == 0


async def test_after_a_certain_refusal_it_is_the_next_providers_turn(
    stack: AsyncExitStack, store: Store, fake: FakeSes
):
    first = await gate(stack, store, fake.url)
    second = await gate(stack, store, fake.url, vendor=Second)
    route = Route([first, second], failover=[Lane.URGENT])
    assert route.at_once(Lane.URGENT, ["ses"])
    assert await turn(route, Lane.URGENT, "ses") is second
    assert not route.at_once(Lane.URGENT, ["ses", "second"])
    assert await turn(route, Lane.URGENT, "ses", "second") is first
    assert not route.at_once(Lane.NORMAL, ["ses"])
    assert await turn(route, Lane.NORMAL, "ses") is first
