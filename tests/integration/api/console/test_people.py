"""The pages of a person and of the suppression list over a socket: masked, escaped, and each look unmasked recorded."""

import re
from urllib.parse import quote

import pytest

from projections.notification_log import NotificationLog
from projections.suppressions import Suppressions
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.console.lists import bring_up_to_date
from tests.integration.api.deliveries import message, posted
from tests.support.postgres import Database

HOSTILE = "<img src=x onerror=alert(1)>"
USER = f"ada/1 {HOSTILE}"
ADDRESS = "ada.lovelace@calls.example"
PAGE = f"/console/recipients/{quote(USER, safe='')}"


@pytest.fixture
async def ada(service: Service, database: Database) -> None:
    """A person who has said much, has got a mail, and is not to be written to."""
    path = f"/v1/recipients/{quote(USER, safe='')}"
    told = {"email": ADDRESS, "name": HOSTILE, "locale": "en", "time_zone": "Europe/London"}
    assert (await service.client.patch(path, json=told)).status_code == 200
    allows = {
        "preferences": [{"category": "marketing", "channel": "email", "enabled": False}],
        "consents": [{"purpose": "newsletter", "granted": True, "wording": "I want it, v2"}],
        "quiet_hours": {"from": "22:00", "to": "07:00"},
    }
    answer = await service.client.patch(f"{path}/preferences", json=allows)
    assert answer.status_code == 200, answer.text
    listed = {"channel": "email", "address": ADDRESS, "reason": "manual", "note": "asked on the phone"}
    assert (await service.client.post("/v1/suppressions", json=listed)).status_code == 201
    await posted(service.client, message(userId=USER, emailAddress=ADDRESS))
    await posted(service.client, message(userId="written to, and never spoken of"))
    await bring_up_to_date(service, database, NotificationLog(), Suppressions())


async def reads(service: Service) -> list[tuple[str, str, str | None]]:
    async with service.ledger.store.connection() as connection:
        found = await connection.execute("SELECT subject, what, reason FROM ledger.personal_data_read ORDER BY 1, 2, 3")
        return list(await found.fetchall())


async def test_a_person_is_shown_masked_and_as_they_were_and_unmasked_for_a_reason_that_is_recorded(
    browser: Browser, service: Service, ada: None
):
    await browser.sign_in("notifications:read pii:read")
    assert (await browser.get(PAGE)).status_code == 200
    for told in (
        "a…@c…",
        "marketing by email: not wanted",
        "newsletter: given",
        "to the wording “I want it, v2”",
        "at api:tester",
        "From 22:00 to 07:00",
        "asked on the phone",
        "recipient: consent changed",
        "suppression: listed",
    ):
        assert told in browser.text, told
    assert "/console/notifications/" in browser.page
    assert ADDRESS not in browser.page
    assert HOSTILE not in browser.page

    assert (await browser.get(f"{PAGE}?at=2020-01-01T00:00:00")).status_code == 404
    assert (await browser.get(f"{PAGE}?at=2199-01-01T00:00")).status_code == 200
    assert "This is what was known at 2199-01-01" in browser.text

    await browser.get(PAGE)
    assert (await browser.post(f"{PAGE}/reveal", reason=" ")).status_code == 422
    assert ADDRESS not in browser.page
    assert await reads(service) == []
    assert (await browser.post(f"{PAGE}/reveal", reason="she has called")).status_code == 200
    assert ADDRESS in browser.text
    assert HOSTILE not in browser.page
    assert await reads(service) == [("support", "recipient", "she has called")]
    await browser.get(PAGE)
    assert ADDRESS not in browser.page

    await browser.sign_in("notifications:read")
    await browser.get(PAGE)
    assert "Show addresses and names" not in browser.text
    assert (await browser.post(f"{PAGE}/reveal", reason="me too")).status_code == 403
    assert (await browser.get("/console/recipients/nobody")).status_code == 404
    assert (await browser.get("/console/recipients/written%20to%2C%20and%20never%20spoken%20of")).status_code == 200
    assert "Nobody has told how to reach this person." in browser.text
    assert "/console/notifications/" in browser.page


async def test_an_address_is_looked_up_listed_and_released_by_those_who_may(
    browser: Browser, service: Service, ada: None
):
    path = "/console/suppressions"
    await browser.sign_in("notifications:read recipients:write")
    await browser.get(f"{path}?channel=email&reason=&category=")
    assert "asked on the phone, by api:tester" in browser.text

    assert (await browser.post(f"{path}/search", address=ADDRESS.upper())).status_code == 200
    assert "It is on the list for email, so nothing is sent to it: manual , since" in browser.text
    assert ADDRESS not in browser.page.lower()
    await browser.post(f"{path}/search", address="+44 20 7183 8750")
    assert "It has never been on the list." in browser.text
    assert (await browser.post(f"{path}/search", address="")).status_code == 400
    assert "Address: is required" in browser.text

    refused = await browser.post(path, channel="sms", address="nonsense", reason="legal", note="", expires_at="")
    assert refused.status_code == 400
    assert "Note: is required" in browser.text
    assert "Address: must be a phone number" in browser.text
    adding = {"channel": "sms", "address": "+442071838750", "reason": "legal", "note": HOSTILE, "category": ""}
    first = await browser.post(path, **adding)
    await browser.get(path)
    again = await browser.post(path, **adding)
    (target,) = {answer.headers.get("location") for answer in (first, again)}
    assert target is not None
    await browser.get(target)
    assert browser.text.count("by console:support") == 2
    assert HOSTILE not in browser.page

    assert (await browser.post(f"{target}/release", entry="legal", reason="")).status_code == 400
    assert "Reason: is required" in browser.text
    assert (await browser.post(f"{target}/release", entry="legal/owls", reason="no")).status_code == 400
    assert (await browser.post(f"{target}/release", entry="legal", reason="settled")).status_code == 303
    await browser.get(target)
    assert "Nothing: it may be written to." in browser.text
    assert "Released: legal, by console:support: settled" in browser.text

    await browser.sign_in("notifications:read")
    await browser.get(path)
    assert not re.search(r">List it<|>Release it<", browser.page)
    assert (await browser.post(path, **adding)).status_code == 403
    assert (await browser.post(f"{target}/release", reason="me too")).status_code == 403
