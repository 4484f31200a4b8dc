"""Why something has not been sent, as who asks for it is told; no fact says so."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from ledger import agenda
from ledger import notification as n
from ledger.agenda import WaitsFor
from ledger.decision import Decision
from ledger.ledger import Loaded
from ledger.notification import Origin
from providers.limits import Limits
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import posted, sent
from tests.support.postgres import Database

SOON = timedelta(minutes=5)


async def waiting(service: Service, stream: UUID, **query: str) -> Any:
    shown = await service.client.get(f"/v1/notifications/{stream}", params=query)
    assert shown.status_code == 200, shown.text
    return shown.json()["waiting"]


async def claimed(database: Database, owner: UUID) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        query = "UPDATE ledger.agenda SET owner = %s, claims = 1, lease_until = now() + interval '1 minute'"
        await connection.execute(query, [owner])


def limits(service: Service, *, rate: float | None = None) -> Limits:
    return Limits(service.ledger.store.connection, "ses", rate=rate, burst=1, probe=SOON)


def near(said: str, at: datetime) -> bool:
    return abs(datetime.fromisoformat(said) - at) < timedelta(seconds=30)


async def test_what_is_due_and_not_looked_at_yet_waits_for_its_turn(service: Service):
    stream = await posted(service.client)
    assert await waiting(service, stream) == {"reason": "turn", "until": None}
    assert await waiting(service, stream, version="1") is None


async def test_what_a_process_has_in_hand_is_being_handled(service: Service, database: Database):
    stream = await posted(service.client)
    await claimed(database, uuid4())
    said = await waiting(service, stream)
    assert (said["reason"], near(said["until"], datetime.now(UTC) + timedelta(minutes=1))) == ("being_handled", True)


@pytest.mark.parametrize("why", WaitsFor)
async def test_what_was_given_back_waits_for_what_it_was_given_back_for(
    service: Service, database: Database, why: WaitsFor
):
    stream, owner = await posted(service.client), uuid4()
    await claimed(database, owner)
    async with service.ledger.store.connection() as connection:
        await agenda.wait(connection, [stream], owner=owner, pause=SOON, waits_for=why)
    said = await waiting(service, stream)
    assert (said["reason"], near(said["until"], datetime.now(UTC) + SOON)) == (why.value, True)


async def test_what_nobody_claims_because_its_provider_is_shut_waits_for_that(service: Service):
    stream = await posted(service.client)
    await limits(service).know()
    await limits(service).rest(SOON)
    said = await waiting(service, stream)
    assert (said["reason"], near(said["until"], datetime.now(UTC) + SOON)) == ("provider_shut", True)


async def test_what_nobody_claims_because_the_rate_is_spent_waits_for_that(service: Service):
    stream = await posted(service.client)
    slow = limits(service, rate=0.001)
    await slow.know()
    await slow.reserve(1)
    assert await waiting(service, stream) == {"reason": "rate", "until": None}


async def test_what_is_paused_waits_for_the_end_of_that(service: Service):
    stream = await posted(service.client)
    await service.client.post("/v1/pauses", json={"channel": "email", "reason": "a test"})
    assert await waiting(service, stream) == {"reason": "paused", "until": None}


async def test_what_is_scheduled_waits_for_its_time(service: Service):
    later = (datetime.now(UTC) + SOON).isoformat()
    wanted = {"type": "welcome", "recipient": {"email": "ada@sandbox.example"}, "send_at": later}
    reply = await service.client.post("/v1/notifications", json=wanted)
    stream = UUID(reply.json()["notifications"][0]["id"])
    said = await waiting(service, stream)
    assert (said["reason"], near(said["until"], datetime.fromisoformat(later))) == ("scheduled", True)


async def test_what_a_rule_lets_wait_waits_for_the_end_of_that(service: Service):
    stream = await posted(service.client)

    def quiet(loaded: Loaded, now: datetime) -> Decision:
        origin = Origin(now=now, cause="agenda", by="deliver")
        return Decision(facts=loaded.next(n.defer(loaded.state, now + SOON, ("quiet_hours", "p", {}), origin)))

    await service.ledger.change(stream, quiet)
    said = await waiting(service, stream)
    assert (said["reason"], near(said["until"], datetime.now(UTC) + SOON)) == ("deferred", True)


async def test_what_is_not_due_waits_for_nothing(service: Service):
    stream = await posted(service.client)
    await sent(service.ledger, stream)
    assert await waiting(service, stream) is None
