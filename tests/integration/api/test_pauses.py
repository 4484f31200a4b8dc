from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import posted, sent

WHY = {"reason": "the sale starts next week"}


async def pause(service: Service, **wanted: Any) -> httpx.Response:
    return await service.client.post("/v1/pauses", json={**wanted, **WHY})


async def test_a_pause_is_begun_listed_and_ended(service: Service):
    begun = await pause(service, channel="email")
    assert begun.status_code == 201, begun.text
    (listed,) = (await service.client.get("/v1/pauses")).json()["pauses"]
    assert listed == begun.json()
    assert (listed["channel"], listed["type"], listed["by"]) == ("email", None, "api:tester")
    assert listed["reason"] == WHY["reason"]
    for _ in range(2):
        ended = await service.client.post(f"/v1/pauses/{listed['id']}/resume", json=WHY)
        assert (ended.status_code, ended.content) == (204, b"")
    assert (await service.client.get("/v1/pauses")).json() == {"pauses": []}


async def test_the_same_pause_again_is_answered_as_the_one_that_is_in_force(service: Service):
    first, again = await pause(service, all=True), await pause(service, all=True)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


async def test_a_notification_says_what_it_waits_for_until_it_is_sent(service: Service):
    stream = await posted(service.client)
    path = f"/v1/notifications/{stream}"
    assert (await service.client.get(path)).json()["paused"] is None
    begun = (await pause(service, type="welcome")).json()
    await pause(service, provider="smtp")
    told = (await service.client.get(path)).json()["paused"]
    assert told == {"id": begun["id"], "since": begun["since"], "reason": WHY["reason"], "provider": None}
    assert (await service.client.get(path, params={"version": 1})).json()["paused"] is None
    await sent(service.ledger, stream)
    assert (await service.client.get(path)).json()["paused"] is None


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["", "reason"]),
        (WHY, [""]),
        ({**WHY, "all": True, "channel": "email"}, [""]),
        ({**WHY, "all": 1, "channel": "email"}, ["all"]),
        ({**WHY, "all": False}, [""]),
        ({**WHY, "channel": ["email"]}, ["channel"]),
        ({**WHY, "channel": "fax", "type": 7, "provider": ""}, ["channel", "provider", "type"]),
        ({**WHY, "channel": "email", "until": "noon"}, [""]),
        ({**WHY, "type": "order_shiped"}, ["type"]),
        ({**WHY, "type": "order_shiped", "provider": "sess"}, ["provider", "type"]),
    ],
)
async def test_what_would_stop_nothing_or_cannot_be_read_is_refused_with_every_fault(
    service: Service, body: dict[str, Any], paths: list[str]
):
    reply = await service.client.post("/v1/pauses", json=body)
    assert reply.status_code == 400, reply.text
    assert sorted(fault["path"] for fault in reply.json()["faults"]) == paths
    assert (await service.client.get("/v1/pauses")).json() == {"pauses": []}


async def test_a_pause_that_never_was_cannot_be_ended_and_an_end_needs_a_reason(service: Service):
    path = f"/v1/pauses/{uuid4()}/resume"
    assert (await service.client.post(path, json=WHY)).status_code == 404
    assert (await service.client.post(path)).status_code == 400


async def test_i17_only_operations_may_stop_anything(service: Service):
    lesser = service.as_("notifications:write notifications:read notifications:act pii:read")
    assert (await service.client.post("/v1/pauses", json={"all": True, **WHY}, headers=lesser)).status_code == 403
    assert (await service.client.get("/v1/pauses", headers=lesser)).status_code == 403
