"""A real browser: Debian's Chromium, driven by playwright, whose own builds of browsers are not downloaded."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from functools import cache
from importlib import resources
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

# Nothing but what the tests ask for leaves the machine. The sandbox of Chromium wants rights that a container lacks.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# WCAG 2.2, levels A and AA; axe-core has a tag for each version that added rules.
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Browser]:
    """Start a browser; it ends with the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


async def barriers(page: Page) -> list[str]:
    """Return what axe-core finds on a page against the standard: the rule, and where."""
    # Evaluated as a debugger does, so the page's own policy stays in force for all that the page does.
    await page.evaluate(_axe())
    found: dict[str, Any] = await page.evaluate(
        "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", STANDARD
    )
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


@cache
def _axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
