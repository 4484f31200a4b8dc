"""A relay that dies: by SIGKILL, when the broker has confirmed a batch and before the position is committed."""

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import timedelta

import structlog
import uvloop

from handlers.publish import Publish
from ledger.follower import Follower
from ledger.mapping import Recorded
from ledger.signals import FACTS
from ops.logs import configure
from ops.settings import load
from ops.wiring import parts

_log = structlog.get_logger("tests.relay")
BATCH = 40


class Dying(Publish):
    """Tells, and ends its process when something was told."""

    async def tell(self, facts: Sequence[Recorded], *, within: timedelta) -> int:
        told = await super().tell(facts, within=within)
        if told:
            os.kill(os.getpid(), signal.SIGKILL)
        return told


async def run() -> None:
    settings = load(dotenv=None)
    async with parts(settings, listen=(FACTS,)) as given:
        publish = Dying(settings.amqp_url, given.ledger.store, given.metrics)
        Follower(settings.database_url, publish, given.signals, batch=BATCH, lease=timedelta(seconds=2)).start()
        _log.info("ready")
        await asyncio.Event().wait()


def main() -> None:
    configure("info")
    uvloop.run(run())
