"""Many at once over a socket: shown first, begun once however often it is asked for, followed and stopped."""

import re

from projections.notification_log import NotificationLog
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.console.lists import bring_up_to_date
from tests.integration.api.console.test_acting import SUPPORT, topics
from tests.integration.api.deliveries import message, posted
from tests.support.postgres import Database


async def test_what_a_search_finds_is_shown_begun_once_and_followed_to_its_end(
    browser: Browser, service: Service, database: Database
):
    mine = [await posted(service.client, message(userId="ada")) for _ in range(2)]
    other = await posted(service.client, message(userId="bob"))
    await bring_up_to_date(service, database, NotificationLog())
    await browser.sign_in(SUPPORT)

    await browser.get("/console/bulk")
    assert (await browser.post("/console/bulk", action="", user_id="")).status_code == 400
    assert "Action: must be cancel or resend or release" in browser.text
    assert "nobody means everything" in browser.text
    assert (await browser.post("/console/bulk", action="cancel", channel="owl", owl="x")).status_code == 400
    assert (await browser.post("/console/bulk", action="cancel", user_id="ada", recipient="")).status_code == 200
    assert "2 notifications would be dealt with: call off. Nothing has been done yet." in browser.text
    assert "None of them would be refused." in browser.text
    found = re.search(r'action="(/console/bulk/[^"]+/begin)"', browser.page)
    assert found
    begin, path, asking = found[1], found[1].removesuffix("/begin"), browser.page
    assert (await browser.get(path)).status_code == 404
    browser.page = asking
    assert (await browser.post(begin, reason="")).status_code == 400
    assert "Say why" in browser.text
    for _ in range(2):
        browser.page = asking
        answer = await browser.post(begin, reason="<i>sent by mistake</i>")
        assert (answer.status_code, answer.headers["location"]) == (303, path)

    await browser.get(path)
    assert "It is being worked off. 0 of 2 looked at." in browser.text
    assert 'hx-trigger="every 2s"' in browser.page
    assert "<i>sent" not in browser.page
    assert (await browser.post(f"{path}/stop", reason="")).status_code == 400
    await service.services.bulk.run()
    await browser.get(path)
    assert "2 of 2 looked at." in browser.text
    assert "Done 2 Refused 0 Left 0" in browser.text
    assert 'hx-trigger="every 2s"' not in browser.page
    assert [await topics(service, one) for one in mine] == [["requested", "cancelled"]] * 2
    assert await topics(service, other) == ["requested"]
    await browser.get("/console/bulk")
    assert "2 of 2, ended" in browser.text

    await browser.sign_in("notifications:read")
    assert "Many at once" not in browser.text
    assert (await browser.post("/console/bulk", action="cancel", user_id="bob")).status_code == 403
    assert (await browser.post(begin, reason="me too")).status_code == 403
