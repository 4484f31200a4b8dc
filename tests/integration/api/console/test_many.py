"""How long the pages of the console take to make where there are many notifications: `make bench` asks a million."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from api.console.routes import ROUTES
from bench import million
from tests.integration.api.conftest import EVERYTHING, Service
from tests.integration.api.console.browser import Browser
from tests.support.postgres import Database

NOTIFICATIONS = 100_000
# A quiet machine makes each page in 300 ms; on one that runs other tests beside, the quickest of so many tries counts.
MOST = timedelta(seconds=1)
TRIES = 10
# Asked for by pages that are there before them, or never at their end. The frame's words are tried in a new process.
PARTS = {"/console/static/{name:str}", "/console/live/facts", "/console/templates/{name:str}/preview/frame"}
# A list of so many rows is not read from one end to the other for a page.
LARGE = 10_000
# What callers say: of somebody who is told much, of one who is told little, of nobody; and nothing at all.
WORDS = (million.MANY.phone, million.MANY.order, million.FEW.email, "m-1000", "nobody@example.com", "")
READ_THROUGH = """
SELECT relname FROM pg_stat_user_tables
WHERE schemaname = 'views' AND n_live_tup > %(large)s AND seq_scan > 0 AND relname NOT LIKE 'delivery_statistics%%'
"""


@pytest.fixture
async def led(database: Database) -> list[UUID]:
    """The database of the service that is asked, filled; returns the notifications that have facts, too."""
    return await million.fill(database, NOTIFICATIONS)


async def test_every_page_is_made_soon_and_reads_no_large_list_through(
    led: list[UUID], service: Service, browser: Browser, database: Database
):
    there = await things(service, led)
    await browser.sign_in(EVERYTHING)
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_reset()")
        took = {path: await quickest(browser, "GET", path) for path in pages(there)}
        took |= {words: await quickest(browser, "POST", "/console", text=words) for words in WORDS}
        # What a connection has counted is told when it ends, at the latest.
        await service.ledger.store.aclose()
        through = connection.execute(READ_THROUGH, {"large": LARGE}).fetchall()
    assert {asked: time for asked, time in took.items() if time > MOST} == {}
    assert through == []


async def things(service: Service, led: list[UUID]) -> Mapping[str, object]:
    """Return what the pages are asked for, by the name that it has in their paths."""
    listed = (await service.client.post("/v1/suppressions/search", json={"address": million.FEW.email})).json()
    plan = {"action": "cancel", "filters": {"user_id": million.FEW.user_id}, "dry_run": True}
    planned = (await service.client.post("/v1/bulk-actions", json=plan)).json()
    meant = {"confirm": planned["id"], "reason": "the orders were a mistake"}
    (await service.client.post("/v1/bulk-actions", json=meant)).raise_for_status()
    return {
        "notification_id": led[0],
        "user_id": million.MANY.user_id,
        "suppression_id": listed["suppressions"][0]["id"],
        "action_id": planned["id"],
        "name": "order_shipped",
    }


def pages(there: Mapping[str, object]) -> Iterator[str]:
    for route in ROUTES:
        for path in sorted(route.paths - PARTS if "GET" in route.http_methods else ()):
            yield re.sub(r"{(\w+)(:\w+)?}", lambda found: str(there[found[1]]), path)
    yield "/console/statistics?last=month"


async def quickest(browser: Browser, method: str, path: str, **fields: str) -> timedelta:
    """Ask until an answer comes soon enough, or often; return how long the quickest took."""
    best = timedelta.max
    await browser.get("/console")
    for _ in range(TRIES):
        before = time.monotonic()
        answer = await (browser.get(path) if method == "GET" else browser.post(path, **fields))
        best = min(best, timedelta(seconds=time.monotonic() - before))
        assert answer.status_code == 200, f"{path}: {answer.text}"
        if best <= MOST:
            break
    return best
