from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger import queues
from ledger.follower import Follower, caught_up, prepare
from ledger.set_aside import Refusal
from projections.notification_log import NotificationLog
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database


@pytest.fixture
async def listed(service: Service, database: Database) -> AsyncIterator[Service]:
    """The service with its list kept up to date."""
    async with service.ledger.store.connection() as connection:
        await prepare(connection, NotificationLog())
    follower = Follower(database.url, NotificationLog(), service.signals)
    follower.start()
    yield service
    await follower.stop()


async def up_to_date(service: Service) -> None:
    head = await service.ledger.store.head()
    async with service.ledger.store.connection() as connection:
        assert await caught_up(connection, NotificationLog(), head, timeout=timedelta(seconds=60))


async def found(service: Service, text: str, **more: Any) -> dict[str, Any]:
    reply = await service.client.post("/v1/find", json={"for": text, **more})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def matches(told: dict[str, Any]) -> dict[str, list[str]]:
    return {one["id"]: one["matched_by"] for one in told["notifications"]}


def shipped(number: int, address: str) -> dict[str, Any]:
    """Return a message of which nothing is the same as in another one."""
    ids = {"userId": f"u-{number}", "orderId": f"o-{number}"}
    return {**message("OrderShippedEvent", **ids, userEmail=address), "correlationId": f"c-{number}"}


async def test_a_notification_is_found_by_whatever_a_caller_says_of_it(listed: Service):
    mine = shipped(17, "ada@bücher.example")
    stream = str(await posted(listed.client, mine))
    other = await posted(listed.client, shipped(170, "ada@buecher.example"))
    await sent(listed.ledger, UUID(stream), reference="ses-17")
    await sent(listed.ledger, other, reference="ses-170")
    await up_to_date(listed)
    for text, by in {
        "ADA@xn--bcher-kva.example": "address",
        "Ada <ada@Bücher.example>": "address",
        "u-17": "user_id",
        "o-17": "reference",
        "order: o-17": "reference",
        mine["messageId"]: "message_id",
        mine["messageId"].upper(): "message_id",
        "c-17": "correlation_id",
        "ses-17": "provider_message_id",
        stream: "notification",
    }.items():
        told = await found(listed, text)
        assert matches(told) == {stream: [by]}, text
        assert by in told["taken_for"]
        assert "ada@" not in msgspec.json.encode(told).decode()
    assert matches(await found(listed, "invoice: o-17")) == {}


async def test_pages_of_what_was_found_by_several_things_neither_skip_nor_repeat(listed: Service):
    name = f"both-{uuid4()}"
    bodies = [message(userId=name), shipped(1, "a@example.com"), message(userId=name)]
    bodies[1]["correlationId"] = bodies[2]["correlationId"] = name
    ids = [str(await posted(listed.client, body)) for body in bodies]
    await posted(listed.client, message())
    await up_to_date(listed)
    seen: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await found(listed, name, limit=1, **cursor)
        seen += page["notifications"]
        await posted(listed.client, {**message(), "correlationId": name})
        await up_to_date(listed)
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    assert [one["id"] for one in seen] == ids[::-1]
    assert [one["matched_by"] for one in seen] == [["user_id", "correlation_id"], ["correlation_id"], ["user_id"]]


async def test_what_is_to_come_says_when_it_is_looked_at_again(listed: Service):
    stream = await posted(listed.client)
    await up_to_date(listed)
    (one,) = (await found(listed, str(stream)))["notifications"]
    assert one["due_at"] is not None
    assert not one["held"]


async def test_i3_a_conflict_is_shown_to_whoever_has_the_id_of_the_message(listed: Service):
    first = message()
    stream = await posted(listed.client, first)
    other = await posted(listed.client)
    for name in ("Eve", "Mallory"):
        again = {**first, "payload": {**first["payload"], "firstName": name}}
        assert (await listed.client.post("/v1/messages", json=again)).status_code == 409
    # Also before the list has the notification, and where there is none.
    (conflict,) = (await found(listed, first["messageId"]))["conflicts"]
    assert (conflict["times"], conflict["notifications"]) == (2, [str(stream)])
    assert conflict["last_at"] > conflict["taken_at"]
    await up_to_date(listed)
    assert (await found(listed, first["payload"]["userId"]))["conflicts"] == [conflict]
    assert (await found(listed, str(other)))["conflicts"] == []
    assert (await found(listed, "another message"))["conflicts"] == []


async def test_a_refused_message_is_found_by_every_text_and_address_that_it_holds(listed: Service):
    set_aside = listed.services.set_aside
    body = {
        "messageId": "m with a space",
        "sourceService": "OrderService",
        "correlationId": "c-77",
        "payload": {"userId": "u-77", "userEmail": "Eva@Example.com", "phone": "+44 20 7183 8750", "orderId": 4711},
    }
    refusal = Refusal(reason="payload", faults=[{"path": "payload", "message": "is wrong"}], message_id="m-77")
    now = listed.ledger.clock.now()
    key = await set_aside.keep(msgspec.json.encode(body), refusal, origin="amqp", now=now)
    broken = b'{"messageId": "m-78", "orderId": "o-78", "userEmail": "eva@example.net"'
    unread = await set_aside.keep(broken, Refusal(reason="not_json"), origin="amqp", now=now)
    for text in ("m-77", "m with a space", "c-77", "u-77", "eva@example.com", "+442071838750", "4711", key.hex()):
        told = await found(listed, text)
        assert [(one["key"], one["reason"]) for one in told["dead_letters"]] == [(key.hex(), "payload")], text
        assert "eva@" not in msgspec.json.encode(told).decode().lower()
    for text in ("m-78", "o-78", "eva@example.net"):
        assert [one["key"] for one in (await found(listed, text))["dead_letters"]] == [unread.hex()], text
    for text in ("m-7", "u-770", "eva@example.org", "is wrong"):
        assert (await found(listed, text))["dead_letters"] == [], text


async def test_what_is_listed_of_an_address_is_told_with_it(listed: Service):
    given = {"channel": "sms", "address": "+442071838750", "reason": "manual", "note": "asked for it"}
    assert (await listed.client.post("/v1/suppressions", json=given)).status_code == 201
    (known,) = (await found(listed, "+44 (0)20 7183 8750"))["suppressions"]
    assert [(known["channel"], entry["reason"]) for entry in known["entries"]] == [("sms", "manual")]
    assert (await found(listed, "+442071838751"))["suppressions"] == []


async def test_nothing_found_says_how_far_the_answer_reaches(service: Service):
    async with service.ledger.store.connection() as connection:
        await prepare(connection, NotificationLog())
    nothing = await found(service, "nobody@example.com")
    reach = nothing.pop("reach")
    assert nothing.pop("taken_for") == [
        "address",
        "user_id",
        "reference",
        "message_id",
        "correlation_id",
        "provider_message_id",
    ]
    assert not any(nothing.values())
    assert reach["since"] < reach["asked_at"]
    assert (reach["view_events"], reach["view_seconds"], reach["queues"]) == (0, 0, [])
    stream = await posted(service.client)
    await queues.seen(service.ledger.store, {"a queue": 17, "another": 0})
    told = await found(service, str(stream))
    assert told["notifications"] == []
    assert told["unlisted"] == [str(stream)]
    assert told["reach"]["view_events"] == 1
    assert told["reach"]["view_seconds"] > 0
    assert [(one["name"], one["waiting"]) for one in told["reach"]["queues"]] == [("a queue", 17), ("another", 0)]


NOT_ASKED: list[tuple[bytes, set[str]]] = [
    (b"{", {""}),
    (b"{}", {"for"}),
    (b'{"for": 7, "limit": true, "cursor": 1, "x": 1}', {"for", "limit", "cursor", "x"}),
    (b'{"for": "a", "limit": 201}', {"limit"}),
    (b'{"for": "a", "cursor": "nonsense"}', {"cursor"}),
    (b'{"for": " "}', {"for"}),
    (b'{"for": "a\\u0000b"}', {"for"}),
    (b'{"for": "' + b"x" * 10_000 + b'"}', {"for"}),
]


async def test_a_question_that_is_none_is_refused_with_every_fault(service: Service):
    async with service.ledger.store.connection() as connection:
        await prepare(connection, NotificationLog())
    for body, paths in NOT_ASKED:
        reply = await service.client.post("/v1/find", content=body)
        assert reply.status_code == 400, (body, reply.text)
        assert {fault["path"] for fault in reply.json()["faults"]} == paths, body
