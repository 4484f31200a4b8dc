"""The clock: what must happen from time to time. Every job may run twice, anywhere; one replica runs it at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from handlers.metrics import Metrics
from handlers.receive import Receive
from ledger import chain
from ledger.ledger import Ledger
from ledger.set_aside import SetAside

_log = structlog.get_logger("handlers.maintain")
Job = Callable[[], Awaitable[object]]


class Maintain:
    """Runs the jobs of this release: weeks made ahead, facts sealed, unmatched reports tried again, old rows gone.

    `more` are jobs that know what is not known here.
    """

    def __init__(
        self,
        ledger: Ledger,
        receive: Receive,
        set_aside: SetAside,
        metrics: Metrics,
        *,
        more: Mapping[str, tuple[timedelta, Job]] | None = None,
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
        self.jobs: dict[str, tuple[timedelta, Job]] = {
            "make_weeks": (timedelta(hours=1), ledger.store.make_weeks),
            "extend_chain": (timedelta(seconds=10), partial(chain.extend, ledger.store)),
            "try_unmatched_reports": (timedelta(seconds=5), receive.try_unmatched),
            "purge_intake": (timedelta(hours=1), ledger.store.purge_intake),
            "purge_set_aside": (timedelta(hours=1), set_aside.purge),
            **(more or {}),
        }

    def start(self) -> None:
        """Begin; every job runs at once and then at its interval."""
        for name, (every, _) in self.jobs.items():
            # What never comes to its end is seen by that.
            self._metrics.maintenance_succeeded.labels(name).set(0)
            self._scheduler.add_job(
                self.run,
                "interval",
                args=(name,),
                seconds=every.total_seconds(),
                id=name,
                # Left alone, the first run would come only after the interval.
                next_run_time=datetime.now(UTC),
            )
        self._scheduler.start()

    def stop(self) -> None:
        """End; a job under way is finished by its own transaction or not at all."""
        self._scheduler.shutdown(wait=False)

    async def run(self, name: str) -> None:
        """Run one job now, unless another replica is at it; trouble is logged and counted, and its next turn comes."""
        _, job = self.jobs[name]
        begun = time.monotonic()
        try:
            async with self._ledger.store.leased(f"maintain.{name}") as ours:
                if not ours:
                    return
                await job()
            self._metrics.maintenance_seconds.labels(name).set(time.monotonic() - begun)
            self._metrics.maintenance_succeeded.labels(name).set_to_current_time()
        except asyncio.CancelledError:
            # The process ends, which is no fault: another one takes it up. The scheduler would call it an error.
            return
        except Exception as exc:  # noqa: BLE001 - whatever it was: the other jobs, and its next turn, go on
            self._metrics.maintenance_failures.labels(name).inc()
            _log.warning("job_failed", job=name, error=type(exc).__name__)
