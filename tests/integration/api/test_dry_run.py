"""What a message would make: decided and said as if it were taken in, and nothing of it is stored anywhere."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from handlers.frequency import CEILING, Frequency
from ledger.decision import Decision
from ledger.values import Channel
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted
from tests.integration.ledger.parts import begun
from tests.support.postgres import Database

WRITER = "notifications:write"
TABLES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
WHERE schemaname IN ('ledger', 'views')
UNION SELECT 'ledger.stored_events'
"""


def everything(database: Database) -> dict[str, list[Any]]:
    """Every row of every table."""
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        tables = [name for (name,) in connection.execute(TABLES)]
        return {name: sorted(connection.execute(f"SELECT t::text FROM {name} t".encode())) for name in tables}


async def tried(service: Service, body: dict[str, Any], *, route: str = "messages", scope: str = WRITER) -> Any:
    reply = await service.client.post(f"/v1/{route}?dry_run=true", json=body, headers=service.as_(scope))
    assert reply.status_code == 200, reply.text
    return reply.json()


ASKED = {"type": "welcome", "recipient": {"email": "ada@sandbox.example", "user_id": "ada"}}


async def test_a_dry_run_stores_nothing_in_any_table_whatever_is_tried(service: Service, database: Database):
    await posted(service.client)
    before = everything(database)
    assert (len(before["ledger.intake"]), len(before["ledger.stored_events"])) == (1, 1)
    for each in ("OrderShippedEvent", "FlashSaleAnnouncedEvent", "ProductBackInStockEvent", "UserRegisteredEvent"):
        await tried(service, message(each))
    await tried(service, ASKED, route="notifications")
    contact = {**message(), "messageType": "UserContactChangedEvent", "payload": {"userId": "eve", "firstName": "Eve"}}
    assert (await tried(service, contact))["tells"] == {"about": "contact", "name": "given"}
    headers = {**service.as_(WRITER), "Idempotency-Key": "key-1"}
    await service.client.post("/v1/notifications?dry_run=true", json=ASKED, headers=headers)
    await service.client.post("/v1/messages?dry_run=true", json={"no": "message"}, headers=headers)
    assert everything(database) == before


async def test_who_may_see_addresses_sees_the_words_too_and_that_alone_is_recorded(
    service: Service, database: Database
):
    before, body = everything(database), message("OrderShippedEvent", userEmail="ada@sandbox.example")
    (one,) = (await tried(service, body, scope=f"{WRITER} pii:read"))["notifications"]
    assert one["recipient"]["address"] == "ada@sandbox.example"
    assert one["says"]["content"]["subject"]
    after = everything(database)
    assert {name for name in after if after[name] != before[name]} == {"ledger.personal_data_read"}
    (masked,) = (await tried(service, body))["notifications"]
    assert (masked["recipient"]["address"], masked["says"]["content"]) == ("a…@s…", None)
    assert masked["says"]["sha256"] == one["says"]["sha256"]
    assert masked["says"]["lengths"]["subject"] == len(one["says"]["content"]["subject"])


async def test_what_would_be_sent_is_what_is_sent_when_it_is_meant(service: Service):
    body = message("OrderShippedEvent", userEmail="ada@sandbox.example")
    answer = await tried(service, body)
    (one,) = answer["notifications"]
    assert (answer["count"], answer["repeats"]) == (1, False)
    assert (one["verdict"], one["type"], one["provider"], one["fault"]) == ("send", "order_shipped", "ses", None)
    assert one["cost"]["units"] == 1
    meant = await service.ledger.load(await posted(service.client, body))
    assert meant is not None
    assert (meant.state.requested.type, meant.state.requested.channel) == (one["type"], Channel.EMAIL)
    assert (await tried(service, body))["repeats"]


async def test_the_verdict_is_that_of_the_rules_by_what_is_known_now(service: Service):
    listed = {"channel": "email", "address": "ada@sandbox.example", "reason": "manual", "note": "asked by phone"}
    reply = await service.client.post("/v1/suppressions", json=listed)
    assert reply.status_code == 201, reply.text
    (one,) = (await tried(service, message("OrderShippedEvent", userEmail="ada@sandbox.example")))["notifications"]
    assert (one["verdict"], one["rule"]) == ("suppress", "suppressed_address")
    assert one["words"].startswith("It was not sent: the address has been on the suppression list since")
    assert one["differently"]
    assert one["inputs"]["stream"] == reply.json()["id"]
    sale = (await tried(service, message("FlashSaleAnnouncedEvent")))["notifications"]
    assert {each["rule"] for each in sale} == {"no_consent"}
    await service.client.post("/v1/pauses", json={"channel": "email", "reason": "a test"})
    (paused,) = (await tried(service, message("OrderShippedEvent", userEmail="eve@sandbox.example")))["notifications"]
    assert (paused["verdict"], paused["paused"]) == ("send", True)


async def test_quotas_are_looked_at_and_not_taken_from(service: Service, database: Database):
    body = message("OrderShippedEvent", userEmail="eve@sandbox.example", userId="eve")
    loaded = await service.ledger.load(await posted(service.client, body))
    assert loaded is not None
    (ceiling,) = Frequency(service.ledger.identity).limits(loaded.state, loaded.now())
    for used, verdict in ((CEILING - 1, "send"), (1, "suppress")):
        taken = msgspec.structs.replace(ceiling.take, amount=Decimal(used))
        await service.ledger.append(Decision(facts=begun().facts, takes=(taken,)))
        before = everything(database)
        (one,) = (await tried(service, {**body, "messageId": "another"}))["notifications"]
        assert (one["verdict"], one["rule"]) == (verdict, None if verdict == "send" else "ceiling")
        assert everything(database) == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"messageType": "UserBefriendedEvent"}, 422), ({"payload": {}}, 400), ({"timestamp": "soon"}, 400)],
)
async def test_what_would_be_refused_is_refused_with_the_same_answer(
    service: Service, changes: dict[str, Any], code: int
):
    body = {**message("OrderShippedEvent"), **changes}
    answers = [await service.client.post(f"/v1/messages{query}", json=body) for query in ("?dry_run=true", "")]
    first, second = [{**answer.json(), "correlation_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [code, code]
    assert first == second


async def test_the_same_key_with_other_content_would_be_a_conflict_and_is_not_recorded_as_one(
    service: Service, database: Database
):
    body = message("OrderShippedEvent")
    await posted(service.client, body)
    before = everything(database)
    other = {**body, "payload": {**body["payload"], "orderId": "another"}}
    reply = await service.client.post("/v1/messages?dry_run=true", json=other)
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/conflict")
    assert everything(database) == before


async def test_a_message_for_many_shows_the_first_of_them_and_says_how_many_there_are(service: Service):
    people = [{"userId": str(uuid4()), "email": f"p{number}@sandbox.example"} for number in range(50)]
    answer = await tried(service, message("ProductBackInStockEvent", subscribers=people))
    assert (answer["count"], len(answer["notifications"])) == (50, 20)


@pytest.mark.parametrize("query", ["dry_run=yes", "dryrun=true", "dry_run=true&dry_run=true", "dry_run="])
async def test_a_slip_in_the_query_sends_nothing(service: Service, database: Database, query: str):
    before = everything(database)
    for route, body in (("messages", message()), ("notifications", ASKED)):
        reply = await service.client.post(f"/v1/{route}?{query}", json=body)
        assert (reply.status_code, reply.json()["type"]) == (400, "/problems/malformed-request")
    assert everything(database) == before
