"""A person's whole story over HTTP: what was said of them, what is listed of their addresses, as of any moment."""

from datetime import datetime
from typing import Any

import psycopg
import pytest

from ledger.decision import Decision
from ledger.follower import Follower, prepare
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.recipient import Erased, Recipient
from ledger.store import connect
from projections.notification_log import NotificationLog
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted
from tests.integration.api.test_recipients import ADA, CONTACT, READ, READS, registered, told
from tests.support.postgres import Database

HISTORY = f"{ADA}/history"
LISTED = {"channel": "email", "address": "ada@example.com", "reason": "legal", "note": "a letter"}
NEWER = "UPDATE ledger.stored_events SET topic = 'recipient.teleported' WHERE originator_version = 2"


async def history(service: Service, headers: dict[str, str] | None = None, **params: str) -> dict[str, Any]:
    reply = await service.client.get(HISTORY, headers=headers, params=params)
    assert reply.status_code == 200, reply.text
    shown: dict[str, Any] = reply.json()
    return shown


async def listing(service: Service, database: Database) -> None:
    """Bring notification_log up to date."""
    async with await connect(database.url, options="-c search_path=views") as connection:
        await prepare(connection, NotificationLog())
        await Follower(database.url, NotificationLog(), service.signals).catch_up(connection)


def topics(facts: list[dict[str, Any]]) -> list[str]:
    return [fact["topic"].partition(".")[2] for fact in facts]


async def allowed(service: Service, **parts: Any) -> None:
    assert (await service.client.patch(f"{ADA}/preferences", json=parts)).status_code == 200


async def listed(service: Service, **changes: str) -> dict[str, Any]:
    reply = await service.client.post("/v1/suppressions", json={**LISTED, **changes})
    assert reply.status_code == 201, reply.text
    shown: dict[str, Any] = reply.json()
    return shown


async def erase(ledger: Ledger) -> None:
    def decide(known: Recipient, now: datetime) -> Decision:
        origin = Origin(now=now, cause="test", by="test")
        erased = Erased(**origin.stamp(), recipient=known.recipient, reason="asked by letter")
        return Decision(facts=known.next((erased,)))

    await ledger.change_recipient("ada", decide)


async def test_every_fact_is_shown_in_order_with_who_said_it(service: Service):
    await told(service)
    await registered(service)
    await allowed(service, quiet_hours={"from": "22:00", "to": "07:00"})
    shown = await history(service)
    assert topics(shown["facts"]) == ["contact_changed", "device_registered", "quiet_hours_changed"]
    assert [fact["version"] for fact in shown["facts"]] == [1, 2, 3]
    assert {fact["by"] for fact in shown["facts"]} == {"api:tester"}
    assert shown["facts"][2]["data"]["quiet"] == {"start": "22:00:00", "end": "07:00:00"}
    assert (shown["user_id"], shown["suppressions"]) == ("ada", [])


async def test_i18_addresses_are_masked_for_those_who_may_not_see_them_and_a_device_s_id_for_all(service: Service):
    await told(service)
    await registered(service, "fid-1")
    masked, clear = await history(service, service.as_(READ)), await history(service)
    assert masked["facts"][0]["data"]["personal"] == {"email": "a…@e…", "phone": "…50", "name": "A…"}
    assert clear["facts"][0]["data"]["personal"] == {
        "email": CONTACT["email"],
        "phone": "+442071838750",
        "name": "Ada",
    }
    assert "fid-1" not in str(clear)


async def test_i18_each_unmasked_reading_is_recorded(service: Service, database: Database):
    await told(service)
    await history(service, {"X-Reason": "ticket 7"})
    await history(service, service.as_(READ))
    with psycopg.connect(database.url) as connection:
        assert connection.execute(READS).fetchall() == [("tester", "recipient_history", "ada", "ticket 7")]


async def test_what_is_listed_of_the_addresses_that_the_person_has_is_part_of_the_story(service: Service):
    await told(service)
    entry = await listed(service)
    shown = await history(service)
    (address,) = shown["suppressions"]
    assert (address["id"], address["channel"], topics(address["facts"])) == (entry["id"], "email", ["listed"])
    await told(service, email="eva@example.com")
    assert (await history(service))["suppressions"] == []


async def test_the_story_is_told_as_of_any_moment(service: Service):
    await told(service)
    await listed(service)
    then = await history(service)
    (address,) = then["suppressions"]
    between = address["facts"][-1]["recorded_at"]
    await told(service, email="eva@example.com")
    await listed(service, address="eva@example.com")
    assert await history(service, at=between) == then
    for path in (HISTORY, ADA):
        reply = await service.client.get(path, params={"at": "2020-01-01T00:00:00Z"})
        assert (reply.status_code, reply.json()["type"]) == (404, "/problems/not-found")


async def test_what_is_known_is_shown_as_of_any_moment_too(service: Service):
    first = await told(service)
    between = first["changed_at"]
    last = await told(service, email="eva@example.com")
    masked = service.as_(READ)
    for at, expected in ((between, first), ("9999-01-01T00:00:00Z", last)):
        assert (await service.client.get(ADA, params={"at": at}, headers=masked)).json() == expected


async def test_i19_what_was_said_before_an_erasure_reads_as_nothing_and_what_came_after_is_shown(
    service: Service, database: Database
):
    before = (await told(service))["changed_at"]
    await erase(service.ledger)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("DELETE FROM ledger.recipient_key")
    await told(service, email="eva@example.com")
    shown = await history(service)
    assert topics(shown["facts"]) == ["contact_changed", "erased", "contact_changed"]
    assert shown["facts"][0]["data"]["personal"] is None
    assert shown["facts"][2]["data"]["personal"]["email"] == "eva@example.com"
    then = (await service.client.get(ADA, params={"at": before})).json()
    assert (then["email"], then["locale"], then["version"]) == (None, "en-GB", 1)


async def test_i25_a_fact_of_a_newer_release_is_shown_as_it_lies_there(service: Service, database: Database):
    await told(service)
    await allowed(service, quiet_hours=None)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(NEWER)
    shown = await history(service)
    assert topics(shown["facts"]) == ["contact_changed", "teleported"]
    assert (await service.client.get(ADA)).status_code == 503


@pytest.mark.parametrize(
    "query", ["at=yesterday", "at=", "version=1", "at=2026-11-20T09:00:00Z&at=2026-11-20T09:00:00Z"]
)
async def test_a_moment_that_is_none_is_refused(service: Service, query: str):
    await told(service)
    for path in (ADA, HISTORY, f"{ADA}/preferences"):
        assert (await service.client.get(f"{path}?{query}")).status_code == 400


async def test_what_was_sent_to_a_person_is_told_in_pages_by_their_id_and_by_the_addresses_that_they_have(
    service: Service, database: Database
):
    theirs = [await posted(service.client, message(userId="ada", emailAddress="old@example.com")) for _ in range(2)]
    before = (await told(service, email="ada@example.com"))["changed_at"]
    by_address = await posted(service.client, message(userId="u-77", emailAddress="Ada@Example.com"))
    await posted(service.client, message(userId="u-78", emailAddress="eva@example.com"))
    await listing(service, database)
    first = await history(service, include="notifications", limit="2")
    shown = await history(service, include="notifications", limit="2", cursor=first["cursor"])
    assert [one["id"] for one in first["notifications"] + shown["notifications"]] == [
        str(stream) for stream in (by_address, *reversed(theirs))
    ]
    assert shown["cursor"] is None
    then = await history(service, include="notifications", at=before)
    assert [one["id"] for one in then["notifications"]] == [str(stream) for stream in reversed(theirs)]
    assert shown["notifications"][0]["recipient"]["address"] == "o…@e…"
    assert (await history(service))["notifications"] is None


async def test_who_is_only_known_by_what_they_were_sent_is_no_stranger(service: Service, database: Database):
    stream = await posted(service.client, message("OrderShippedEvent", userId="ada"))
    await listing(service, database)
    assert (await service.client.get(HISTORY)).status_code == 404
    shown = await history(service, include="notifications")
    assert (shown["facts"], [one["id"] for one in shown["notifications"]]) == ([], [str(stream)])
    for query, fault in (
        ("limit=5", "limit"),
        ("include=everything", "include"),
        ("include=notifications&cursor=x", "cursor"),
    ):
        reply = await service.client.get(f"{HISTORY}?{query}")
        assert (reply.status_code, [one["path"] for one in reply.json()["faults"]]) == (400, [fault])
