"""What holds for every page of the console, found from its routes."""

import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Page, ViewportSize

from api.console.routes import ROUTES
from tests.acceptance.console.conftest import Shop
from tests.acceptance.console.people import Told
from tests.acceptance.console.visiting import visiting
from tests.support.chromium import barriers

pytestmark = pytest.mark.asyncio(loop_scope="session")
# Asked for by pages, and no pages themselves.
PARTS: set[str] = {
    "/console/static/{name:str}",
    "/console/live/facts",
    "/console/bulk/{action_id:uuid}",
    "/console/templates/{name:str}/preview/frame",
}
# A phone held upright, or a desktop page at 400 % (WCAG 2.2, 1.4.10).
NARROW: ViewportSize = {"width": 320, "height": 640}
WIDE: ViewportSize = {"width": 1280, "height": 900}


def pages(told: Told) -> Iterator[str]:
    """Return the path of every page, of something that is there."""
    there = {
        "notification_id": told.mail,
        "user_id": told.user,
        "suppression_id": told.suppression,
        "action_id": told.bulk,
        "name": "welcome",
    }
    for route in ROUTES:
        if "GET" not in route.http_methods:
            continue
        for path in sorted(set(route.paths) - PARTS):
            yield re.sub(r"{(\w+)(:\w+)?}", lambda found: str(there[found[1]]), path)


async def test_every_page_has_no_barrier_in_light_and_dark_and_fits_into_320_pixels(browser: Browser, shop: Shop):
    found: list[str] = []
    async with visiting(browser, shop.url) as visitor:
        await visitor.page.goto(f"{shop.url}/console/sign-in")
        found += await flaws(visitor.page, "/console/sign-in")
        await visitor.sign_in()
        for path in pages(shop.told):
            answer = await visitor.page.goto(f"{shop.url}{path}")
            assert answer is not None
            found += [] if answer.ok else [f"{path}: {answer.status}"]
            found += await flaws(visitor.page, path)
    assert found == []


async def flaws(page: Page, path: str) -> list[str]:
    """Return what is wrong with a page: its barriers in both color schemes, and what sticks out where it is narrow."""
    found: list[str] = []
    await page.emulate_media(color_scheme="light")
    found += [f"{path}: {barrier}" for barrier in await barriers(page)]
    await page.emulate_media(color_scheme="dark")
    found += [f"{path} in the dark: {barrier}" for barrier in await barriers(page)]
    await page.set_viewport_size(NARROW)
    sideways = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found += [f"{path}: {sideways} pixels stick out at 320"] if sideways else []
    await page.set_viewport_size(WIDE)
    return found
