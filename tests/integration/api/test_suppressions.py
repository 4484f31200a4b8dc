from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from ledger.follower import Follower, caught_up, prepare
from ledger.suppression import nothing
from ledger.values import Channel
from projections.suppressions import Suppressions
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.listed import listed_for
from tests.support.postgres import Database
from tests.support.service import SOON

ADDRESS, NUMBER = "Ada.Lovelace@Example.com", "+44 7400 123456"
NOTE = "she has asked for it on the telephone"
BY_HAND = {"address": ADDRESS, "channel": "email", "reason": "manual", "note": NOTE}
WHY = {"reason": "she has changed her mind"}


async def add(service: Service, **changes: Any) -> dict[str, Any]:
    reply = await service.client.post("/v1/suppressions", json={**BY_HAND, **changes})
    assert reply.status_code in {200, 201}, reply.text
    known: dict[str, Any] = reply.json()
    return known


async def release(service: Service, suppression: str, **which: str) -> httpx.Response:
    return await service.client.post(f"/v1/suppressions/{suppression}/release", json={**WHY, **which})


def ahead(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def names(known: dict[str, Any]) -> set[tuple[str, str | None]]:
    return {(entry["reason"], entry["category"]) for entry in known["entries"]}


async def test_i07_an_address_that_is_listed_by_hand_forbids_what_was_asked_for_before(service: Service):
    stream = await posted(service.client, message(emailAddress=ADDRESS))
    known = await add(service)
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    forbidding = listed_for(loaded)
    assert forbidding is not None
    assert (str(loaded.suppression and loaded.suppression.stream), forbidding.version) == (known["id"], 1)
    (entry,) = known["entries"]
    assert (entry["reason"], entry["category"], entry["note"], entry["by"]) == ("manual", None, NOTE, "api:tester")
    assert (entry["notification"], entry["attempt"], entry["expires_at"]) == (None, None, None)


async def test_the_same_again_however_it_is_written_is_answered_with_what_is_listed(service: Service):
    first = await add(service)
    again = await service.client.post("/v1/suppressions", json={**BY_HAND, "address": " ada.lovelace@example.COM "})
    assert (again.status_code, again.json()) == (200, first)
    number = {"channel": "sms", "reason": "legal"}
    assert (await add(service, address=NUMBER, **number)) == (await add(service, address="+447400123456", **number))


async def test_an_entry_names_its_category_and_its_end(service: Service):
    until = ahead(days=7)
    known = await add(service, category="marketing", expires_at=until)
    (entry,) = known["entries"]
    assert (entry["category"], datetime.fromisoformat(entry["expires_at"])) == (
        "marketing",
        datetime.fromisoformat(until),
    )
    assert names(await add(service)) == {("manual", "marketing"), ("manual", None)}


async def test_what_is_listed_of_an_address_is_found_on_each_channel_with_its_evidence(service: Service):
    stream = await posted(service.client, message(emailAddress=ADDRESS))
    attempt = await sent(service.ledger, stream)
    await service.client.post("/callbacks/ses", content=service.topic.bounce(stream, attempt))
    await add(service, address=NUMBER, channel="sms")
    (found,) = (await service.client.post("/v1/suppressions/search", json={"address": ADDRESS})).json()["suppressions"]
    (entry,) = found["entries"]
    assert (entry["reason"], entry["by"], entry["version"]) == ("hard_bounce", "ses", 1)
    assert (UUID(entry["notification"]), UUID(entry["attempt"])) == (stream, attempt)
    (number,) = (await service.client.post("/v1/suppressions/search", json={"address": NUMBER})).json()["suppressions"]
    assert number["channel"] == "sms"
    asked = {"address": NUMBER, "channel": "email"}
    assert (await service.client.post("/v1/suppressions/search", json=asked)).json() == {"suppressions": []}


async def test_a_suppression_is_read_by_its_id_with_all_that_ever_befell_it(service: Service):
    known = await add(service)
    assert (await service.client.get(f"/v1/suppressions/{known['id']}")).json() == known
    released = await release(service, known["id"])
    assert (released.status_code, released.json()["entries"]) == (200, [])
    history = (await service.client.get(f"/v1/suppressions/{known['id']}/history")).json()
    assert [fact["topic"] for fact in history["facts"]] == ["suppression.listed", "suppression.delisted"]
    assert [fact["data"]["note"] for fact in history["facts"]] == [NOTE, WHY["reason"]]
    assert ADDRESS.lower() not in str(history).lower()


async def test_one_entry_is_released_by_its_name_and_twice_is_the_same_as_once(service: Service):
    await add(service)
    known = await add(service, category="marketing")
    for _ in range(2):
        left = await release(service, known["id"], listed_for="manual", category="marketing")
        assert names(left.json()) == {("manual", None)}
    assert names((await release(service, known["id"], listed_for="hard_bounce")).json()) == {("manual", None)}
    assert (await release(service, known["id"])).json()["entries"] == []


async def test_what_is_listed_now_is_listed_in_pages_the_newest_first(service: Service, database: Database):
    follower = Follower(database.url, Suppressions(), service.signals)
    follower.start()
    ids = [(await add(service, address=f"p{number}@example.com"))["id"] for number in range(3)]
    await release(service, ids[1])
    head = await service.ledger.store.head()
    async with service.ledger.store.connection() as connection:
        assert await caught_up(connection, Suppressions(), head, timeout=SOON)
    await follower.stop()
    first = (await service.client.get("/v1/suppressions", params={"limit": 1, "reason": "manual"})).json()
    (entry,) = first["entries"]
    assert (entry["id"], entry["channel"], entry["note"], entry["version"]) == (ids[2], "email", NOTE, 1)
    rest = await service.client.get(
        "/v1/suppressions", params={"limit": 1, "reason": "manual", "cursor": first["cursor"]}
    )
    assert ([entry["id"] for entry in rest.json()["entries"]], rest.json()["cursor"]) == ([ids[0]], None)
    assert (await service.client.get("/v1/suppressions", params={"channel": "sms"})).json()["entries"] == []


async def test_a_list_that_is_asked_for_otherwise_is_refused_with_every_fault(service: Service):
    asked = {"channel": "fax", "reason": "spite", "cursor": "", "limit": "0", "address": "ada@example.com"}
    reply = await service.client.get("/v1/suppressions", params=asked)
    assert reply.status_code == 400
    assert sorted(fault["path"] for fault in reply.json()["faults"]) == sorted(asked)
    async with service.ledger.store.connection() as connection:
        await prepare(connection, Suppressions())
    assert (await service.client.get("/v1/suppressions", params={"cursor": "nonsense"})).status_code == 400


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["address", "channel", "note", "reason"]),
        ({**BY_HAND, "address": None}, ["address"]),
        ({**BY_HAND, "address": "ada"}, ["address"]),
        ({**BY_HAND, "address": ["ada@example.com"]}, ["address"]),
        ({**BY_HAND, "channel": "sms"}, ["address"]),
        ({**BY_HAND, "channel": "push", "address": "x"}, ["channel"]),
        ({**BY_HAND, "channel": ["email"], "reason": {}}, ["channel", "reason"]),
        ({**BY_HAND, "reason": "hard_bounce"}, ["reason"]),
        ({**BY_HAND, "category": "news", "note": ""}, ["category", "note"]),
        ({**BY_HAND, "expires_at": ahead(hours=-1)}, ["expires_at"]),
        ({**BY_HAND, "expires_at": "2031-05-04T12:00:00"}, ["expires_at"]),
        ({**BY_HAND, "expires_at": 7, "until": "noon"}, ["expires_at", "until"]),
    ],
)
async def test_what_cannot_be_listed_is_refused_with_every_fault_and_no_word_of_it(
    service: Service, body: dict[str, Any], paths: list[str]
):
    reply = await service.client.post("/v1/suppressions", json=body)
    assert reply.status_code == 400, reply.text
    assert sorted(fault["path"] for fault in reply.json()["faults"]) == paths
    assert "ada" not in reply.text
    assert await service.ledger.store.head() == 0


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["reason"]),
        ({**WHY, "category": "marketing"}, ["category"]),
        ({**WHY, "listed_for": "spite", "category": 7}, ["category", "listed_for"]),
        ({**WHY, "entry": "manual"}, [""]),
    ],
)
async def test_a_release_that_cannot_be_read_is_refused_with_every_fault(
    service: Service, body: dict[str, Any], paths: list[str]
):
    known = await add(service)
    reply = await service.client.post(f"/v1/suppressions/{known['id']}/release", json=body)
    assert reply.status_code == 400, reply.text
    assert sorted(fault["path"] for fault in reply.json()["faults"]) == paths
    assert await service.ledger.store.head() == 1


async def test_what_was_never_listed_is_not_there_nor_is_a_stream_of_another_kind(service: Service):
    await service.client.patch("/v1/recipients/u-1", json={"email": ADDRESS})
    person = (await service.ledger.recipient("u-1")).stream
    unknown = nothing(service.ledger.identity, Channel.EMAIL, "ab" * 16).stream
    notification = await posted(service.client, message(emailAddress=ADDRESS))
    for stream in (uuid4(), unknown, person, notification):
        for path in (f"/v1/suppressions/{stream}", f"/v1/suppressions/{stream}/history"):
            assert (await service.client.get(path)).status_code == 404, path
        assert (await release(service, str(stream))).status_code == 404


async def test_a_search_without_an_address_is_refused_and_one_for_whatever_text_finds_nothing(service: Service):
    for body in ({}, {"address": ""}, {"address": ADDRESS, "channel": "fax"}, {"address": 7}):
        assert (await service.client.post("/v1/suppressions/search", json=body)).status_code == 400, body
    for address in ("ada", "\N{SNOWMAN}@\N{SNOWMAN}", "@", "+"):
        reply = await service.client.post("/v1/suppressions/search", json={"address": address})
        assert reply.json() == {"suppressions": []}


async def test_i17_who_may_read_the_list_may_not_change_it(service: Service):
    known = await add(service)
    reader, writer = service.as_("notifications:read"), service.as_("recipients:write")
    path = f"/v1/suppressions/{known['id']}"
    assert (await service.client.get(path, headers=reader)).status_code == 200
    assert (await service.client.get(path, headers=writer)).status_code == 403
    assert (await service.client.post("/v1/suppressions", json=BY_HAND, headers=reader)).status_code == 403
    assert (await service.client.post(f"{path}/release", json=WHY, headers=reader)).status_code == 403
    assert (await service.client.post(f"{path}/release", json=WHY, headers=writer)).status_code == 200
