"""Actions on many over HTTP: shown by a search, confirmed by what was shown, watched, stopped."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from ledger.follower import Follower, caught_up
from projections.notification_log import NotificationLog
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database

PATH = "/v1/bulk-actions"
WHY = "the mails were empty"


async def up_to_date(service: Service, database: Database) -> None:
    follower = Follower(database.url, NotificationLog(), service.signals)
    follower.start()
    async with service.ledger.store.connection() as connection:
        head = await service.ledger.store.head()
        assert await caught_up(connection, NotificationLog(), head, timeout=timedelta(seconds=60))
    await follower.stop()


async def asked(service: Service, **body: Any) -> tuple[int, Any]:
    reply = await service.client.post(PATH, json=body)
    return reply.status_code, reply.json()


async def test_what_a_search_finds_is_shown_confirmed_and_watched(service: Service, database: Database):
    taken = await posted(service.client, message(emailAddress="ada@acme.example"))
    await sent(service.ledger, taken)
    on_its_way = await posted(service.client, message(emailAddress="ada@acme.example"))
    await posted(service.client)
    await up_to_date(service, database)
    filters = {"recipient": "Ada@acme.example", "type": "welcome"}
    code, plan = await asked(service, dry_run=True, action="resend", filters=filters)
    assert (code, plan["count"], plan["by_status"]) == (200, 2, {"dispatched": 1, "requested": 1})
    assert plan["sample"] == {"looked_at": 2, "refused": {"still_to_come": 1}, "ruled_out": {}}
    assert "acme" not in str(plan)
    assert (await service.client.get(f"{PATH}/{plan['id']}")).status_code == 404

    code, going = await asked(service, confirm=plan["id"], reason=WHY)
    assert (code, going["done"], going["left"]) == (202, 0, 2)
    assert (await asked(service, confirm=plan["id"], reason=WHY))[0] == 202
    await service.services.bulk.run()
    ended = (await service.client.get(f"{PATH}/{plan['id']}")).json()
    assert (ended["done"], ended["left"], ended["reason"], ended["by"]) == (1, 0, WHY, "api:tester")
    assert ended["refused"] == {"still_to_come": {"count": 1, "examples": [str(on_its_way)]}}
    stopped = await service.client.post(f"{PATH}/{plan['id']}/stop", json={"reason": "too late"})
    assert (stopped.status_code, stopped.json()["ended_at"]) == (200, ended["ended_at"])
    assert [one["id"] for one in (await service.client.get(PATH)).json()["actions"]] == [plan["id"]]


async def test_every_fault_is_named_at_once(service: Service):
    filters = {"status": "gone", "limit": 5, "from": "noon"}
    wrong: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"reason", "confirm"}),
        ({"action": "cancel", "filters": {"type": "welcome"}, "reason": WHY}, {"action", "filters", "confirm"}),
        ({"dry_run": True}, {"action", "filters"}),
        ({"dry_run": True, "action": "erase", "filters": {}}, {"action", "filters"}),
        (
            {"dry_run": True, "action": "cancel", "filters": filters},
            {"filters.status", "filters.limit", "filters.from"},
        ),
        ({"dry_run": 1, "confirm": 7, "reason": "", "filter": {}}, {"dry_run", "confirm", "reason", "filter"}),
        ({"confirm": str(uuid4()), "reason": WHY}, {"confirm"}),
    ]
    for body, faults in wrong:
        code, said = await asked(service, **body)
        assert (code, {fault["path"] for fault in said["faults"]}) == (400, faults), body


async def test_it_needs_the_scope_and_an_action_that_is_there(service: Service):
    paths = ("", f"/{uuid4()}", f"/{uuid4()}/stop")
    lesser = service.as_("notifications:read notifications:write pii:read")
    for path in paths:
        method = service.client.post if path.endswith("stop") else service.client.get
        assert (await method(PATH + path, headers=lesser)).status_code == 403
    assert (await service.client.get(PATH + paths[1])).status_code == 404
    assert (await service.client.post(PATH + paths[2], json={"reason": WHY})).status_code == 404
