"""What moves by itself in a browser: facts as they are committed, and how far an action on many is."""

from uuid import UUID

import pytest
from playwright.async_api import Browser, expect

from tests.acceptance.console.conftest import Shop
from tests.acceptance.console.people import MAIL, listed_as
from tests.acceptance.console.visiting import visiting
from tests.acceptance.traffic import message
from tests.support.chromium import barriers

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_facts_appear_as_they_are_committed_until_somebody_pauses_and_go_on_from_there(
    browser: Browser, shop: Shop
):
    async with visiting(browser, shop.url) as visitor, shop.sandbox.client() as client:
        await visitor.sign_in("/console/live")
        page = visitor.page
        await expect(page.get_by_role("status")).to_have_text("Live: facts appear as they are committed.")
        ids: list[str] = []

        async def post() -> str:
            made = (
                (await client.post("/v1/messages", json=message("UserRegisteredEvent")))
                .raise_for_status()
                .json()["notifications"]
            )
            ids.append(made[0]["id"])
            return f'#facts a[href="/console/notifications/{ids[-1]}"]'

        await expect(page.locator(await post()).first).to_be_visible()
        await visitor.press(page.get_by_role("button", name="Pause"))
        await expect(page.get_by_role("status")).to_have_text("Paused.")
        unseen = await post()
        assert await page.locator(unseen).count() == 0
        await visitor.press(page.get_by_role("button", name="Go on"))
        await expect(page.locator(unseen).first).to_be_visible()
        assert await barriers(page) == []


async def test_many_are_sent_again_by_a_search_and_the_page_follows_to_the_end(browser: Browser, shop: Shop):
    async with visiting(browser, shop.url) as visitor, shop.sandbox.client() as client:
        asked = message("UserRegisteredEvent", userId="watched", emailAddress=MAIL)
        made = (await client.post("/v1/messages", json=asked)).raise_for_status().json()["notifications"]
        await listed_as(client, UUID(made[0]["id"]), "delivered")
        await visitor.sign_in("/console/bulk")
        page = visitor.page
        await page.get_by_label("Send again").check()
        await page.get_by_label("User", exact=True).fill("watched")
        await visitor.press(page.get_by_role("button", name="Show what would happen"))
        await expect(page.locator(".verdict")).to_contain_text("send again. Nothing has been done yet.")
        assert await barriers(page) == []
        await page.get_by_label("Why").fill("they were empty")
        await visitor.press(page.get_by_role("button", name="Begin"))
        # Nobody reloads: the page asks by itself.
        await expect(page.locator("#progress [role=status]")).to_contain_text("Ended at", timeout=60_000)
        assert await barriers(page) == []
