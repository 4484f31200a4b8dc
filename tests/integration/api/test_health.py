import asyncio
import contextlib
import os
import signal
from datetime import timedelta

import httpx
from prometheus_client import CollectorRegistry

from api.app import make_ops_app
from api.health import Readiness
from api.health import database as database_check
from handlers.metrics import Metrics
from ops import embedded
from tests.integration.api.conftest import Service, served


async def test_both_apps_say_how_the_process_is_to_whoever_asks(service: Service):
    ops = make_ops_app(service.services.readiness, CollectorRegistry())
    async with served(ops) as ops_url, httpx.AsyncClient(timeout=60) as client:
        for url in (service.url, ops_url):
            assert (await client.get(f"{url}/health/liveness")).json() == {"status": "alive"}
            assert (await client.get(f"{url}/health/readiness")).json() == {"status": "ready"}
        assert (await client.get(f"{service.url}/metrics")).status_code == 404
        assert (await client.get(f"{ops_url}/v1/notifications")).status_code == 404


async def test_metrics_are_shown_as_prometheus_reads_them(service: Service):
    registry = CollectorRegistry()
    Metrics(registry).messages.labels("OrderShippedEvent", "taken").inc()
    async with (
        served(make_ops_app(service.services.readiness, registry)) as url,
        httpx.AsyncClient(timeout=60) as client,
    ):
        reply = await client.get(f"{url}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert 'notification_ingestion_messages_total{result="taken",type="OrderShippedEvent"} 1.0' in reply.text


async def test_i23_readiness_follows_the_database_and_liveness_does_not(own_postgres: embedded.Server):
    readiness = Readiness({"database": database_check(lambda: own_postgres.database_url)}, kept=timedelta(0))
    async with (
        served(make_ops_app(readiness, CollectorRegistry())) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        assert (await client.get("/health/readiness")).status_code == 200
        pid = own_postgres.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                frozen = await client.get("/health/readiness")
            assert (frozen.status_code, frozen.json()["faults"][0]["path"]) == (503, "database")
            assert (await client.get("/health/liveness")).status_code == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            while (await client.get("/health/readiness")).is_error:
                pass


async def test_i23_a_probe_never_waits_longer_than_its_deadline_and_checks_do_not_pile_up():
    begun = 0
    thawed = asyncio.Event()

    async def hangs() -> str | None:
        """Hang also when cancelled, as a call into a frozen Postgres does."""
        nonlocal begun
        begun += 1
        while not thawed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await thawed.wait()
        return None

    readiness = Readiness({"frozen": hangs}, deadline=timedelta(milliseconds=20), kept=timedelta(0))
    try:
        async with asyncio.timeout(60):
            assert await readiness.reasons() == {"frozen": "does not answer within 0.02 s"}
            for _ in range(5):
                assert await readiness.reasons() == {"frozen": "does not answer"}
        assert begun == 1
    finally:
        thawed.set()
    async with asyncio.timeout(60):
        while await readiness.reasons():
            pass


async def test_probes_at_the_same_moment_share_one_check():
    begun = 0

    async def counted() -> str | None:
        nonlocal begun
        begun += 1
        return None

    readiness = Readiness({"counted": counted})
    assert await asyncio.gather(*(readiness.reasons() for _ in range(20))) == [{}] * 20
    assert begun == 1


async def test_what_a_check_raises_stands_in_the_way_and_repeats_nothing():
    async def raises() -> str | None:
        raise ValueError("postgres://user:secret@host")

    assert await Readiness({"broken": raises}).reasons() == {"broken": "fails: ValueError"}
