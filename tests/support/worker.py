"""The same parts as `ops.wiring` builds, with other durations, or with a message that kills: a worker of the tests.

Arguments: [--lease SECONDS] [--deadline SECONDS] [--killer WORD] ROLE…
"""

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import structlog
import uvloop

from handlers.deliver import Deliver
from handlers.ingest import Ingest
from handlers.intake import Result, TakeIn
from handlers.spending import Spending
from handlers.worker import Worker
from ledger.policy import AllowList
from ledger.signals import AGENDA
from ledger.unsubscribing import Links
from ledger.values import Channel, Personal
from ops.logs import configure
from ops.process import stop_on_signals
from ops.routes import open_route
from ops.settings import load
from ops.wiring import Parts, parts, prices_of
from templates.rendering import Rendered, Renderer

_log = structlog.get_logger("tests.worker")


class Killed(TakeIn):
    """Reading a message with this word in it ends the process, as a bug in a library's C code would."""

    def __init__(self, given: Parts, word: bytes) -> None:
        super().__init__(given.ledger, given.catalogue, channels=given.settings.served(), wording=given.wording)
        self._word = word

    async def messages(self, bodies: Sequence[bytes], *, by: str) -> list[Result]:
        if any(self._word in body for body in bodies):
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().messages(bodies, by=by)


class KillingRenderer(Renderer):
    """Rendering a mail with this word in its data ends the process, likewise."""

    def __init__(self, given: Parts, word: str) -> None:
        super().__init__(
            sender=given.catalogue.sender,
            sms_sender=given.settings.sms_sender,
            segments=given.catalogue.sms_segments,
            default_locale=given.catalogue.locale,
        )
        self._word = word

    def render(
        self, name: str, channel: Channel, *, locale: str, personal: Personal, version: str | None = None
    ) -> Rendered:
        if self._word and self._word in str(personal):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().render(name, channel, locale=locale, personal=personal, version=version)


@asynccontextmanager
async def ingesting(given: Parts, *, killer: str) -> AsyncIterator[None]:
    take_in = Killed(given, killer.encode()) if killer else given.take_in
    ingest = Ingest(given.settings.amqp_url, take_in, given.set_aside, given.ledger.clock, given.metrics)
    task = asyncio.create_task(ingest.run())
    try:
        yield
    finally:
        ingest.stop()
        await task


@asynccontextmanager
async def delivering(given: Parts, *, lease: timedelta, deadline: timedelta, killer: str) -> AsyncIterator[None]:
    renderer = KillingRenderer(given, killer)
    async with AsyncExitStack() as stack:
        for channel in sorted(given.settings.served()):
            await stack.enter_async_context(_delivering_on(channel, given, renderer, lease=lease, deadline=deadline))
        yield


@asynccontextmanager
async def _delivering_on(
    channel: Channel, given: Parts, renderer: Renderer, *, lease: timedelta, deadline: timedelta
) -> AsyncIterator[None]:
    route = await open_route(channel, given.settings, given.ledger, deadline=deadline)
    allowed = AllowList(given.settings.allow_list(), given.settings.countries())
    spending = Spending(prices_of(given.settings), given.settings.caps(), route.channel)
    deliver = Deliver(
        given.ledger,
        renderer,
        route,
        allowed=allowed,
        metrics=given.metrics,
        spending=spending,
        wording=given.wording,
        links=Links(given.ledger.identity, given.settings.public_url),
        ceiling=given.settings.recipient_ceiling,
    )
    worker = Worker(given.ledger, deliver, given.signals, metrics=given.metrics, lease=lease)
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        deliver.stop()
        worker.stop()
        await task
        await route.aclose()


async def run(arguments: argparse.Namespace) -> None:
    stopping = stop_on_signals()
    async with parts(load(dotenv=None), listen=(AGENDA,)) as given, AsyncExitStack() as stack:
        if "deliver" in arguments.roles:
            durations = {"lease": arguments.lease, "deadline": arguments.deadline}
            await stack.enter_async_context(delivering(given, **durations, killer=arguments.killer))
        if "ingest" in arguments.roles:
            await stack.enter_async_context(ingesting(given, killer=arguments.killer))
        _log.info("ready", roles=arguments.roles)
        await stopping.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument("roles", nargs="+", choices=("ingest", "deliver"), metavar="ROLE")
    parser.add_argument("--lease", type=_seconds, default=timedelta(seconds=60))
    parser.add_argument("--deadline", type=_seconds, default=timedelta(seconds=8))
    parser.add_argument("--killer", default="", help="the word that ends the process")
    arguments = parser.parse_args()
    configure("info")
    uvloop.run(run(arguments))


def _seconds(text: str) -> timedelta:
    return timedelta(seconds=float(text))
