"""A notification is called off over HTTP: what was to come does not begin, what has left keeps its status."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from ledger import agenda
from ledger.decision import Decision, NewFact
from ledger.ledger import Ledger
from ledger.values import Channel, DoubtPolicy, Fallback
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import posted, sent
from tests.integration.api.test_release import in_doubt, listed
from tests.integration.ledger.parts import new_id, request

WHY = {"reason": "she has called"}


async def cancelled(service: Service, stream: UUID) -> tuple[int, Any]:
    reply = await service.client.post(f"/v1/notifications/{stream}/cancel", json=WHY)
    return reply.status_code, reply.json()


async def due(ledger: Ledger, stream: UUID) -> bool:
    async with ledger.store.connection() as connection:
        return await agenda.standing(connection, stream) is not None


async def test_a_cancelled_notification_is_due_no_more_and_its_history_says_who_and_why(service: Service):
    stream = await posted(service.client)
    code, said = await cancelled(service, stream)
    assert (code, said["id"], said["status"], said["reason"]) == (200, str(stream), "cancelled", "cancelled")
    assert not await due(service.ledger, stream)
    last = (await service.client.get(f"/v1/notifications/{stream}/history")).json()["facts"][-1]
    assert (last["topic"], last["by"], last["data"]) == ("notification.cancelled", "api:tester", WHY)
    told = (await service.client.get(f"/v1/notifications/{stream}/explanation")).json()
    assert told["answer"].startswith("It was called off by api:tester: she has called.")


async def test_a_cancel_whose_answer_was_lost_may_be_asked_again_and_is_one_fact(service: Service):
    stream = await posted(service.client)
    answers = await asyncio.gather(*(cancelled(service, stream) for _ in range(5)))
    assert {(code, said["status"], said["version"]) for code, said in answers} == {(200, "cancelled", 2)}


async def test_what_is_held_is_cancelled_and_held_no_more(service: Service):
    stream = await in_doubt(service.ledger, doubt=DoubtPolicy.HOLD)
    assert (await cancelled(service, stream))[0] == 200
    assert await listed(service.ledger) == []
    released = await service.client.post(f"/v1/notifications/{stream}/release", json=WHY)
    assert released.status_code == 409


async def test_what_is_paused_is_cancelled_too(service: Service):
    await service.client.post("/v1/pauses", json={"channel": "email", **WHY})
    assert (await cancelled(service, await posted(service.client)))[0] == 200


async def test_what_a_provider_has_is_not_called_off_and_the_answer_says_how_it_stands(service: Service):
    stream = await posted(service.client)
    await sent(service.ledger, stream)
    code, said = await cancelled(service, stream)
    assert (code, said["type"]) == (409, "/problems/too-late")
    assert said["detail"] == "the notification is dispatched already: nothing of it is still to come"


async def test_of_what_a_provider_has_the_fallback_is_called_off(service: Service):
    stream, sms = new_id(), Fallback(Channel.SMS, timedelta(minutes=15))
    await service.ledger.append(Decision(facts=(NewFact(stream, 1, request(fallback=sms)),)))
    await sent(service.ledger, stream)
    assert await due(service.ledger, stream)
    code, said = await cancelled(service, stream)
    assert (code, said["status"]) == (200, "dispatched")
    assert not await due(service.ledger, stream)


async def test_what_is_scheduled_can_be_cancelled_until_then(service: Service):
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    wanted = {"type": "welcome", "recipient": {"email": "ada@sandbox.example"}, "send_at": later}
    reply = await service.client.post("/v1/notifications", json=wanted)
    assert reply.status_code == 202, reply.text
    stream = UUID(reply.json()["notifications"][0]["id"])
    assert await due(service.ledger, stream)
    assert (await cancelled(service, stream))[0] == 200
    assert not await due(service.ledger, stream)


async def test_a_cancel_needs_a_reason_a_notification_and_the_scope(service: Service):
    stream = await posted(service.client)
    path = f"/v1/notifications/{stream}/cancel"
    assert (await service.client.post(path)).status_code == 400
    assert (await service.client.post(path, json={**WHY, "by": "me"})).status_code == 400
    assert (await service.client.post(f"/v1/notifications/{uuid4()}/cancel", json=WHY)).status_code == 404
    refused = await service.client.post(path, json=WHY, headers=service.as_("notifications:read notifications:write"))
    assert refused.status_code == 403
    assert await due(service.ledger, stream)
