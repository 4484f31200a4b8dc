from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database

READ, WRITE = "notifications:read", "recipients:write"
ADA = "/v1/recipients/ada"
CONTACT = {
    "email": "ada@example.com",
    "phone": "+44 20 7183 8750",
    "name": "Ada",
    "locale": "en-GB",
    "time_zone": "Europe/London",
}
READS = "SELECT subject, what, of, reason FROM ledger.personal_data_read"


async def told(service: Service, path: str = ADA, **contact: str | None) -> dict[str, Any]:
    reply = await service.client.patch(path, json=contact or CONTACT)
    assert reply.status_code == 200, reply.text
    shown: dict[str, Any] = reply.json()
    return shown


async def registered(service: Service, fid: str = "fid-1", platform: str = "ios") -> dict[str, Any]:
    reply = await service.client.post(f"{ADA}/devices", json={"fid": fid, "platform": platform})
    assert reply.status_code == 200, reply.text
    shown: dict[str, Any] = reply.json()
    return shown


async def test_what_is_told_is_shown_and_counted(service: Service):
    await told(service)
    device = await registered(service)
    shown = (await service.client.get(ADA)).json()
    assert {name: shown[name] for name in CONTACT} == {**CONTACT, "phone": "+442071838750"}
    assert (shown["user_id"], shown["devices"], shown["version"]) == ("ada", [device], 2)


async def test_what_is_absent_stays_and_null_clears(service: Service):
    await told(service)
    await told(service, phone=None, locale="de")
    shown = (await service.client.get(ADA)).json()
    assert (shown["email"], shown["phone"], shown["locale"]) == ("ada@example.com", None, "de")


async def test_i18_a_person_is_masked_for_those_who_may_not_see_them_and_in_the_answer_to_a_change(service: Service):
    changed = await told(service)
    await registered(service)
    reply = await service.client.get(ADA, headers=service.as_(READ))
    for shown in (changed, reply.json()):
        assert (shown["email"], shown["phone"], shown["name"]) == ("a…@e…", "…50", "A…")
    assert "fid-1" not in reply.text


async def test_i18_each_unmasked_read_is_recorded_and_the_log_names_nobody(service: Service, database: Database):
    await told(service)
    with capture_logs() as logs:
        await service.client.get(ADA, headers={"X-Reason": "ticket 7"})
        await service.client.get(ADA, headers=service.as_(READ))
    with psycopg.connect(database.url) as connection:
        assert connection.execute(READS).fetchall() == [("tester", "recipient", "ada", "ticket 7")]
    (logged,) = [line for line in logs if line["event"] == "personal_data_read"]
    assert logged["of"] == str((await service.ledger.recipient("ada")).stream)


async def test_somebody_nobody_has_spoken_of_is_not_found(service: Service):
    for headers in (service.as_(READ), {}):
        reply = await service.client.get(ADA, headers=headers)
        assert (reply.status_code, reply.json()["type"]) == (404, "/problems/not-found")


async def test_every_fault_of_a_change_is_named_at_once_and_no_value(service: Service):
    body = {"email": "secret", "phone": 7, "name": ["secret"], "locale": "?", "time_zone": "secret", "emial": "secret"}
    reply = await service.client.patch(ADA, json=body)
    assert reply.status_code == 400
    assert {fault["path"] for fault in reply.json()["faults"]} == set(body)
    assert "secret" not in reply.text
    assert await service.ledger.store.head() == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{no", b'{"email": "\\u0000"}'])
async def test_a_body_that_changes_nothing_is_refused(service: Service, body: bytes):
    reply = await service.client.patch(ADA, content=body)
    assert reply.status_code == 400
    assert reply.json()["faults"]


async def test_a_command_holds_over_a_message_of_a_publisher_whose_clock_is_ahead(service: Service):
    ahead = {**message(), "messageType": "UserContactChangedEvent"}
    ahead["timestamp"] = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    ahead["payload"] = {"userId": "ada", "emailAddress": "ada@example.com"}
    assert (await service.client.post("/v1/messages", json=ahead)).json() == {"notifications": []}
    await told(service, email="eva@example.com")
    assert (await service.client.get(ADA)).json()["email"] == "eva@example.com"


async def test_a_message_about_a_person_is_202_and_its_repeat_200(service: Service):
    about = {**message(), "messageType": "DeviceRegisteredEvent"}
    about["payload"] = {"userId": "ada", "fid": "fid-1", "platform": "web"}
    first, again = [await service.client.post("/v1/messages", json=about) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, {"notifications": []})
    assert (again.status_code, again.json()) == (200, {"notifications": []})
    other = {**about, "payload": {**about["payload"], "fid": "fid-2"}}
    assert (await service.client.post("/v1/messages", json=other)).status_code == 409
    assert len((await service.client.get(ADA)).json()["devices"]) == 1


async def test_a_device_registers_once_and_the_last_one_stands_first(service: Service):
    first, second = await registered(service, "fid-1"), await registered(service, "fid-2", "android")
    assert await registered(service, "fid-1") == first
    assert (await service.client.get(ADA)).json()["devices"] == [second, first]


async def test_every_fault_of_a_registration_is_named(service: Service):
    for body, paths in (
        ({}, {"fid", "platform"}),
        ({"fid": "a b", "platform": "palm", "x": 1}, {"fid", "platform", "x"}),
    ):
        reply = await service.client.post(f"{ADA}/devices", json=body)
        assert reply.status_code == 400
        assert {fault["path"] for fault in reply.json()["faults"]} == paths


async def test_a_device_that_is_taken_off_is_gone_and_may_come_again(service: Service):
    device = await registered(service)
    path = f"{ADA}/devices/{device['id']}"
    assert (await service.client.delete(path)).status_code == 204
    assert (await service.client.delete(path)).status_code == 404
    assert (await service.client.get(ADA)).json()["devices"] == []
    assert (await registered(service))["id"] == device["id"]


@pytest.mark.parametrize(
    "user", ["张伟", "a/b", "a/devices/b", "a b?c#d", "%2F", "100%", "..", "ada@example.com", "🎉"]
)
async def test_any_text_is_a_user_id_in_a_path(service: Service, user: str):
    path = f"/v1/recipients/{quote(user, safe='').replace('.', '%2E')}"
    assert (await told(service, path))["user_id"] == user
    assert (await service.ledger.recipient(user)).version == 1
    assert (await service.client.post(f"{path}/devices", json={"fid": "f", "platform": "web"})).status_code == 200


@pytest.mark.parametrize("segment", ["%FF", "%00", "%20", "a" * 201])
async def test_what_can_be_nobody_s_id_is_not_found(service: Service, segment: str):
    reply = await service.client.patch(f"/v1/recipients/{segment}", json=CONTACT)
    assert (reply.status_code, reply.json()["type"]) == (404, "/problems/not-found")
    assert await service.ledger.store.head() == 0


async def test_the_stream_of_a_person_is_no_notification(service: Service):
    await told(service)
    stream = (await service.ledger.recipient("ada")).stream
    for path in ("", "/history", "/content"):
        assert (await service.client.get(f"/v1/notifications/{stream}{path}")).status_code == 404
    released = await service.client.post(f"/v1/notifications/{stream}/release", json={"reason": "why"})
    assert released.status_code == 404


async def test_i18_the_status_messages_pass_over_how_people_are_reached(service: Service):
    await told(service)
    await registered(service)
    page = (await service.client.get("/v1/positions")).json()
    assert page == {"messages": [], "next": 2, "left_out": []}


async def test_the_address_that_was_found_is_shown_with_the_notification_as_far_as_the_reader_may_see_it(
    service: Service,
):
    await told(service)
    stream = await posted(service.client, message("OrderShippedEvent", userId="ada", userEmail=None))
    before = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert before["recipient"]["address"] is None
    await sent(service.ledger, stream)
    for headers, address in (({}, "ada@example.com"), (service.as_(READ), "a…@e…")):
        shown = await service.client.get(f"/v1/notifications/{stream}", headers=headers)
        assert shown.json()["recipient"]["address"] == address
        history = (await service.client.get(f"/v1/notifications/{stream}/history", headers=headers)).json()
        (started,) = [fact for fact in history["facts"] if fact["topic"] == "notification.attempt_started"]
        assert started["data"]["personal"]["address"] == address
