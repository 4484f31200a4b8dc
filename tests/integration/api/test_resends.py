"""A notification is sent again over HTTP: linked to the first one, in the same words, once for each command."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

from ops.jobs import archiving_of
from ops.settings import load
from tests.integration import old_weeks as long_ago
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.integration.api.test_release import in_doubt
from tests.integration.old_weeks import weeks_ago
from tests.support.postgres import Database

WHY = {"reason": "she has called"}


async def asked(service: Service, stream: UUID, *, key: str | None = None, **body: Any) -> tuple[int, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    reply = await service.client.post(f"/v1/notifications/{stream}/resend", json=WHY | body, headers=headers)
    return reply.status_code, reply.json()


async def taken(service: Service) -> UUID:
    stream = await posted(service.client)
    await sent(service.ledger, stream)
    return stream


async def test_the_resend_and_the_first_one_name_each_other_and_say_who_and_why(service: Service):
    stream = await taken(service)
    code, made = await asked(service, stream)
    assert (code, made["resend_of"], made["status"]) == (201, str(stream), "requested")
    first = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert (first["resends"], first["status"]) == ([made["id"]], "dispatched")
    assert made["template_version"] == first["template_version"]
    told = (await service.client.get(f"/v1/notifications/{stream}/explanation")).json()["answer"]
    assert told.startswith("It was sent: a provider has taken it")
    assert told.endswith(f"It was sent again by api:tester, as notification {made['id']}: she has called.")
    told = (await service.client.get(f"/v1/notifications/{made['id']}/explanation")).json()["decisions"][0]["words"]
    assert told.startswith(f"It says once more what notification {stream} said, in the same words: api:tester")


async def test_listeners_are_told_which_one_is_sent_again(service: Service):
    stream = await taken(service)
    _, made = await asked(service, stream)
    await sent(service.ledger, UUID(made["id"]), reference="ses-2")
    told = (await service.client.get("/v1/positions?limit=500")).json()["messages"]
    resent = {one["payload"]["notificationId"]: one["payload"].get("resendOf", "none") for one in told}
    assert resent == {str(stream): "none", made["id"]: str(stream)}


async def test_a_double_click_sends_one_and_a_key_of_its_own_another(service: Service):
    stream = await taken(service)
    clicks = await asyncio.gather(*(asked(service, stream) for _ in range(5)))
    assert sorted(code for code, _ in clicks) == [200, 200, 200, 200, 201]
    assert len({made["id"] for _, made in clicks}) == 1
    assert [(await asked(service, stream, key="again-1"))[0] for _ in range(2)] == [201, 200]
    code, said = await asked(service, stream, key="again-1", reason="another")
    assert (code, said["type"]) == (409, "/problems/conflict")


async def test_a_dry_run_says_what_would_be_sent_to_whom_and_stores_nothing(service: Service):
    stream = await taken(service)
    head = await service.ledger.store.head()
    code, would = await asked(service, stream, dry_run=True)
    assert (code, would["verdict"], would["paused"], would["provider"]) == (200, "send", False, "ses")
    assert would["recipient"]["address"].startswith("a…@")
    assert would["says"]["content"] is None
    assert await service.ledger.store.head() == head


async def test_a_dry_run_says_which_rule_would_keep_it_from_being_sent(service: Service):
    stream = await posted(service.client, message(emailAddress="ada@acme.example"))
    await sent(service.ledger, stream)
    entry = {"address": "ada@acme.example", "channel": "email", "reason": "manual", "note": "she has asked for it"}
    listed = await service.client.post("/v1/suppressions", json=entry)
    assert listed.status_code < 300, listed.text
    code, would = await asked(service, stream, dry_run=True)
    assert (code, would["verdict"], would["rule"]) == (200, "suppress", "suppressed_address")


async def test_what_is_on_its_way_or_held_is_refused_and_the_answer_says_what_to_do(service: Service):
    streams = {
        "call that off before": await posted(service.client),
        "release it": await in_doubt(service.ledger),
    }
    for words, stream in streams.items():
        for dry_run in (True, False):
            code, said = await asked(service, stream, dry_run=dry_run)
            assert (code, said["type"]) == (409, "/problems/not-again")
            assert words in said["detail"]


async def test_a_resend_needs_a_reason_a_notification_and_the_scope(service: Service):
    stream = await taken(service)
    path = f"/v1/notifications/{stream}/resend"
    both = await service.client.post(path, json={"dry_run": "yes", "by": "me"})
    assert (both.status_code, {fault["path"] for fault in both.json()["faults"]}) == (400, {"", "reason", "dry_run"})
    assert (await asked(service, uuid4()))[0] == 404
    refused = await service.client.post(path, json=WHY, headers=service.as_("notifications:read notifications:write"))
    assert refused.status_code == 403
    first = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert first["resends"] == []


async def test_what_lies_in_the_archive_is_not_sent_again(service: Service, database: Database):
    long_ago.make_weeks(database)
    (life,) = await long_ago.lived(service.ledger, weeks_ago(20), 1)
    await long_ago.folded(service.ledger, database)
    services = service.services
    archiving = archiving_of(load({}, dotenv=None), services.ledger.store, services.archive, services.metrics)
    await archiving.drop_content()
    await archiving.archive()
    code, said = await asked(service, life.stream)
    assert (code, said["type"]) == (409, "/problems/not-again")
    assert "it lies in the archive by now" in said["detail"]
