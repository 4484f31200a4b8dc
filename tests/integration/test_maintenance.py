"""What the clock leaves behind for those who watch: a count of what failed, and how far ahead the weeks are made."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql
from structlog.testing import capture_logs

from handlers.maintain import Maintain
from handlers.metrics import Metrics
from handlers.receive import Receive
from ops.gauges import Gauges
from projections.notification_log import NotificationLog
from tests.integration.ledger.parts import running_ledger, set_aside_in
from tests.support.postgres import Database


async def _broken() -> None:
    raise ValueError("ada@example.com")


async def test_i13_a_job_that_fails_in_any_way_is_counted_and_logged_by_its_type_and_the_others_go_on(
    database: Database,
):
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    async with running_ledger(database.url) as ledger:
        set_aside = set_aside_in(ledger.store)
        maintain = Maintain(ledger, Receive(ledger, set_aside, metrics), set_aside, metrics)
        maintain.jobs["purge_intake"] = (timedelta(hours=1), _broken)
        with capture_logs() as logs:
            for job in maintain.jobs:
                await maintain.run(job)
    failures = {
        job: registry.get_sample_value("notification_maintenance_failures_total", {"job": job}) for job in maintain.jobs
    }
    assert {job: count for job, count in failures.items() if count} == {"purge_intake": 1}
    succeeded = {
        job: registry.get_sample_value("notification_maintenance_last_success_timestamp_seconds", {"job": job})
        for job in maintain.jobs
    }
    assert {job for job, at in succeeded.items() if not at} == {"purge_intake"}
    assert logs == [{"event": "job_failed", "job": "purge_intake", "error": "ValueError", "log_level": "warning"}]


async def test_a_job_that_another_replica_is_at_is_left_to_it_and_not_called_a_success(database: Database):
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    begun, ended = asyncio.Event(), asyncio.Event()
    runs = 0

    async def long() -> None:
        nonlocal runs
        runs += 1
        begun.set()
        await ended.wait()

    async with running_ledger(database.url) as ledger:
        set_aside = set_aside_in(ledger.store)
        more = {"long": (timedelta(hours=1), long)}
        one, other = (
            Maintain(ledger, Receive(ledger, set_aside, metrics), set_aside, metrics, more=more) for _ in range(2)
        )
        first = asyncio.create_task(one.run("long"))
        await begun.wait()
        await other.run("long")
        told = registry.get_sample_value("notification_maintenance_last_success_timestamp_seconds", {"job": "long"})
        assert (runs, told) == (1, None)
        ended.set()
        await first
        await other.run("long")
    assert runs == 2


async def test_i13_all_jobs_at_once_wait_for_none_of_their_kind_however_few_connections_there_are(database: Database):
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    async with running_ledger(database.url) as ledger:
        set_aside = set_aside_in(ledger.store)
        maintain = Maintain(ledger, Receive(ledger, set_aside, metrics), set_aside, metrics)
        # The pool of the tests has four connections.
        assert len(maintain.jobs) > 4
        await asyncio.gather(*(maintain.run(job) for job in maintain.jobs))
    for job in maintain.jobs:
        assert registry.get_sample_value("notification_maintenance_last_success_timestamp_seconds", {"job": job})


async def test_a_job_that_is_under_way_when_the_process_ends_is_no_error_in_the_log_and_was_never_done(
    database: Database, caplog: pytest.LogCaptureFixture
):
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running_ledger(database.url) as ledger:
        set_aside = set_aside_in(ledger.store)
        maintain = Maintain(ledger, Receive(ledger, set_aside, metrics), set_aside, metrics)
        maintain.jobs = {"long": (timedelta(hours=1), long)}
        before = asyncio.all_tasks()
        maintain.start()
        await begun.wait()
        jobs = asyncio.all_tasks() - before
        maintain.stop()
        await asyncio.wait(jobs)
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == []
    assert registry.get_sample_value("notification_maintenance_last_success_timestamp_seconds", {"job": "long"}) == 0


async def test_the_weeks_that_lie_ahead_are_counted_up_to_the_first_that_is_missing(database: Database):
    registry = CollectorRegistry()
    async with running_ledger(database.url) as ledger:
        gauges = Gauges(registry, ledger, set_aside_in(ledger.store), NotificationLog())
        seen = []
        for missing in (None, 8, 3, 1):
            if missing:
                _drop_week(database, ahead=missing)
            await gauges.refresh()
            seen.append(registry.get_sample_value("notification_database_weeks_ahead"))
    assert seen == [8, 7, 2, 0]


def _drop_week(database: Database, *, ahead: int) -> None:
    year, week, _ = (datetime.now(UTC) + timedelta(weeks=ahead)).isocalendar()
    table = sql.Identifier("ledger", f"stored_events_{year}w{week:02}")
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(table))


async def test_i13_a_job_that_has_failed_runs_again_soon_and_not_at_its_next_turn(database: Database):
    metrics = Metrics(CollectorRegistry())
    runs, done = 0, asyncio.Event()

    async def second_time_right() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError
        done.set()

    async with running_ledger(database.url) as ledger:
        set_aside = set_aside_in(ledger.store)
        receive = Receive(ledger, set_aside, metrics)
        maintain = Maintain(ledger, receive, set_aside, metrics, again_after=timedelta(milliseconds=10))
        maintain.jobs = {"unlucky": (timedelta(hours=1), second_time_right)}
        maintain.start()
        await asyncio.wait_for(done.wait(), timeout=60)
        maintain.stop()
    assert runs == 2
