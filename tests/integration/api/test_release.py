from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from ledger import agenda
from ledger.decision import Decision, NewFact
from ledger.ledger import Ledger
from ledger.notification import AttemptInDoubt, AttemptStarted, Dispatched, Origin
from ledger.values import DoubtPolicy
from tests.integration.api.conftest import Service
from tests.integration.ledger.parts import new_id, now, request

WHY = {"reason": "she has called"}


async def in_doubt(
    ledger: Ledger, *, doubt: DoubtPolicy = DoubtPolicy.HOLD, until: timedelta = timedelta(minutes=-1)
) -> UUID:
    """A notification of an hour ago, whose attempt is in doubt; `until` is the end of its window, from now."""
    stream, attempt, begun = new_id(), uuid4(), now() - timedelta(hours=1)
    stamp = Origin(now=begun, cause="test", by="test").stamp()
    started = AttemptStarted(
        **stamp,
        attempt=attempt,
        provider="ses",
        address_hash="ab" * 16,
        digest=b"d" * 32,
        deadline_at=begun + timedelta(seconds=10),
        because="first",
    )
    doubted = AttemptInDoubt(**stamp, attempt=attempt, doubt="timeout", until=now() + until)
    facts = (request(at=begun, doubt=doubt), started, doubted)
    await ledger.append(
        Decision(facts=tuple(NewFact(stream, version, fact) for version, fact in enumerate(facts, start=1)))
    )
    return stream


async def sent_again(ledger: Ledger, stream: UUID) -> None:
    """The same notification, sent once more, and taken this time."""
    attempt, stamp = uuid4(), Origin(now=now(), cause="test", by="test").stamp()
    started = AttemptStarted(
        **stamp,
        attempt=attempt,
        provider="ses",
        address_hash="ab" * 16,
        digest=b"d" * 32,
        deadline_at=now(),
        because="resend_after_doubt",
    )
    taken = Dispatched(**stamp, attempt=attempt, provider="ses", reference="ref-2")
    facts = tuple(NewFact(stream, version, fact) for version, fact in enumerate((started, taken), start=4))
    await ledger.change(stream, lambda _loaded, _now: Decision(facts=facts))


async def listed(ledger: Ledger) -> list[UUID]:
    async with ledger.store.connection() as connection:
        return [one.notification for one in await agenda.held(connection, limit=10)]


async def claimable(ledger: Ledger, stream: UUID) -> bool:
    loaded = await ledger.load(stream)
    assert loaded is not None
    async with ledger.store.connection() as connection:
        ahead = await agenda.look_ahead(connection, loaded.state.requested.channel)
    return ahead.wait == timedelta(0)


async def test_what_waits_for_a_person_is_listed_and_released_once(service: Service):
    stream = await in_doubt(service.ledger)
    assert await listed(service.ledger) == [stream]
    assert not await claimable(service.ledger, stream)
    reply = await service.client.post(f"/v1/notifications/{stream}/release", json=WHY)
    assert (reply.status_code, reply.json()["id"]) == (200, str(stream))
    assert await listed(service.ledger) == []
    assert await claimable(service.ledger, stream)
    history = (await service.client.get(f"/v1/notifications/{stream}/history")).json()["facts"]
    assert (history[-1]["topic"], history[-1]["data"]["reason"]) == ("notification.released", WHY["reason"])
    assert history[-1]["by"].startswith("api:")
    again = await service.client.post(f"/v1/notifications/{stream}/release", json=WHY)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/not-held")


@pytest.mark.parametrize(
    ("doubt", "until"),
    [(DoubtPolicy.HOLD, timedelta(minutes=5)), (DoubtPolicy.RESEND, timedelta(minutes=-1))],
    ids=["a report may still come", "it is sent again by itself"],
)
async def test_what_waits_for_nobody_is_neither_listed_nor_released(
    service: Service, doubt: DoubtPolicy, until: timedelta
):
    stream = await in_doubt(service.ledger, doubt=doubt, until=until)
    assert await listed(service.ledger) == []
    reply = await service.client.post(f"/v1/notifications/{stream}/release", json=WHY)
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/not-held")


async def test_a_release_needs_a_reason_a_notification_and_the_scope(service: Service):
    stream = await in_doubt(service.ledger)
    path = f"/v1/notifications/{stream}/release"
    assert (await service.client.post(path)).status_code == 400
    assert (await service.client.post(path, json={**WHY, "by": "me"})).status_code == 400
    assert (await service.client.post(f"/v1/notifications/{uuid4()}/release", json=WHY)).status_code == 404
    refused = await service.client.post(path, json=WHY, headers=service.as_("notifications:read"))
    assert refused.status_code == 403
    assert await listed(service.ledger) == [stream]


async def test_the_history_says_that_it_may_have_been_sent_twice_and_why(service: Service):
    stream = await in_doubt(service.ledger, doubt=DoubtPolicy.RESEND)
    url = f"/v1/notifications/{stream}/history"
    assert (await service.client.get(url)).json()["sent_twice"] is None
    await sent_again(service.ledger, stream)
    said = (await service.client.get(url)).json()["sent_twice"]
    assert said.startswith("May have been sent twice. Nothing told whether ses had taken the attempt of ")
    assert "(timeout), so it was sent again at " in said
