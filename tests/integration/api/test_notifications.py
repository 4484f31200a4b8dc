from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import psycopg
import pytest

from ledger.decision import Decision
from ledger.notification import Expired
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import CONTENT, message, posted, sent
from tests.support.postgres import Database

READ = "notifications:read"
# What nobody has made: its time is the year 10,286.
BEHIND_ALL_TIME = "eeb1aff1-72d1-4f01-8025-6955a92a0ec5"
USER = "6f1c2c1e-6f0e-4a55-9a64-0f6a0f3b7d10"


async def reported(service: Service) -> tuple[UUID, UUID]:
    """Bring a notification to `delivered`; returns its id and the attempt's."""
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    reply = await service.client.post("/callbacks/ses", content=service.topic.delivery(stream, attempt))
    assert reply.status_code == 204
    return stream, attempt


async def test_a_notification_is_shown_as_its_facts_make_it(service: Service):
    stream, attempt = await reported(service)
    shown = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert shown["id"] == str(stream)
    assert shown["status"] == "delivered"
    assert (shown["channel"], shown["type"], shown["category"]) == ("email", "welcome", "transactional")
    assert shown["version"] == 5
    assert shown["source"] == "UserService"
    assert shown["correlation_id"] == "req-4001"
    (tried,) = shown["attempts"]
    assert tried["id"] == str(attempt)
    assert (tried["provider"], tried["status"], tried["reference"]) == ("ses", "delivered", "ses-1")
    assert tried["started_at"] <= tried["dispatched_at"]
    assert tried["delivered_at"] is not None


async def test_i18_a_person_is_masked_for_those_who_may_not_see_them(service: Service):
    stream, _ = await reported(service)
    headers = service.as_(READ)
    shown = await service.client.get(f"/v1/notifications/{stream}", headers=headers)
    assert shown.json()["recipient"] == {"user_id": USER, "address": "a…@e…", "name": "A…", "erased": False}
    history = await service.client.get(f"/v1/notifications/{stream}/history", headers=headers)
    assert history.json()["facts"][0]["data"]["personal"] == {"address": "a…@e…", "name": "A…"}
    for reply in (shown, history):
        assert "ada@" not in reply.text
        assert "Ada" not in reply.text
        assert "vt-9f2" not in reply.text


async def test_a_person_is_shown_to_those_who_may_see_them(service: Service):
    stream, _ = await reported(service)
    shown = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert shown["recipient"] == {"user_id": USER, "address": "ada@example.com", "name": "Ada", "erased": False}
    history = (await service.client.get(f"/v1/notifications/{stream}/history")).json()
    assert history["facts"][0]["data"]["personal"]["address"] == "ada@example.com"


async def test_an_erased_person_is_shown_to_nobody(service: Service, database: Database):
    stream, _ = await reported(service)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DELETE FROM ledger.recipient_key")
    shown = (await service.client.get(f"/v1/notifications/{stream}")).json()
    assert shown["status"] == "delivered"
    assert shown["recipient"] == {"user_id": USER, "address": None, "name": None, "erased": True}
    history = (await service.client.get(f"/v1/notifications/{stream}/history")).json()
    assert history["facts"][0]["data"]["personal"] is None
    assert (await service.client.get(f"/v1/notifications/{stream}/content")).status_code == 404


async def test_the_history_has_every_fact_in_order(service: Service):
    stream, attempt = await reported(service)
    history = (await service.client.get(f"/v1/notifications/{stream}/history")).json()
    facts = history["facts"]
    assert [fact["topic"].removeprefix("notification.") for fact in facts] == [
        "requested",
        "rendered",
        "attempt_started",
        "dispatched",
        "delivered",
    ]
    assert [fact["version"] for fact in facts] == [1, 2, 3, 4, 5]
    assert sorted(fact["position"] for fact in facts) == [fact["position"] for fact in facts]
    assert facts[0]["by"] == "api:tester"
    assert facts[1]["data"]["digest"] == CONTENT.digest().hex()
    assert facts[2]["data"]["attempt"] == str(attempt)
    assert facts[3]["occurred_at"] is None
    assert facts[4]["occurred_at"] is not None
    assert all(fact["recorded_at"] for fact in facts)


async def test_a_notification_is_shown_as_it_was_at_any_version(service: Service):
    stream, _ = await reported(service)
    statuses = []
    for version in range(1, 6):
        shown = (await service.client.get(f"/v1/notifications/{stream}?version={version}")).json()
        assert shown["version"] == version
        statuses.append(shown["status"])
    assert statuses == ["requested", "rendered", "sending", "dispatched", "delivered"]
    assert (await service.client.get(f"/v1/notifications/{stream}?version=6")).status_code == 404


async def test_a_notification_is_shown_as_it_was_at_any_time(service: Service):
    stream, _ = await reported(service)
    facts = (await service.client.get(f"/v1/notifications/{stream}/history")).json()["facts"]
    for before, after in pairwise(facts):
        at = before["recorded_at"]
        shown = (await service.client.get(f"/v1/notifications/{stream}", params={"at": at})).json()
        assert shown["version"] >= before["version"]
        assert shown["version"] < after["version"] or after["recorded_at"] == at
    zoned = datetime.fromisoformat(facts[-1]["recorded_at"]).astimezone().isoformat()
    assert (await service.client.get(f"/v1/notifications/{stream}", params={"at": zoned})).json()["version"] == 5
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert (await service.client.get(f"/v1/notifications/{stream}", params={"at": long_ago})).status_code == 404


NO_MOMENTS = [
    ("version=0", ["version"]),
    ("version=-1", ["version"]),
    ("version=99999999999999999999", ["version"]),
    ("version=x&at=yesterday", ["version", "at"]),
    ("at=2026-11-20T09:00:00", ["at"]),
    ("at=2026-11-20T09:00:00%00Z", ["at"]),
    ("version=1&version=2", ["version"]),
    ("version=1&at=2026-11-20T09:00:00Z", ["at"]),
    ("verzion=1&secret%40example.com=1", ["verzion", "?"]),
    ("at=%ff", ["at"]),
]


async def test_a_moment_that_is_none_is_refused_with_every_fault(service: Service):
    for query, paths in NO_MOMENTS:
        reply = await service.client.get(f"/v1/notifications/{uuid4()}?{query}")
        assert reply.status_code == 400, query
        assert [fault["path"] for fault in reply.json()["faults"]] == paths


async def test_what_is_not_there_is_not_found(service: Service):
    for path in ("", "/history", "/content"):
        assert (await service.client.get(f"/v1/notifications/{uuid4()}{path}")).status_code == 404
        assert (await service.client.get(f"/v1/notifications/{BEHIND_ALL_TIME}{path}")).status_code == 404
        assert (await service.client.get(f"/v1/notifications/no-id{path}")).status_code == 404
    stream = await posted(service.client)
    unsaid = await service.client.get(f"/v1/notifications/{stream}/content")
    assert (unsaid.status_code, unsaid.json()["detail"]) == (404, "nothing has been said yet")


async def test_i26_the_content_is_word_for_word_what_was_said(service: Service):
    stream, _ = await reported(service)
    content = (await service.client.get(f"/v1/notifications/{stream}/content")).json()
    assert content == {
        "subject": "Willkommen",
        "html": "<p>Hé</p>",
        "text": "Hé",
        "sender": "Shop <shop@shop.example>",
        "sha256": CONTENT.digest().hex(),
    }


async def test_every_unmasked_read_is_recorded_and_no_other(service: Service, database: Database):
    stream, _ = await reported(service)
    reader = service.as_(f"{READ} pii:read", subject="eva") | {"X-Reason": "ticket 7", "X-Correlation-Id": "c-1"}
    for path in ("", "/history", "/content"):
        assert (await service.client.get(f"/v1/notifications/{stream}{path}", headers=reader)).status_code == 200
    for path in ("", "/history"):
        await service.client.get(f"/v1/notifications/{stream}{path}", headers=service.as_(READ))
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(
            "SELECT subject, what, of, reason, correlation_id FROM ledger.personal_data_read ORDER BY id"
        ).fetchall()
    assert rows == [("eva", what, str(stream), "ticket 7", "c-1") for what in ("notification", "history", "content")]


async def test_a_record_of_a_read_cannot_be_taken_back_by_the_application(service: Service, database: Database):
    stream, _ = await reported(service)
    await service.client.get(f"/v1/notifications/{stream}")
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in ("DELETE FROM ledger.personal_data_read", "UPDATE ledger.personal_data_read SET subject = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_a_reason_that_cannot_be_kept_shows_nothing(service: Service):
    stream = await posted(service.client)
    reply = await service.client.get(f"/v1/notifications/{stream}", headers={"X-Reason": "r" * 201})
    assert reply.status_code == 400
    assert "ada@" not in reply.text


async def test_what_a_newer_release_wrote_is_shown_as_it_lies_there(
    service: Service, database: Database, monkeypatch: pytest.MonkeyPatch
):
    stream = await posted(service.client, message())
    topics: dict[type, str] = service.ledger._mapper._topic_of
    monkeypatch.setitem(topics, Expired, "notification.teleported")
    expired = Expired(recorded_at=datetime.now(UTC), cause="clock", by="maintain")
    await service.ledger.change(stream, lambda loaded, _now: Decision(facts=loaded.next((expired,))))
    history = (await service.client.get(f"/v1/notifications/{stream}/history")).json()
    newest = history["facts"][-1]
    assert (newest["topic"], newest["by"], newest["version"]) == ("notification.teleported", "maintain", 2)
    assert history["facts"][0]["data"]["personal"]["address"] == "ada@example.com"
    shown = await service.client.get(f"/v1/notifications/{stream}")
    assert (shown.status_code, shown.json()["type"]) == (503, "/problems/newer-release")
    assert "Retry-After" in shown.headers
    assert (await service.client.get(f"/v1/notifications/{stream}?version=1")).status_code == 200
