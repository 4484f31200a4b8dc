import asyncio
from typing import cast

from structlog.testing import capture_logs

from ops.roles import Roles
from ops.wiring import Parts


async def test_i13_work_that_is_cancelled_by_what_it_waits_for_ends_the_process():
    told: list[str] = []
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with capture_logs() as logs:
        running = _roles(told)
        work = running._watch(_waiting_for(gone), "ingest")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([work])
    assert (running.failed, told) == (True, ["failed"])
    assert [(line["event"], line["role"]) for line in logs] == [("role_failed", "ingest")]


async def test_work_that_its_role_cancels_has_not_failed():
    told: list[str] = []
    with capture_logs() as logs:
        running = _roles(told)
        work = running._watch(_waiting_for(asyncio.get_running_loop().create_future()), "gauges")
        work.cancel()
        await asyncio.wait([work])
    assert (running.failed, told, logs) == (False, [], [])


def _roles(told: list[str]) -> Roles:
    """Roles of which none is begun: watching needs no parts."""
    return Roles(cast("Parts", None), lambda: told.append("failed"))


async def _waiting_for(future: asyncio.Future[None]) -> None:
    await future
