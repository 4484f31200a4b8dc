"""The feed: what is published, read again over HTTP from any position."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from handlers.metrics import Metrics
from handlers.publish import OUTBOX, Publish
from ledger.follower import Follower, caught_up
from ledger.store import Encoded
from ledger.values import Accepted, Outcome, ReportKind
from tests.integration.api.conftest import Service
from tests.integration.ledger import lives
from tests.integration.ledger.parts import new_id
from tests.integration.test_publish import DOCUMENT, MESSAGE, SOON
from tests.support.json_schema import faults
from tests.support.listener import bind, listening
from tests.support.postgres import Database
from tests.support.rabbitmq import Broker
from tests.support.service import until

STEPS: Sequence[Outcome | ReportKind] = [Accepted("ses-1"), ReportKind.DELIVERED]


async def page(service: Service, **asked: Any) -> dict[str, Any]:
    reply = await service.client.get("/v1/positions", params=asked)
    assert reply.status_code == 200, reply.text
    read: dict[str, Any] = reply.json()
    return read


async def read_all(service: Service, *, limit: int) -> list[dict[str, Any]]:
    """Read from the beginning to the end, page by page."""
    found: list[dict[str, Any]] = []
    after = -1
    answer: dict[str, Any] = {"next": 0}
    while after != answer["next"]:
        after = answer["next"]
        answer = await page(service, after=after, limit=limit)
        found += answer["messages"]
    return found


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_every_message_is_read_in_the_order_of_the_log_whatever_the_pages(service: Service, limit: int):
    for _ in range(4):
        await lives.live(service.ledger, STEPS)
    messages = await read_all(service, limit=limit)
    assert [one["payload"]["event"] for one in messages] == ["dispatched", "delivered"] * 4
    positions = [one["payload"]["position"] for one in messages]
    assert positions == sorted(set(positions))
    for one in messages:
        assert list(faults(one, MESSAGE, DOCUMENT)) == []
    assert await page(service, after=10**18 - 1) == {"messages": [], "next": 10**18 - 1, "left_out": []}


async def test_i14_the_feed_says_to_the_byte_what_is_published(service: Service, database: Database, broker: Broker):
    await bind(broker.url, "a-service")
    for _ in range(3):
        await lives.live(service.ledger, STEPS)
    publish = Publish(broker.url, service.ledger.store, Metrics(CollectorRegistry()))
    relay = Follower(database.url, publish, service.signals)
    relay.start()
    async with service.ledger.store.connection() as connection:
        assert await caught_up(connection, OUTBOX, await service.ledger.store.head(), timeout=SOON)
    await relay.stop()
    await publish.aclose()
    async with listening(broker.url, "a-service") as listener:
        await until(lambda: len(listener.heard) == 6, "every message")
    heard = {one.raw for one in listener.heard}
    assert {msgspec.json.encode(one) for one in await read_all(service, limit=100)} == heard


async def test_i10_a_reader_that_follows_the_feed_while_many_write_misses_nothing(service: Service):
    writing = asyncio.gather(*(lives.live(service.ledger, STEPS) for _ in range(60)))
    seen: list[str] = []
    after = 0
    while len(seen) < 120:
        answer = await page(service, after=after, limit=13)
        after = answer["next"]
        seen += [one["messageId"] for one in answer["messages"]]
    await writing
    assert len(set(seen)) == 120
    assert [one["messageId"] for one in await read_all(service, limit=500)] == seen


async def test_every_fault_of_the_question_is_named(service: Service):
    reply = await service.client.get("/v1/positions", params={"after": "-1", "limit": "501", "since": "x"})
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/problem+json")
    assert {fault["path"] for fault in reply.json()["faults"]} == {"after", "limit", "since"}


async def test_i18_the_feed_holds_no_personal_data(service: Service):
    await lives.live(service.ledger, STEPS)
    reply = await service.client.get("/v1/positions", headers=service.as_("operations"))
    assert len(reply.json()["messages"]) == 2
    assert "ada@" not in reply.text
    assert "Ada" not in reply.text


async def test_what_cannot_be_read_is_left_out_by_its_name(service: Service):
    unread, orphan = await _raw(service, b"{}"), await _raw(service, STATE)
    await lives.live(service.ledger, STEPS)
    answer = await page(service)
    assert len(answer["messages"]) == 2
    assert sorted(answer["left_out"]) == sorted(map(str, (unread, orphan)))
    assert answer["next"] == await service.ledger.store.head()


async def test_a_fact_of_a_newer_release_ends_the_page_and_then_asks_to_come_again(service: Service):
    await lives.live(service.ledger, STEPS)
    before = await service.ledger.store.head()
    await _raw(service, STATE, topic="notification.postcarded")
    answer = await page(service)
    assert (len(answer["messages"]), answer["next"]) == (2, before)
    reply = await service.client.get("/v1/positions", params={"after": before})
    assert (reply.status_code, reply.json()["type"]) == (503, "/problems/newer-release")


async def test_a_page_ends_after_16_mib_of_facts_and_the_first_comes_whatever_its_size(service: Service):
    for mebibytes in (17, 6, 6, 6, 6):
        await _raw(service, STATE.replace(b"test", b"x" * mebibytes * 1024 * 1024))
    pages, after = [], 0
    while (answer := await page(service, after=after, limit=500))["next"] != after:
        after = answer["next"]
        pages.append(len(answer["left_out"]))
    assert pages == [1, 3, 1]
    assert after == await service.ledger.store.head()


STATE = b'{"recorded_at":"2026-01-01T00:00:00Z","cause":"clock","by":"test"}'


async def _raw(service: Service, state: bytes, *, topic: str = "notification.expired") -> UUID:
    stream = new_id()
    assert await service.ledger.store.append([Encoded(facts=[(stream, 1, topic, state)])]) == {}
    return stream
