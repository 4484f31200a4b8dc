"""Somebody has a caller on the line: what they look for, see and do, in a real browser."""

from collections.abc import Mapping
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.acceptance.console.conftest import Shop
from tests.acceptance.console.people import MAIL, ON_PAPER
from tests.acceptance.console.visiting import visiting
from tests.support.service import reached

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS: Mapping[str, Mapping[str, Any]] = {
    "with_a_pointer": {},
    "by_keyboard_alone": {"by_keyboard": True},
    "without_javascript": {"java_script_enabled": False},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_caller_is_answered(browser: Browser, shop: Shop, way: Mapping[str, Any]):
    async with visiting(browser, shop.url, **way) as visitor:
        page = visitor.page
        await visitor.sign_in()

        await visitor.fill(page.get_by_label("What the caller says"), ON_PAPER)
        await visitor.press(page.get_by_role("button", name="Search", exact=True))
        await visitor.press(page.get_by_role("link", name="order_shipped by SMS"))
        await expect(page.get_by_role("heading", level=1)).to_have_text("order_shipped by SMS")

        await visitor.press(page.get_by_role("link", name="Replay it from the first step"))
        await expect(page.locator("main")).to_contain_text("Step 1 of 2")
        await visitor.press(page.get_by_role("link", name="Next"))
        await expect(page.locator("main")).to_contain_text("Step 2 of 2")
        await expect(page.locator("main")).to_contain_text("Then it stood at suppressed.")
        await visitor.press(page.get_by_role("link", name="The entry on the suppression list").first)
        await expect(page).to_have_url(f"{shop.url}/console/suppressions/{shop.told.suppression}")
        await expect(page.locator("main")).to_contain_text("asked for it by letter")

        await visitor.press(page.get_by_role("link", name="Search"))
        await visitor.fill(page.get_by_label("What the caller says"), shop.told.user)
        await visitor.press(page.get_by_role("button", name="Search", exact=True))
        await visitor.press(page.get_by_role("link", name="order_shipped by e-mail").last)
        await expect(page.get_by_role("heading", level=1)).to_have_text("order_shipped by e-mail")
        await expect(page.get_by_text(MAIL)).to_have_count(0)
        await visitor.fill(page.locator("#reveal-reason"), "the caller wants to know where it went")
        await visitor.press(page.get_by_role("button", name="Show addresses and names"))
        await expect(page.get_by_text(MAIL).first).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("the caller wants to know where it went")
        await visitor.press(page.get_by_role("link", name="Mask it again"))
        await expect(page.get_by_text(MAIL)).to_have_count(0)

        sent = len(shop.sandbox.requests())
        await visitor.press(page.get_by_role("link", name="Send again"))
        await expect(page.locator("main")).to_contain_text("It would be sent")
        await visitor.fill(page.get_by_label("Why"), "the caller has deleted it")
        assert len(shop.sandbox.requests()) == sent
        await visitor.press(page.get_by_role("button", name="Send it again"))
        await visitor.press(page.get_by_role("link", name="the original"))
        await expect(page).to_have_url(f"{shop.url}/console/notifications/{shop.told.mail}")
        await reached(lambda: len(shop.sandbox.requests()), sent + 1, "mails")
