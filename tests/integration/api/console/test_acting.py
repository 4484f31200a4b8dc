"""What is done to one notification from its page, over a socket: tried first, and done once."""

import asyncio
import re
from uuid import UUID

import httpx

from ledger.values import ReportKind
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.console.test_notification import reported
from tests.integration.api.deliveries import message, posted, sent
from tests.integration.api.test_release import in_doubt

SUPPORT = "notifications:read notifications:act"
HOSTILE = "<script>alert('name')</script>"


def command_of(browser: Browser) -> str:
    found = re.search(r'name="command" value="([^"]+)"', browser.page)
    assert found, browser.text
    return found[1]


async def topics(service: Service, stream: str | UUID) -> list[str]:
    facts = (await service.client.get(f"/v1/notifications/{stream}/history")).json()["facts"]
    return [fact["topic"].partition(".")[2] for fact in facts]


async def test_a_resend_is_tried_first_and_however_often_its_form_is_sent_there_is_one(
    browser: Browser, service: Service
):
    first = await posted(service.client, message(firstName=HOSTILE))
    await sent(service.ledger, first)
    await service.client.post(f"/v1/notifications/{first}/cancel", json={"reason": "no more of it"})
    await browser.sign_in(SUPPORT)
    path = f"/console/notifications/{first}/resend"

    await browser.get(path)
    assert "It would be sent by ses to " in browser.text
    assert HOSTILE not in browser.page
    assert "@" in browser.text
    address = (await service.client.get(f"/v1/notifications/{first}")).json()["recipient"]["address"]
    assert address not in browser.page
    head = await service.ledger.store.head()
    command, asking = command_of(browser), browser.page

    refused = await browser.post(path, command=command, reason=" ")
    assert refused.status_code == 400
    assert "Say why" in browser.text
    assert command_of(browser) == command
    assert await service.ledger.store.head() == head

    browser.page = asking
    answers: list[httpx.Response] = []
    for _ in range(2):
        browser.page = asking
        answers.append(await browser.post(path, command=command, reason="she has lost it"))
    browser.page = asking
    answers += await asyncio.gather(*(browser.post(path, command=command, reason="she has lost it") for _ in range(2)))
    assert [answer.status_code for answer in answers] == [303] * 4
    (target,) = {answer.headers["location"] for answer in answers}
    assert (await topics(service, first)).count("sent_again") == 1
    assert await topics(service, target.rpartition("/")[2]) == ["requested"]


async def test_what_is_called_off_or_let_go_is_so_once_and_what_cannot_be_is_said(browser: Browser, service: Service):
    waiting, held = await posted(service.client), await in_doubt(service.ledger)
    await browser.sign_in(SUPPORT)
    for stream, deed, fact in ((waiting, "cancel", "cancelled"), (held, "release", "released")):
        path = f"/console/notifications/{stream}/{deed}"
        await browser.get(path)
        command, asking = command_of(browser), browser.page
        for _ in range(2):
            browser.page = asking
            answer = await browser.post(path, command=command, reason="she has called")
            assert (answer.status_code, answer.headers.get("location")) == (303, f"/console/notifications/{stream}")
        assert (await topics(service, stream)).count(fact) == 1
        assert (await browser.get(path)).status_code == 200
        assert "It cannot be done:" in browser.text
        browser.page = asking
        answer = await browser.post(path, command="another", reason="once more")
        assert answer.status_code == (303 if deed == "cancel" else 409)
    await browser.get(f"/console/notifications/{waiting}/release")
    assert "the notification is not held" in browser.text
    assert (await browser.get(f"/console/notifications/{UUID(int=1)}/cancel")).status_code == 404


async def test_a_page_offers_what_applies_to_how_it_stands_and_says_why_it_is_not_sent_again(
    browser: Browser, service: Service
):
    waiting, held, bounced = (
        await posted(service.client),
        await in_doubt(service.ledger),
        await posted(service.client, message(firstName="Bea")),
    )
    await sent(service.ledger, bounced)
    await reported(service.ledger, bounced, ReportKind.BOUNCED, {})
    await browser.sign_in(SUPPORT)
    for stream, deeds, tone, said in (
        (waiting, ["cancel"], "note ", "It is not sent again: the first one is still on its way"),
        (held, ["cancel", "release"], "note warn", "held for somebody to decide; release it."),
        (bounced, ["resend"], "note bad", "No. Sent at"),
    ):
        await browser.get(f"/console/notifications/{stream}")
        assert re.findall(rf'href="/console/notifications/{stream}/(\w+)"', browser.page) == deeds
        assert f'<section class="{tone}" aria-labelledby="verdict">' in browser.page
        assert said in browser.text


async def test_whoever_may_only_read_can_do_nothing(browser: Browser, service: Service):
    stream = await posted(service.client)
    await browser.sign_in("notifications:read")
    for deed in ("resend", "cancel", "release"):
        path = f"/console/notifications/{stream}/{deed}"
        assert (await browser.get(path)).status_code == 403
        await browser.get("/console")
        assert (await browser.post(path, reason="let me")).status_code == 403
    assert await topics(service, stream) == ["requested"]
