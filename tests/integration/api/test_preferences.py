import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.values import Category, Channel
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message
from tests.integration.api.test_recipients import ADA, READ, WRITE, told

PREFERENCES = f"{ADA}/preferences"
OFF = {"category": "marketing", "channel": "sms", "enabled": False}
AGREED = {"purpose": "newsletter", "granted": True, "wording": "2026-05", "where": "checkout"}
NIGHT = {"from": "22:00", "to": "07:30"}


async def allowed(service: Service, **parts: Any) -> dict[str, Any]:
    reply = await service.client.patch(PREFERENCES, json=parts)
    assert reply.status_code == 200, reply.text
    shown: dict[str, Any] = reply.json()
    return shown


async def test_what_is_told_is_shown_with_its_proof_and_the_fact_that_says_it(service: Service):
    changed = await allowed(
        service, preferences=[OFF], consents=[{**AGREED, "at": "2021-05-04T12:00:00+02:00"}], quiet_hours=NIGHT
    )
    shown = (await service.client.get(PREFERENCES, headers=service.as_(READ))).json()
    assert shown == changed
    said_at = {"said_at": shown["quiet_hours"]["said_at"]}
    assert shown == {
        "user_id": "ada",
        "preferences": [{**OFF, **said_at, "version": 1}],
        "consents": [{**AGREED, "at": "2021-05-04T10:00:00Z", "version": 2}],
        "quiet_hours": {**NIGHT, **said_at, "version": 3},
        "version": 3,
    }


async def test_what_is_absent_stays_and_quiet_hours_of_null_are_cleared(service: Service):
    await allowed(service, preferences=[OFF], consents=[AGREED], quiet_hours=NIGHT)
    shown = await allowed(service, quiet_hours=None)
    assert (shown["quiet_hours"], len(shown["preferences"]), len(shown["consents"])) == (None, 1, 1)


async def test_consent_is_given_now_and_with_the_caller_unless_it_is_told_otherwise(service: Service):
    before = datetime.now(UTC) - timedelta(seconds=5)
    (shown,) = (await allowed(service, consents=[{**AGREED, "where": None}]))["consents"]
    assert shown["where"] == "api:tester"
    assert before < datetime.fromisoformat(shown["at"]) < before + timedelta(minutes=5)


async def test_each_change_over_http_holds_over_the_one_before(service: Service):
    for enabled in (True, False, True, False):
        shown = await allowed(service, preferences=[{**OFF, "enabled": enabled}])
        assert [one["enabled"] for one in shown["preferences"]] == [enabled]


async def test_two_who_tell_at_once_are_both_heard(service: Service):
    both = [(category.value, channel.value) for category in Category for channel in Channel]
    await asyncio.gather(
        *(
            allowed(service, preferences=[{"category": category, "channel": channel, "enabled": True}])
            for category, channel in both
        )
    )
    shown = (await service.client.get(PREFERENCES)).json()
    assert [(one["category"], one["channel"]) for one in shown["preferences"]] == sorted(both)
    assert sorted(one["version"] for one in shown["preferences"]) == list(range(1, len(both) + 1))


async def test_a_message_is_heard_on_the_same_path(service: Service):
    about = {**message(), "messageType": "UserPreferencesChangedEvent"}
    about["payload"] = {"userId": "ada", "preferences": [OFF], "quietHours": NIGHT}
    assert (await service.client.post("/v1/messages", json=about)).json() == {"notifications": []}
    shown = (await service.client.get(PREFERENCES)).json()
    assert (shown["preferences"][0]["enabled"], shown["quiet_hours"]["from"]) == (False, "22:00")


async def test_they_are_shown_as_of_any_moment(service: Service):
    first = await allowed(service, preferences=[OFF])
    between = (await service.client.get(ADA)).json()["changed_at"]
    last = await allowed(service, preferences=[{**OFF, "enabled": True}])
    for at, expected in ((between, first), ("9999-01-01T00:00:00Z", last)):
        assert (await service.client.get(PREFERENCES, params={"at": at})).json() == expected
    before = await service.client.get(PREFERENCES, params={"at": "2020-01-01T00:00:00Z"})
    assert before.status_code == 404


async def test_somebody_nobody_has_spoken_of_is_not_found_and_one_who_said_nothing_allows_nothing(service: Service):
    assert (await service.client.get(PREFERENCES)).status_code == 404
    await told(service, locale="en")
    shown = (await service.client.get(PREFERENCES)).json()
    assert (shown["preferences"], shown["consents"], shown["quiet_hours"]) == ([], [], None)


async def test_every_fault_of_a_change_is_named_at_once_and_no_value(service: Service):
    ahead = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    body = {
        "preferences": [{"category": "secret", "channel": "sms", "enabled": 1}],
        "consents": [{"purpose": "secret", "granted": True, "at": ahead}],
        "quiet_hours": {"from": "secret"},
        "quietHours": None,
    }
    reply = await service.client.patch(PREFERENCES, json=body)
    assert reply.status_code == 400
    assert [fault["path"] for fault in reply.json()["faults"]] == [
        "quietHours",
        "preferences[0].category",
        "preferences[0].enabled",
        "consents[0].wording",
        "consents[0].at",
        "quiet_hours.from",
        "quiet_hours.to",
    ]
    assert "secret" not in reply.text
    assert await service.ledger.store.head() == 0


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"preferences": 1}'])
async def test_a_body_that_says_nothing_is_refused(service: Service, body: bytes):
    reply = await service.client.patch(PREFERENCES, content=body)
    assert (reply.status_code, bool(reply.json()["faults"])) == (400, True)


async def test_i17_who_may_only_read_changes_nothing_and_who_may_only_write_reads_nothing(service: Service):
    changed = await service.client.patch(PREFERENCES, json={"preferences": [OFF]}, headers=service.as_(READ))
    shown = await service.client.get(PREFERENCES, headers=service.as_(WRITE))
    assert (changed.status_code, shown.status_code) == (403, 403)
