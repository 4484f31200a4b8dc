import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from handlers.intake import TakeIn, TakenIn
from ledger.follower import Follower, caught_up
from ledger.values import Channel
from projections.notification_log import NotificationLog
from templates.catalogue import load
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database


@pytest.fixture
async def listed(service: Service, database: Database) -> AsyncIterator[Service]:
    """The service with its list kept up to date."""
    follower = Follower(database.url, NotificationLog(), service.signals)
    follower.start()
    yield service
    await follower.stop()


async def up_to_date(service: Service) -> None:
    head = await service.ledger.store.head()
    async with service.ledger.store.connection() as connection:
        assert await caught_up(connection, NotificationLog(), head, timeout=timedelta(seconds=60))


async def found(service: Service, **filters: str) -> list[str]:
    """Return the ids that both routes find; they must agree."""
    by_url = await service.client.get("/v1/notifications", params=filters)
    by_body = await service.client.post("/v1/notifications/search", json=filters)
    assert by_url.status_code == 200, by_url.text
    assert by_url.json() == by_body.json()
    return [each["id"] for each in by_url.json()["notifications"]]


async def test_notifications_are_found_by_each_filter(listed: Service):
    mine, other = message(), message("LowStockWarningEvent")
    stream = await posted(listed.client, mine)
    await posted(listed.client, other)
    await sent(listed.ledger, stream)
    await up_to_date(listed)
    now = datetime.now(UTC)
    before, after = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()
    for filters in (
        {"user_id": mine["payload"]["userId"]},
        {"channel": "email", "status": "dispatched"},
        {"category": "transactional"},
        {"type": "welcome"},
        {"template": "welcome"},
        {"correlation_id": mine["correlationId"]},
        {"message_id": mine["messageId"]},
        {"provider_message_id": "ses-1"},
        {
            "type": "welcome",
            "from": before,
            "to": after,
        },
    ):
        assert await found(listed, **filters) == [str(stream)], filters
    assert await found(listed, to=before) == []
    assert await found(listed, type="welcome", status="bounced") == []


async def test_notifications_are_found_by_what_the_business_knows_them_by_and_by_the_version_of_their_words(
    listed: Service,
):
    mine = str(await posted(listed.client, message("OrderShippedEvent", orderId="o-17")))
    other = str(await posted(listed.client, message("OrderShippedEvent", orderId="o-170")))
    welcome = str(await posted(listed.client))
    await up_to_date(listed)
    assert await found(listed, reference="o-17") == [mine]
    assert await found(listed, reference="o-17", reference_name="order") == [mine]
    assert await found(listed, reference="o-17", reference_name="invoice") == []
    assert await found(listed, reference="o-17", status="delivered") == []
    version = (await listed.client.get(f"/v1/notifications/{mine}")).json()["template_version"]
    assert await found(listed, template_version=version) == [other, mine]
    assert welcome in await found(listed)


async def test_notifications_are_found_by_an_address_in_any_spelling(listed: Service):
    stream = str(await posted(listed.client))
    await posted(listed.client, message(emailAddress="eva@example.com"))
    await up_to_date(listed)
    reply = await listed.client.post("/v1/notifications/search", json={"recipient": " ADA@Example.COM."})
    assert [each["id"] for each in reply.json()["notifications"]] == [stream]


async def test_notifications_are_found_by_a_number_in_any_spelling(listed: Service):
    take_in = TakeIn(listed.ledger, load(), channels={Channel.SMS})
    coded = message("TwoFactorAuthCodeEvent", phoneNumber="+44 20 7183 8750")
    (taken,) = await take_in.messages([msgspec.json.encode(coded)], by="test")
    assert isinstance(taken, TakenIn)
    await up_to_date(listed)
    for number in ("+442071838750", " +44 (0)20 7183-8750"):
        reply = await listed.client.post("/v1/notifications/search", json={"recipient": number})
        assert [each["id"] for each in reply.json()["notifications"]] == list(map(str, taken.notifications))


async def test_an_address_never_stands_in_a_url(listed: Service):
    reply = await listed.client.get("/v1/notifications", params={"recipient": "ada@example.com"})
    assert reply.status_code == 400
    assert [fault["path"] for fault in reply.json()["faults"]] == ["recipient"]
    assert "ada@" not in reply.text


async def test_i18_a_list_masks_everybody_for_everybody(listed: Service):
    await posted(listed.client)
    await up_to_date(listed)
    reply = await listed.client.get("/v1/notifications")
    (shown,) = reply.json()["notifications"]
    assert shown["recipient"]["address"] == "a…@e…"
    assert shown["status"] == "requested"
    assert "ada@" not in reply.text
    assert "Ada" not in reply.text


async def test_pages_neither_skip_nor_repeat(listed: Service):
    ids = [str(stream) for stream in await asyncio.gather(*(posted(listed.client) for _ in range(7)))]
    await up_to_date(listed)
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = (await listed.client.get("/v1/notifications", params={"limit": "3", **cursor})).json()
        seen += [each["id"] for each in page["notifications"]]
        if page["cursor"] is None:
            break
        await posted(listed.client)
        await up_to_date(listed)
        cursor = {"cursor": page["cursor"]}
    assert seen == sorted(ids, reverse=True)


NO_FILTERS: list[tuple[dict[str, str], set[str]]] = [
    ({"status": "lost", "channel": "pigeon", "limit": "0", "from": "x"}, {"status", "channel", "limit", "from"}),
    ({"limit": "201"}, {"limit"}),
    ({"limit": "1.5"}, {"limit"}),
    ({"cursor": "nonsense"}, {"cursor"}),
    ({"user_id": "a\0b", "to": "2026-01-01"}, {"user_id", "to"}),
    ({"user_id": ""}, {"user_id"}),
    ({"state": "delivered"}, {"state"}),
    ({"reference_name": "order"}, {"reference_name"}),
]


async def test_filters_that_are_none_are_refused_with_every_fault(listed: Service):
    await up_to_date(listed)
    for query, paths in NO_FILTERS:
        for reply in (
            await listed.client.get("/v1/notifications", params=query),
            await listed.client.post("/v1/notifications/search", json=query),
        ):
            assert reply.status_code == 400, query
            assert {fault["path"] for fault in reply.json()["faults"]} == paths


NO_SEARCHES = [
    (b"{", [""]),
    (b"[]", [""]),
    (b'{"user_id": 7, "limit": "x"}', ["user_id", "limit", "limit"]),
    (b'{"limit": true, "channel": ["email"]}', ["limit", "channel"]),
    (b'{"user_id": "\\ud800"}', [""]),
]


async def test_a_search_that_is_no_object_of_filters_is_refused(listed: Service):
    for body, paths in NO_SEARCHES:
        reply = await listed.client.post("/v1/notifications/search", content=body)
        assert reply.status_code == 400, body
        assert [fault["path"] for fault in reply.json()["faults"]][: len(paths)] == paths


async def test_an_empty_search_lists_all(listed: Service):
    stream = str(await posted(listed.client))
    await up_to_date(listed)
    for body in (b"", b"{}", b'{"limit": 10, "status": null}'):
        reply = await listed.client.post("/v1/notifications/search", content=body)
        assert [each["id"] for each in reply.json()["notifications"]] == [stream]


async def test_what_went_to_an_address_that_the_message_left_out_is_found_by_it(listed: Service):
    user, address = str(uuid4()), "found.elsewhere@example.com"
    await listed.client.patch(f"/v1/recipients/{user}", json={"email": address})
    stream = await posted(listed.client, message("OrderShippedEvent", userId=user, userEmail=None))
    await posted(listed.client, message("OrderShippedEvent", userId=str(uuid4())))
    await sent(listed.ledger, stream)
    await up_to_date(listed)
    found = await listed.client.post("/v1/notifications/search", json={"recipient": address})
    assert [one["id"] for one in found.json()["notifications"]] == [str(stream)]
