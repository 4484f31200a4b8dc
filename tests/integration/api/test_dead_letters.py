from datetime import datetime
from typing import Any

import msgspec
import psycopg

from ledger.set_aside import Refusal
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message
from tests.support.postgres import Database

OPERATIONS = "operations"


async def kept(service: Service, body: dict[str, Any]) -> str:
    refusal = Refusal(
        reason="killer", faults=[{"path": "", "message": "was given to us 3 times"}], type="UserRegistered"
    )
    key = await service.services.set_aside.keep(
        msgspec.json.encode(body), refusal, origin="amqp", now=service.ledger.clock.now()
    )
    return key.hex()


async def test_dead_letters_are_listed_by_what_became_of_them(service: Service):
    key = await kept(service, message())
    listed = (await service.client.get("/v1/dead-letters")).json()["dead_letters"]
    assert [(letter["key"], letter["reason"], letter["state"]) for letter in listed] == [(key, "killer", "waiting")]
    for state, count in (("waiting", 1), ("replayed", 0), ("discarded", 0), ("any", 1)):
        reply = await service.client.get("/v1/dead-letters", params={"state": state})
        assert len(reply.json()["dead_letters"]) == count
    wrong = await service.client.get("/v1/dead-letters", params={"state": "lost", "limit": "x", "offset": "1"})
    assert {fault["path"] for fault in wrong.json()["faults"]} == {"state", "limit", "offset"}


async def test_a_dead_letter_is_shown_with_these_fields_and_no_others(service: Service):
    key = await kept(service, message())
    letter = (await service.client.get(f"/v1/dead-letters/{key}", headers=service.as_(OPERATIONS))).json()
    assert datetime.fromisoformat(letter.pop("received_at")).tzinfo is not None
    assert letter == {
        "key": key,
        "reason": "killer",
        "faults": [{"path": "", "message": "was given to us 3 times"}],
        "origin": "amqp",
        "source": None,
        "type": "UserRegistered",
        "message_id": None,
        "state": "waiting",
        "seen": 1,
        "decided_at": None,
        "decided_by": None,
        "decision": None,
    }


async def test_i18_a_body_is_shown_to_those_who_may_see_it_and_the_read_is_recorded(
    service: Service, database: Database
):
    key = await kept(service, message())
    masked = await service.client.get(f"/v1/dead-letters/{key}", headers=service.as_(OPERATIONS))
    assert "body" not in masked.json()
    assert "ada@" not in masked.text
    whole = await service.client.get(f"/v1/dead-letters/{key}")
    assert "ada@example.com" in whole.json()["body"]
    with psycopg.connect(database.url) as connection:
        rows = connection.execute("SELECT subject, what, of FROM ledger.personal_data_read").fetchall()
    assert rows == [("tester", "dead_letter", key)]


async def test_i16_replaying_twice_is_the_same_as_once(service: Service):
    key = await kept(service, message())
    first = await service.client.post(f"/v1/dead-letters/{key}/replay", json={"reason": "mended"})
    second = await service.client.post(f"/v1/dead-letters/{key}/replay")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    assert await service.ledger.store.head() == 1
    letter = (await service.client.get(f"/v1/dead-letters/{key}")).json()
    assert (letter["state"], letter["decision"]) == ("replayed", "mended")
    assert letter["decided_by"] == "api:tester"


async def test_a_replay_that_is_refused_again_says_why_and_goes_on_waiting(service: Service):
    key = await kept(service, {**message(), "messageId": None})
    reply = await service.client.post(f"/v1/dead-letters/{key}/replay")
    assert reply.status_code == 400
    assert [fault["path"] for fault in reply.json()["faults"]] == ["messageId"]
    assert (await service.client.get(f"/v1/dead-letters/{key}")).json()["state"] == "waiting"


async def test_what_was_discarded_is_not_replayed_and_the_other_way_round(service: Service):
    discarded, replayed = await kept(service, message()), await kept(service, message())
    reason = {"reason": "not ours"}
    assert (await service.client.post(f"/v1/dead-letters/{discarded}/discard", json=reason)).status_code == 204
    assert (await service.client.post(f"/v1/dead-letters/{discarded}/discard", json=reason)).status_code == 204
    assert (await service.client.post(f"/v1/dead-letters/{replayed}/replay")).status_code == 202
    for path in (f"{discarded}/replay", f"{replayed}/discard"):
        reply = await service.client.post(f"/v1/dead-letters/{path}", json=reason)
        assert (reply.status_code, reply.json()["type"]) == (409, "/problems/already-decided")
    assert await service.ledger.store.head() == 1


async def test_a_discard_needs_a_reason(service: Service):
    key = await kept(service, message())
    for body in (b"", b"{}", b"{", b'{"reason": ""}', b'{"reason": 7}', b'{"reason": "x", "force": true}'):
        reply = await service.client.post(f"/v1/dead-letters/{key}/discard", content=body)
        assert reply.status_code == 400, body
        assert reply.json()["faults"]
    assert (await service.client.get(f"/v1/dead-letters/{key}")).json()["state"] == "waiting"


async def test_a_dead_letter_that_is_not_there_is_not_found(service: Service):
    for key in ("00" * 32, "zz", "0", "00", "é"):
        assert (await service.client.get(f"/v1/dead-letters/{key}")).status_code == 404
        assert (await service.client.post(f"/v1/dead-letters/{key}/replay")).status_code == 404
        reply = await service.client.post(f"/v1/dead-letters/{key}/discard", json={"reason": "x"})
        assert reply.status_code == 404
