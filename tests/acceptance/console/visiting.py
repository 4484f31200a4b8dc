"""Somebody at a browser: what they do, and what their browser had to complain of meanwhile."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Error, Locator, Page, Request


class Visitor:
    """Works a page with a pointer or, `by_keyboard`, with Tab and Enter alone.

    `complaints` are errors of scripts and whatever a policy has stopped, `elsewhere` what was asked of other hosts.
    """

    def __init__(self, page: Page, home: str, *, by_keyboard: bool) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self._home = home
        self._by_keyboard = by_keyboard
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        page.on("request", self._asked)

    async def sign_in(self, then: str = "/console") -> None:
        await self.page.goto(f"{self._home}{then}")
        await self.press(self.page.get_by_role("button", name="Sign in to the sandbox"))

    async def press(self, target: Locator) -> None:
        """Follow a link or press a button."""
        if not self._by_keyboard:
            await target.click()
            return
        await self._reach(target)
        await self.page.keyboard.press("Enter")

    async def fill(self, target: Locator, text: str) -> None:
        if not self._by_keyboard:
            await target.fill(text)
            return
        await self._reach(target)
        await self.page.keyboard.type(text)

    async def _reach(self, target: Locator) -> None:
        """Go on with Tab until the target has the focus, and can be seen to have it."""
        await target.wait_for()
        for _ in range(200):
            await self.page.keyboard.press("Tab")
            if await target.evaluate("element => element === document.activeElement"):
                assert await target.evaluate("element => element.matches(':focus-visible')")
                return
        raise AssertionError(f"cannot be reached by Tab: {target}")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self._home}/", "data:", "blob:", "about:")):
            self.elsewhere.append(request.url)


@contextlib.asynccontextmanager
async def visiting(browser: Browser, home: str, *, by_keyboard: bool = False, **context: Any) -> AsyncIterator[Visitor]:
    """Open a browser window that knows nothing yet; at its end, nobody may have complained."""
    async with await browser.new_context(**context) as window:
        visitor = Visitor(await window.new_page(), home, by_keyboard=by_keyboard)
        yield visitor
    assert visitor.complaints == []
    assert visitor.elsewhere == []
