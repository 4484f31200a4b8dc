"""Health as an orchestrator asks for it: alive while the loop runs, ready while what it needs answers (promise I23)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from litestar import Response, get
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from api.problems import UNAVAILABLE, AnyRequest, ProblemError
from ledger.store import connect
from templates.envelope import Fault

DEADLINE = timedelta(seconds=2)
KEPT = timedelta(seconds=1)
MOST_SKEW = timedelta(seconds=30)

# Returns what stands in the way, None when nothing does. What it raises stands in the way too.
Check = Callable[[], Awaitable[str | None]]

_log = structlog.get_logger("api.health")


class Readiness:
    """Asks its checks, all at once, at most once a second and never longer than their deadline."""

    def __init__(self, checks: Mapping[str, Check], *, deadline: timedelta = DEADLINE, kept: timedelta = KEPT) -> None:
        self._checks = {name: _Asked(check, deadline) for name, check in checks.items()}
        self._kept = kept.total_seconds()
        self._asking: asyncio.Task[dict[str, str]] | None = None
        self._known: dict[str, str] = {}
        self._known_until = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether nothing stood in the way when it was last asked."""
        return self._asking is not None and not self._known

    async def reasons(self) -> dict[str, str]:
        """Return what stands in the way, by check; empty = ready."""
        if time.monotonic() < self._known_until:
            return self._known
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[str, str]:
        answers = await asyncio.gather(*(check.ask() for check in self._checks.values()))
        known = {name: answer for name, answer in zip(self._checks, answers, strict=True) if answer is not None}
        if known != self._known:
            _log.warning("readiness_changed", reasons=known)
        self._known, self._known_until = known, time.monotonic() + self._kept
        return known


class _Asked:
    """One check. One that hangs is left behind, not waited for: a frozen Postgres holds even a cancelled call."""

    def __init__(self, check: Check, deadline: timedelta) -> None:
        self._check = check
        self._deadline = deadline.total_seconds()
        self._task: asyncio.Task[str | None] | None = None

    async def ask(self) -> str | None:
        if self._task is not None and not self._task.done():
            return "does not answer"
        self._task = asyncio.create_task(self._run())
        await asyncio.wait({self._task}, timeout=self._deadline)
        if not self._task.done():
            self._task.cancel()
            return f"does not answer within {self._deadline:g} s"
        return self._task.result()

    async def _run(self) -> str | None:
        try:
            return await self._check()
        except asyncio.CancelledError:
            return "does not answer"
        except Exception as exc:  # noqa: BLE001 - whatever it is, we are not ready
            return f"fails: {type(exc).__name__}"


def database(url: Callable[[], str]) -> Check:
    """Return the check of the database, by a connection of its own: a pool's may be taken, or look sound and be dead.

    A machine whose clock is far off the database's is not ready either (promise I24).
    """

    async def check() -> str | None:
        async with await connect(url()) as connection:
            row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
        skew = abs(datetime.now(UTC) - row[0]) if row else timedelta.max
        return None if skew <= MOST_SKEW else f"this machine's clock is {skew.total_seconds():.0f} s off"

    return check


class Health(msgspec.Struct, frozen=True):
    """How the process is."""

    status: str


@get("/health/liveness", tags=["health"], summary="Whether the process runs")
async def liveness() -> Health:
    return Health("alive")


@get("/health/readiness", tags=["health"], summary="Whether it can do its work now")
async def readiness(request: AnyRequest) -> Health:
    checks: Readiness = request.app.state["readiness"]
    reasons = await checks.reasons()
    if reasons:
        raise ProblemError(UNAVAILABLE, "not ready", faults=[Fault(name, why) for name, why in reasons.items()])
    return Health("ready")


@get("/metrics", include_in_schema=False)
async def metrics(request: AnyRequest) -> Response[bytes]:
    checks: Readiness = request.app.state["readiness"]
    registry: CollectorRegistry = request.app.state["registry"]
    await checks.reasons()  # what is shown of it is of now
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
