"""The live tail over a socket: facts in order, without personal data, from where a browser was, until it must end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from api.app import make_app
from api.services import Services
from api.tail import LAST, Line, Skipped, Tail
from ledger.ledger import Ledger
from ledger.signals import Signals
from tests.integration.api.conftest import Service, served
from tests.integration.api.console.browser import Browser
from tests.integration.api.deliveries import message, posted
from tests.integration.api.tokens import AUDIENCE, ISSUER, KEYS, claims, signed, token
from tests.integration.ledger.parts import begun, new_id
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database

READ = "notifications:read"
SHORT = timedelta(milliseconds=200)
# Seconds, on a busy machine.
SOON = 30


class Events:
    """What a browser's EventSource would make of a stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.position = ""
        self.seen = ""

    async def next(self) -> dict[str, Any]:
        """Wait for a fact."""
        async with asyncio.timeout(SOON):
            async for line in self._lines:
                self.seen += line
                field, _, value = line.partition(": ")
                if field == "id":
                    self.position = value
                if field == "data":
                    return msgspec.json.decode(value, type=dict)
        raise AssertionError("the stream has ended")

    async def silence(self) -> None:
        """Wait until there is nothing more to be told."""
        async with asyncio.timeout(SOON):
            async for line in self._lines:
                if line == ": still here":
                    return

    async def end(self) -> None:
        """Wait until no more will be told."""
        async with asyncio.timeout(SOON):
            async for _ in self._lines:
                pass


@contextlib.asynccontextmanager
async def watching(client: httpx.AsyncClient, path: str = "", **headers: str) -> AsyncIterator[Events]:
    async with client.stream("GET", f"/console/live/facts{path}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer.aiter_lines())


@pytest.fixture
async def quick(services: Services) -> AsyncIterator[tuple[Services, httpx.AsyncClient]]:
    """The console with room for one listener, who is told four times a second that somebody is there."""
    signals: Signals = services.ledger._signals
    tail = Tail(services.ledger.store, signals, most=1, heartbeat=SHORT)
    changed = msgspec.structs.replace(services, tail=tail)
    async with served(make_app(changed)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield changed, client
        tail.close()


async def test_facts_are_told_as_they_are_committed_without_personal_data_and_again_from_where_a_browser_was(
    browser: Browser, service: Service
):
    body = message(firstName="Zebedee")
    await posted(service.client, body)
    await browser.sign_in(READ)

    async with watching(browser.client) as events:
        # Whoever comes without a position is told what happens from now on.
        await events.silence()
        stream = await posted(service.client, body | {"messageId": "another"})
        fact = await events.next()
        assert fact["words"] == "notification: requested"
        assert fact["href"] == f"/console/notifications/{stream}"
        assert "channel email" in fact["detail"]
        seen, position = events.seen, events.position
    assert "Zebedee" not in seen
    assert "@" not in seen

    await posted(service.client)
    async with watching(browser.client, "?after=0", **{"Last-Event-ID": position}) as events:
        assert (await events.next())["href"] != fact["href"]
        assert int(events.position) > int(position)
    async with watching(browser.client, "?after=0") as events:
        assert [(await events.next())["words"] for _ in range(3)] == ["notification: requested"] * 3
    assert (await browser.get("/console/live/facts?after=x")).status_code == 400

    await browser.get("/console/live")
    assert browser.text.count("notification: requested") == 3
    assert f'href="/console/notifications/{stream}"' in browser.page
    assert 'href="/console/live">Reload' in browser.page


async def test_a_listener_holds_no_connection_takes_one_of_few_places_and_ends_with_the_token(
    quick: tuple[Services, httpx.AsyncClient],
):
    services, client = quick
    # The verifier allows for clocks that differ by half a minute.
    client.cookies.set("console_session", signed(claims(READ, exp=int(time.time()) - 27)))
    async with watching(client) as events:
        await events.silence()
        pool = services.ledger.store._pool
        assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]
        refused = await client.get("/console/live/facts", headers={"Cookie": f"console_session={token(READ)}"})
        assert refused.status_code == 503
        assert "as many watch already" in refused.text
    client.cookies.set("console_session", signed(claims(READ, exp=int(time.time()) - 27)))
    async with watching(client) as events:
        await events.end()
    assert (await client.get("/console/live/facts")).status_code == 303


async def test_whoever_lags_far_behind_is_told_of_a_gap_and_then_the_end_of_the_log(ledger: Ledger):
    await asyncio.gather(*(ledger.append(begun(new_id())) for _ in range(LAST + 10)))
    tail = Tail(ledger.store, ledger._signals, furthest=LAST + 5)

    answers = iter([True, False])

    async def once() -> bool:
        return next(answers)

    told = [each async for each in tail.listen(0, once)]

    head = await ledger.store.head()
    assert told[0] == Skipped(head - LAST)
    assert [each.position for each in told[1:] if isinstance(each, Line)] == list(range(head - LAST + 1, head + 1))


async def test_a_process_that_is_to_end_waits_for_nobody_who_watches(database: Database, tmp_path: Path):
    keys, port = tmp_path / "jwks.json", ports.free()
    keys.write_bytes(msgspec.json.encode(KEYS.as_dict(private=False)))
    settings = {
        "DATABASE_URL": database.url,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": keys.as_uri(),
        "PORT": str(port),
    }
    async with (
        processes.running(tmp_path, **settings) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        process = await running.start("api")
        client.cookies.set("console_session", token(READ))
        async with watching(client) as events:
            asked_at = time.monotonic()
            code = asyncio.create_task(process.stop())
            await events.end()
            took = time.monotonic() - asked_at
        assert await code == 0
        # uvicorn's patience with what is under way is 10 s: it was not needed.
        assert took < 5
