"""The list of what is listed: at any moment the entries that are in force, whatever batches they came in."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger.follower import prepare
from ledger.keys import Identity
from ledger.mapping import Recorded
from ledger.notification import Origin
from ledger.suppression import (
    Grounds,
    Listed,
    Reason,
    Suppression,
    SuppressionFact,
    delist,
    evolve,
    list_address,
    nothing,
)
from ledger.values import Category, Channel
from projections.notification_search import CursorError
from projections.suppressions import Filters, Suppressions, search
from tests.support.postgres import IDENTITY_KEY

VIEW = Suppressions()
IDENTITY = Identity(IDENTITY_KEY)
ADDRESSES = [
    nothing(IDENTITY, channel, f"{number:032x}") for channel in (Channel.EMAIL, Channel.SMS) for number in range(6)
]


def decided(draw: random.Random, state: Suppression, now: datetime) -> Sequence[SuppressionFact]:
    at = Origin(now=now, cause="command:1", by="api:tester")
    if draw.random() < 0.3:
        return delist(
            state,
            draw.sample(list(state.entries), k=len(state.entries) // 2 + 1 if state.entries else 0),
            at,
            note="why",
        )
    expires_at = draw.choice([None, None, now + timedelta(days=1), now + timedelta(microseconds=1)])
    category = draw.choice([None, *Category])
    return list_address(state, Grounds(reason=draw.choice(list(Reason)), category=category, expires_at=expires_at), at)


def lived(now: datetime, steps: int) -> tuple[list[Recorded], list[Suppression]]:
    """Let addresses be listed and released at random, long ago; returns the log, and how each stands then."""
    draw, log = random.Random(7), list[Recorded]()
    known = {address.stream: address for address in ADDRESSES}
    for step in range(steps):
        state = draw.choice(list(known.values()))
        for fact in decided(draw, state, now - timedelta(seconds=steps - step)):
            state = evolve(state, fact)
            topic = "suppression.listed" if isinstance(fact, Listed) else "suppression.delisted"
            log.append(Recorded(state.stream, state.version, topic, fact, len(log) + 1))
        known[state.stream] = state
    return log, list(known.values())


@pytest.fixture
async def now(connection: AsyncConnection[Any]) -> datetime:
    await prepare(connection, VIEW)
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    assert isinstance(now, datetime)
    return now


async def folded(connection: AsyncConnection[Any], log: Sequence[Recorded], *, batch: int) -> None:
    for first in range(0, len(log), batch):
        async with connection.transaction():
            await VIEW.fold(connection, log[first : first + batch])


def in_force(states: Sequence[Suppression], now: datetime) -> set[tuple[Any, ...]]:
    return {
        (state.stream, entry.version, entry.fact.reason, entry.fact.category)
        for state in states
        for entry in state.in_force(now)
    }


@pytest.mark.parametrize("batch", [1, 7, 500])
async def test_i11_the_list_is_what_is_in_force_by_the_facts_whatever_the_batches(
    connection: AsyncConnection[Any], now: datetime, batch: int
):
    log, states = lived(now, 400)
    await folded(connection, log, batch=batch)
    page = await search(connection, Filters(), limit=500)
    assert {(row.stream, row.version, row.reason, row.category) for row in page.rows} == in_force(states, now)
    assert page.rows


async def test_pages_neither_skip_nor_repeat_while_entries_come_and_go(connection: AsyncConnection[Any], now: datetime):
    log, _ = lived(now, 300)
    await folded(connection, log[:-40], batch=500)
    whole = [row.position for row in (await search(connection, Filters(), limit=500)).rows]
    first = await search(connection, Filters(), limit=5)
    assert [row.position for row in first.rows] == whole[:5]
    await folded(connection, log[-40:], batch=500)
    left = {row.position for row in (await search(connection, Filters(), limit=500)).rows}
    seen, cursor = [row.position for row in first.rows], first.cursor
    while cursor is not None:
        page = await search(connection, Filters(), cursor=cursor, limit=5)
        seen += [row.position for row in page.rows]
        cursor = page.cursor
    assert seen == sorted(set(seen), reverse=True)
    assert set(seen) >= left & set(whole)


@pytest.mark.parametrize(
    "wanted", [{"channel": Channel.SMS}, {"reason": Reason.STOP}, {"category": Category.MARKETING}]
)
async def test_entries_are_found_by_each_filter(
    connection: AsyncConnection[Any], now: datetime, wanted: dict[str, Any]
):
    log, _ = lived(now, 400)
    await folded(connection, log, batch=500)
    every = (await search(connection, Filters(), limit=500)).rows
    ((name, value),) = wanted.items()
    expected = [row for row in every if getattr(row, name) == value]
    assert expected
    assert (await search(connection, Filters(**wanted), limit=500)).rows == expected


@pytest.mark.parametrize("cursor", ["", "x", "A" * 11, "A" * 12, "_" * 11, "AAAAAAAAAAE", "é", "\0"])
async def test_a_cursor_that_no_page_gave_is_refused(connection: AsyncConnection[Any], now: datetime, cursor: str):
    if cursor not in {"AAAAAAAAAAE", "A" * 11}:
        with pytest.raises(CursorError):
            await search(connection, Filters(), cursor=cursor)
    else:
        assert (await search(connection, Filters(), cursor=cursor)).rows == []
