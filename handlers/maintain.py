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
# What has failed does not wait for its turn, which may be an hour away.
AGAIN_AFTER = timedelta(minutes=1)


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
        again_after: timedelta = AGAIN_AFTER,
    ) -> None:
        self._again_after = again_after
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
        """Run one job now, unless another replica is at it; trouble is logged and counted, and it is tried again."""
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
        except Exception as exc:  # noqa: BLE001 - whatever it was: the other jobs go on, and so does this one
            self._metrics.maintenance_failures.labels(name).inc()
            _log.warning("job_failed", job=name, error=type(exc).__name__)
            self._again(name)

    def _again(self, name: str) -> None:
        job, soon = self._scheduler.get_job(name), datetime.now(UTC) + self._again_after
        if job is not None and soon < job.next_run_time:
            job.modify(next_run_time=soon)
