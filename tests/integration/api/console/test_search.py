from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec
import pytest

from ledger.follower import Follower, prepare
from ledger.set_aside import Refusal
from projections.notification_log import NotificationLog
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.deliveries import message, posted
from tests.integration.api.test_finding import up_to_date
from tests.support.postgres import Database

READ = "notifications:read"
EVIL = '"><script>alert(1)</script>'


@pytest.fixture
async def listed(service: Service, database: Database) -> AsyncIterator[Service]:
    """The service with its list kept up to date."""
    async with service.ledger.store.connection() as connection:
        await prepare(connection, NotificationLog())
    follower = Follower(database.url, NotificationLog(), service.signals)
    follower.start()
    yield service
    await follower.stop()


async def test_what_a_caller_says_is_found_and_shown_masked_and_stands_in_no_address(listed: Service, browser: Browser):
    stream = await posted(listed.client, message(firstName="Ada", emailAddress="ada.lovelace@acme.example"))
    other = await posted(listed.client)
    await up_to_date(listed)
    await browser.sign_in(READ)
    answer = await browser.post("/console", text=" Ada.Lovelace@ACME.example ")
    assert answer.status_code == 200
    assert answer.url.query == b""
    assert f'href="/console/notifications/{stream}"' in browser.page
    assert str(other) not in browser.page
    assert "a…@a…" in browser.text
    # What was typed stands in its field and nowhere else.
    assert browser.page.lower().count("ada.lovelace@acme.example") == 1
    assert "by address" not in browser.text
    assert "1 notification" in browser.text
    await browser.post("/console", text=str(stream))
    assert "its own id" in browser.text
    # Without a word, the newest are shown.
    await browser.post("/console")
    assert str(stream) in browser.page
    assert str(other) in browser.page


async def test_nothing_found_is_told_in_full(listed: Service, browser: Browser):
    await posted(listed.client)
    await up_to_date(listed)
    await browser.sign_in(READ)
    await browser.post("/console", text=str(uuid4()))
    for told in (
        "Nothing was found",
        "It was taken for:",
        "its own id",
        "Everything since 20",
        "The lists are up to date",
        "No message is known to wait",
        "No message that was refused speaks of it, and none came again with other content",
    ):
        assert told in browser.text


async def test_refused_messages_and_conflicts_are_shown_with_their_faults(listed: Service, browser: Browser):
    refused = msgspec.json.encode({"messageId": "m-77", "correlationId": "c-77"})
    refusal = Refusal(reason="payload", faults=[{"path": "payload", "message": EVIL}], message_id="m-77")
    now = listed.ledger.clock.now()
    key = await listed.services.set_aside.keep(refused, refusal, origin="amqp", now=now)
    first = message()
    stream = await posted(listed.client, first)
    again = {**first, "payload": {**first["payload"], "firstName": "Eve"}}
    assert (await listed.client.post("/v1/messages", json=again)).status_code == 409
    await up_to_date(listed)
    await browser.sign_in(READ)
    await browser.post("/console", text="c-77")
    assert "Messages that were refused" in browser.text
    assert key.hex() in browser.text
    assert f"payload {EVIL}" in browser.text
    assert "<script>alert" not in browser.page
    await browser.post("/console", text=first["messageId"])
    assert "Messages that came again with other content" in browser.text
    assert f'href="/console/notifications/{stream}"' in browser.page


async def test_pages_lead_from_one_to_the_next_with_what_was_looked_for_in_the_form(listed: Service, browser: Browser):
    name = f"correlation-{uuid4()}"
    streams = [await posted(listed.client, {**message(), "correlationId": name}) for _ in range(27)]
    await up_to_date(listed)
    await browser.sign_in(READ)
    await browser.post("/console", text=name, channel="email")
    assert "25 notifications on this page, and there are more" in browser.text
    cursor = browser.page.partition('name="cursor" value="')[2].partition('"')[0]
    await browser.post("/console", text=name, channel="email", cursor=cursor)
    assert "2 notifications on this last page" in browser.text
    assert all(f"/console/notifications/{stream}" in browser.page for stream in streams[:2])
    await browser.post("/console", text=name, channel="sms")
    assert "Nothing was found" in browser.text


async def test_what_cannot_be_looked_for_is_named_field_by_field_and_stays_in_the_form(
    listed: Service, browser: Browser
):
    await browser.sign_in(READ)
    fields: dict[str, str] = {"text": EVIL, "channel": "pigeon", "from": "noon", "type": EVIL}
    answer = await browser.post("/console", **fields)
    assert answer.status_code == 422
    assert "Channel must be email or sms or push." in browser.text
    assert "From (UTC) must be an ISO 8601 time" in browser.text
    assert "&#34;&gt;&lt;script&gt;" in browser.page
    assert "<script>alert" not in browser.page
    assert (await browser.post("/console", text="x" * 400)).status_code == 422
    assert (await browser.post("/console", text="ada", cursor="stolen")).status_code == 422
    assert "is not one that an earlier page gave" in browser.text
