"""Gauges of one process: what it runs, whether it is ready, its clock and its pool. Read at the moment of a scrape."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.health import Readiness
from ledger.clock import Clock

_POOL = ("pool_size", "pool_available", "requests_waiting")


def show_vitals(
    registry: CollectorRegistry,
    roles: Iterable[str],
    readiness: Readiness,
    clock: Clock,
    pool: AsyncConnectionPool[AsyncConnection[Any]],
) -> None:
    """Register the gauges of a process that runs these roles."""

    def skew() -> float:
        return clock.skew.total_seconds()

    def in_state(state: str) -> float:
        return float(pool.get_stats().get(state, 0))

    running = Gauge("notification_role", "1 for each role that this process runs.", ("role",), registry=registry)
    for role in roles:
        running.labels(role).set(1)
    Gauge(
        "notification_ready",
        "1 while this process can do its work: the database answers, the clocks agree, and `ingest` has its broker.",
        registry=registry,
    ).set_function(lambda: readiness.ready)
    Gauge(
        "notification_clock_skew_seconds",
        "How far this machine's clock is off the database's; a process that is more than 30 s off claims nothing.",
        registry=registry,
    ).set_function(skew)
    connections = Gauge(
        "notification_database_pool",
        "Connections of this process's reading pool, and who waits for one.",
        ("state",),
        registry=registry,
    )
    for state in _POOL:
        connections.labels(state).set_function(partial(in_state, state))
