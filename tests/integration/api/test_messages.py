import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import msgspec

from handlers.intake import TakeIn, counted
from ledger.keys import KeyEncryption
from ledger.values import Channel
from templates.catalogue import Catalogue
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent

REQUEST = {
    "type": "password_reset",
    "recipient": {"email": "ada@example.com", "name": "Ada"},
    "data": {"resetLink": "https://shop.example/reset?token=1"},
}


async def test_a_message_is_answered_with_its_notifications(service: Service):
    reply = await service.client.post("/v1/messages", json=message())
    assert reply.status_code == 202
    (standing,) = reply.json()["notifications"]
    assert standing["channel"] == "email"
    assert standing["status"] == "requested"
    shown = await service.client.get(f"/v1/notifications/{standing['id']}")
    assert shown.json()["status"] == "requested"


async def test_a_repeat_is_answered_with_how_it_stands_now(service: Service):
    body = message()
    stream = await posted(service.client, body)
    await sent(service.ledger, stream)
    reply = await service.client.post("/v1/messages", json={**body, "timestamp": datetime.now(UTC).isoformat()})
    assert reply.status_code == 200
    assert reply.json() == {"notifications": [{"id": str(stream), "channel": "email", "status": "dispatched"}]}


async def test_a_message_that_asks_for_nothing_here_is_taken_in_all_the_same(service: Service):
    reply = await service.client.post("/v1/messages", json=message("TwoFactorAuthCodeEvent"))
    assert (reply.status_code, reply.json()) == (202, {"notifications": []})


async def test_i02_a_hundred_posts_at_once_make_one_notification(service: Service):
    body = message()

    async def post(number: int) -> httpx.Response:
        stamp = datetime.now(UTC) - timedelta(seconds=number)
        return await service.client.post("/v1/messages", json={**body, "timestamp": stamp.isoformat()})

    replies = await asyncio.gather(*(post(number) for number in range(100)))
    assert Counter(reply.status_code for reply in replies) == {202: 1, 200: 99}
    assert len({reply.json()["notifications"][0]["id"] for reply in replies}) == 1
    assert await service.ledger.store.head() == 1


async def test_i03_the_same_message_with_other_content_is_a_conflict(service: Service):
    body = message()
    await posted(service.client, body)
    other = {**body, "payload": {**body["payload"], "firstName": "Eva"}}
    reply = await service.client.post("/v1/messages", json=other)
    assert reply.status_code == 409
    assert reply.json()["type"] == "/problems/conflict"
    assert await service.ledger.store.head() == 1


def _counted(service: Service) -> set[tuple[str, str]]:
    (family,) = service.services.metrics.messages.collect()
    return {(each.labels["type"], each.labels["result"]) for each in family.samples if each.name.endswith("_total")}


async def test_i18_a_conflict_is_counted_under_a_type_that_the_catalogue_knows_or_none(service: Service):
    body = message()
    await posted(service.client, body)
    for message_type in ("Ada.Lovelace-1815", "OrderShippedEvent"):
        reply = await service.client.post("/v1/messages", json={**body, "messageType": message_type})
        assert reply.status_code == 409
    assert _counted(service) == {
        ("UserRegisteredEvent", "taken"),
        ("unknown", "conflict"),
        ("OrderShippedEvent", "conflict"),
    }


async def test_a_repeat_of_a_type_that_has_left_the_catalogue_is_counted_as_unknown(
    service: Service, catalogue: Catalogue
):
    body = message()
    await posted(service.client, body)
    emptied = Catalogue(digest="", sender=catalogue.sender, locale=catalogue.locale, kinds={}, rules={})
    take_in = TakeIn(service.ledger, emptied, channels=[Channel.EMAIL])
    (repeat,) = await take_in.messages([msgspec.json.encode(body)], by="test")
    assert counted(repeat) == ("unknown", "repeated")


def _deep(depth: int) -> bytes:
    return b'{"payload":' * depth + b"1" + b"}" * depth


BAD = {
    "not JSON": (b"{no", 400),
    "an empty body": (b"", 400),
    "no object": (b"[]", 400),
    "invalid UTF-8": (b'{"messageId": "\xff\xfe"}', 400),
    "a lone surrogate": (b'{"messageId": "\\ud800"}', 400),
    "a depth of 10,000": (_deep(10_000), 400),
    "1 MB": (b'{"payload": "' + b"a" * 1_000_000 + b'"}', 413),
    "more than 1 MiB": (b'{"payload": "' + b"a" * 2_000_000 + b'"}', 413),
}


async def test_a_body_that_is_no_message_is_refused(service: Service):
    for what, (body, status) in BAD.items():
        for route in ("/v1/messages", "/v1/notifications"):
            reply = await service.client.post(route, content=body)
            assert reply.status_code == status, what
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["faults" if status == 400 else "title"], what
    assert await service.ledger.store.head() == 0


async def test_a_body_without_an_announced_length_is_refused_before_its_end(service: Service):
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    bearer = service.client.headers["Authorization"]
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + b"180000\r\n" + b"a" * 0x180000 + b"\r\n")
    async with asyncio.timeout(60):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_every_fault_of_a_message_is_named_at_once(service: Service):
    body = {
        **message(),
        "messageId": None,
        "sourceService": 7,
        "timestamp": "2026-11-20T09:00:00",
        "payload": {"userId": "u-1", "emailAddress": "secret\u0000@example.com", "firstName": ["secret"]},
    }
    reply = await service.client.post("/v1/messages", json=body)
    assert reply.status_code == 400
    problem = reply.json()
    assert problem["type"] == "/problems/message-rejected"
    paths = {fault["path"] for fault in problem["faults"]}
    assert {"messageId", "sourceService", "timestamp", "payload.emailAddress", "payload.firstName"} <= paths
    assert "secret" not in reply.text


async def test_a_timestamp_out_of_range_is_refused(service: Service):
    for stamp in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "yesterday", ""):
        reply = await service.client.post("/v1/messages", json={**message(), "timestamp": stamp})
        assert reply.status_code == 400, stamp
        assert [fault["path"] for fault in reply.json()["faults"]] == ["timestamp"]


async def test_a_type_that_the_catalogue_does_not_know_is_422(service: Service):
    for route, body in (
        ("/v1/messages", {**message(), "messageType": "MoonPhaseChangedEvent"}),
        ("/v1/notifications", {**REQUEST, "type": "moon_phase"}),
    ):
        reply = await service.client.post(route, json=body)
        assert reply.status_code == 422
        assert reply.json()["type"] == "/problems/unknown-type"


async def test_a_direct_request_is_new_each_time(service: Service):
    ids = [(await service.client.post("/v1/notifications", json=REQUEST)).json()["notifications"] for _ in range(2)]
    assert ids[0] != ids[1]


async def test_i02_a_direct_request_with_a_key_is_taken_in_once(service: Service):
    headers = {"Idempotency-Key": str(uuid4())}
    first, second = [await service.client.post("/v1/notifications", json=REQUEST, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    other = {**REQUEST, "recipient": {"email": "eva@example.com"}}
    assert (await service.client.post("/v1/notifications", json=other, headers=headers)).status_code == 409


async def test_an_idempotency_key_belongs_to_its_caller(service: Service):
    headers = {"Idempotency-Key": "1"}
    mine = await service.client.post("/v1/notifications", json=REQUEST, headers=headers)
    others = headers | service.as_("notifications:write", subject="somebody else")
    theirs = await service.client.post("/v1/notifications", json=REQUEST, headers=others)
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json() != theirs.json()


async def test_an_idempotency_key_that_cannot_be_one_is_refused(service: Service):
    for key in ("", "k" * 201, "a\tb"):
        reply = await service.client.post("/v1/notifications", json=REQUEST, headers={"Idempotency-Key": key})
        assert reply.status_code == 400, key
        assert [fault["path"] for fault in reply.json()["faults"]] == ["Idempotency-Key"]


async def test_what_comes_in_is_counted_by_type_and_result(service: Service):
    body = message()
    for each in (body, body, {**body, "payload": {**body["payload"], "firstName": "Eva"}}, {"messageId": "x"}):
        await service.client.post("/v1/messages", json=each)
    counter = service.services.metrics.messages
    counted = {
        (sample.labels["type"], sample.labels["result"]): sample.value
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == {
        ("UserRegisteredEvent", "taken"): 1,
        ("UserRegisteredEvent", "repeated"): 1,
        ("UserRegisteredEvent", "conflict"): 1,
        ("unknown", "rejected"): 1,
    }


async def test_a_message_for_many_people_is_taken_in_whole(service: Service):
    people = [f"warehouse-{number}@shop.example" for number in range(450)]
    body = message("LowStockWarningEvent")
    body["payload"] = {**body["payload"], **{key: people for key in body["payload"] if "ecipient" in key}}
    reply = await service.client.post("/v1/messages", content=msgspec.json.encode(body))
    again = await service.client.post("/v1/messages", content=msgspec.json.encode(body))
    assert (reply.status_code, again.status_code) == (202, 200)
    assert len(reply.json()["notifications"]) == 450
    assert reply.json() == again.json()


async def test_a_message_whose_persons_key_does_not_open_may_come_again(service: Service):
    body = message()
    recipient = f"user:{body['payload']['userId']}"
    lost = KeyEncryption([b"k" * 32]).wrap(recipient, b"d" * 32)
    async with service.ledger.store.connection() as connection:
        await connection.execute(
            "INSERT INTO ledger.recipient_key (recipient, wrapped) VALUES (%s, %s)", (recipient, lost)
        )
    reply = await service.client.post("/v1/messages", json=body)
    assert (reply.status_code, reply.json()["type"]) == (503, "/problems/unavailable")
