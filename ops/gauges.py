"""Gauges that are read from the database: what is due, what waits for a person, how far behind the readers are."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge
from psycopg import AsyncConnection

from handlers.publish import OUTBOX
from handlers.spending import Cap, day_of
from ledger import agenda, erasure, follower
from ledger.follower import View
from ledger.ledger import Ledger
from ledger.set_aside import SetAside
from providers import limits

# How many weeks from the next one on have their partition, up to the first that has none; more than 60 count as 60.
_WEEKS_AHEAD = """
SELECT coalesce(min(week) - 1, 60)
FROM generate_series(1, 60) AS week,
     to_char(date_trunc('week', now() AT TIME ZONE 'UTC') + week * interval '7 days', '_IYYY"w"IW') AS suffix
WHERE NOT EXISTS (
    SELECT FROM pg_inherits WHERE inhparent = 'ledger.stored_events'::regclass
                              AND inhrelid = to_regclass('ledger.stored_events' || suffix)
)
"""
# What is held waits for hours; to find it, or to count all, the whole agenda must be looked at.
_HELD_COUNTED, _COUNTED_EVERY = 1_000, timedelta(minutes=1)
# Of one channel and lane, so many that are due are counted each time.
_DUE_COUNTED = 1_000
_EVERY = timedelta(seconds=5)
# The share of a daily cap at which somebody should hear of it.
_NEAR = 0.8
_log = structlog.get_logger("ops.gauges")


class Gauges:
    """Refreshes the gauges of the whole installation; the role `maintain` does it."""

    def __init__(
        self,
        registry: CollectorRegistry,
        ledger: Ledger,
        set_aside: SetAside,
        *views: View,
        caps: Sequence[Cap] = (),
        has_archive: bool = False,
    ) -> None:
        self._ledger = ledger
        self._set_aside = set_aside
        self._views = views
        self._caps = caps
        self._has_archive = has_archive
        self._near: set[tuple[datetime, str]] = set()
        self._count_at = 0.0
        self._due_then: dict[tuple[str, str], int] = {}
        lanes = ("channel", "lane")
        self._due = Gauge(
            "notification_agenda_due",
            "Rows that can be claimed now; more than 1,000 are counted once a minute.",
            lanes,
            registry=registry,
        )
        self._rows = Gauge(
            "notification_agenda_rows", "All rows of the agenda, counted once a minute.", lanes, registry=registry
        )
        self._oldest = Gauge(
            "notification_agenda_oldest_due_seconds", "How long the oldest has been due.", lanes, registry=registry
        )
        self._claimed = Gauge(
            "notification_agenda_claimed", "Rows that a process has in hand.", lanes, registry=registry
        )
        self._held = Gauge(
            "notification_agenda_held", "Doubts that wait for a person; 1,000 stands for more.", registry=registry
        )
        self._dead = Gauge(
            "notification_dead_letters_waiting", "Refused messages nobody decided on.", registry=registry
        )
        self._unmatched = Gauge("notification_reports_unmatched", "Reports that match nothing.", registry=registry)
        named = ("view",)
        self._lag = Gauge("notification_projection_lag_events", "Positions not folded.", named, registry=registry)
        self._age = Gauge("notification_projection_lag_seconds", "Age of the first of them.", named, registry=registry)
        self._parked = Gauge("notification_projection_parked", "Streams left out.", named, registry=registry)
        self._outbox = Gauge("notification_outbox_depth", "Positions not published.", registry=registry)
        self._outbox_age = Gauge("notification_outbox_age_seconds", "Age of the first of them.", registry=registry)
        self._outbox_parked = Gauge("notification_outbox_parked", "Streams left out.", registry=registry)
        by_provider = ("provider",)
        self._breaker = Gauge(
            "notification_provider_breaker_open",
            "1 while calls of the provider are stopped because they failed.",
            by_provider,
            registry=registry,
        )
        self._shut = Gauge(
            "notification_provider_shut_seconds",
            "How long the provider is still not to be called: its breaker, or a pause that it asked for.",
            by_provider,
            registry=registry,
        )
        self._paused = Gauge(
            "notification_paused",
            "1 for each pause in force; what a label does not name is paused whatever it is.",
            ("type", "channel", "provider"),
            registry=registry,
        )
        self._spent = Gauge(
            "notification_spend_ratio",
            "The share of a daily cap that is spent, by the price list; without a country, of the whole channel.",
            ("channel", "country"),
            registry=registry,
        )
        self._erasures = Gauge(
            "notification_erasures_not_copied_seconds",
            "Age of the oldest erasure that the list beside the archive does not name; 0 without one, or an archive.",
            registry=registry,
        )
        self._refreshed = Gauge(
            "notification_gauges_refreshed_timestamp_seconds",
            "When the gauges that are read from the database were last right.",
            registry=registry,
        )
        self._weeks = Gauge(
            "notification_database_weeks_ahead",
            "Weeks after this one that have their partition: at 0 nothing can be taken in once this week is over.",
            registry=registry,
        )

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            try:
                await self.refresh()
            except Exception as exc:  # noqa: BLE001 - what cannot be shown is no reason to end what is shown
                _log.warning("gauges_stale", error=type(exc).__name__)
            await asyncio.sleep(_EVERY.total_seconds())

    async def refresh(self) -> None:
        """Read everything once."""
        async with self._ledger.store.connection() as connection:
            if time.monotonic() >= self._count_at:
                self._count_at = time.monotonic() + _COUNTED_EVERY.total_seconds()
                await self._count_all(connection)
            depths = await agenda.depth(connection, most=_DUE_COUNTED)
            lags = [(view.name, await follower.lag(connection, view)) for view in self._views]
            providers = await limits.states(connection)
            outbox = await follower.lag(connection, OUTBOX)
            if self._has_archive:
                self._erasures.set((await erasure.not_copied(connection))[1])
            ((weeks,),) = await (await connection.execute(_WEEKS_AHEAD)).fetchall()
        self._weeks.set(weeks)
        for provider in providers:
            self._breaker.labels(provider.provider).set(provider.tripped)
            self._shut.labels(provider.provider).set(provider.shut_for)
        for depth in depths:
            due = self._due_then.get((depth.channel, depth.lane), 0) if depth.due == _DUE_COUNTED else 0
            self._due.labels(depth.channel, depth.lane).set(max(depth.due, due))
            self._claimed.labels(depth.channel, depth.lane).set(depth.claimed)
            self._oldest.labels(depth.channel, depth.lane).set(depth.oldest_due)
        self._paused.clear()
        for pause in (await self._ledger.look_at_operations()).pauses:
            self._paused.labels(pause.type or "", pause.channel or "", pause.provider or "").set(1)
        for name, lag in lags:
            self._lag.labels(name).set(lag.events)
            self._age.labels(name).set(lag.age.total_seconds())
            self._parked.labels(name).set(lag.parked)
        self._outbox.set(outbox.events)
        self._outbox_age.set(outbox.age.total_seconds())
        self._outbox_parked.set(outbox.parked)
        await self._refresh_spending()
        self._dead.set(await self._set_aside.waiting())
        self._unmatched.set(await self._set_aside.unmatched())
        self._refreshed.set_to_current_time()

    async def _count_all(self, connection: AsyncConnection[Any]) -> None:
        self._held.set(len(await agenda.held(connection, limit=_HELD_COUNTED)))
        self._rows.clear()
        self._due_then.clear()
        for size in await agenda.sizes(connection):
            self._rows.labels(size.channel, size.lane).set(size.rows)
            self._due_then[size.channel, size.lane] = size.due

    async def _refresh_spending(self) -> None:
        today = day_of(await self._ledger.store.now())
        used = await self._ledger.store.used({cap.key: today for cap in self._caps}) if self._caps else {}
        self._near = {known for known in self._near if known[0] == today}
        for cap in self._caps:
            # Under a cap of 0 nothing is ever spent: it is meant to stop all, and nobody need hear of it.
            ratio = float(used.get(cap.key, 0) / cap.limit) if cap.limit else 0.0
            self._spent.labels(cap.channel.value, cap.country or "").set(ratio)
            if ratio >= _NEAR and (today, cap.key) not in self._near:
                self._near.add((today, cap.key))
                _log.warning("spend_cap_near", channel=cap.channel.value, country=cap.country, ratio=round(ratio, 3))
