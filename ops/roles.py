"""What each role of a process does while it runs, made of the parts that the composition root has built."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import aiohttp
import structlog

from api.app import make_app, make_ops_app
from api.health import Check, Readiness, database
from api.jwks import Fetch, JwksKeys, fetch_from
from api.services import Services
from api.sessions import Sessions
from api.tail import Tail
from api.tokens import Authenticator
from handlers.dead_letters import DeadLetters
from handlers.deliver import Deliver
from handlers.ingest import Ingest
from handlers.maintain import Maintain
from handlers.publish import BATCH, Publish
from handlers.spending import Spending
from handlers.worker import Worker
from ledger import queues
from ledger.follower import Follower, prepare
from ledger.policy import AllowList
from ledger.reads import Reads
from ledger.recovery import under_way
from ledger.unsubscribing import Links
from ledger.values import Channel
from ops.errors import OperationError
from ops.gauges import Gauges
from ops.jobs import jobs_of
from ops.routes import open_route, reaching, renew_by
from ops.serving import serving
from ops.settings import Settings
from ops.vitals import show_vitals
from ops.wiring import Parts, bulk_of, dry_run_of, pauses_of, prices_of, renderer_of, send_test_of, templates_of
from projections.views import all_views, pace_of
from providers.fcm_receipts import FcmReceipts
from providers.pricing import Prices
from providers.ses_callbacks import SesCallbacks
from providers.sns import Fetcher, Verifier
from providers.twilio_callbacks import TwilioCallbacks
from templates.message_schemas import message_schemas
from templates.rendering import Renderer

ROLES = ("api", "ingest", "deliver", "project", "maintain")

_log = structlog.get_logger("ops.roles")


# Each role is a block: it works while the block runs, and leaves nothing half done at its end.


class Roles:
    """The roles of one process. When the work of one ends by itself, `failed` is called: the process is to end.

    `offered` mints a token for whoever asks the console for one: a sandbox's, and no setting can bring it about.
    """

    def __init__(self, given: Parts, failed: Callable[[], None], *, offered: Callable[[], str] | None = None) -> None:
        self._parts = given
        self._offered = offered
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._tell = failed
        self._checks: dict[str, Check] = {"database": database(lambda: given.reloading.settings.database_url)}
        self.failed = False

    def of(self, role: str) -> AbstractAsyncContextManager[None]:
        """Return the block of a role."""
        blocks: dict[str, Callable[[], AbstractAsyncContextManager[None]]] = {
            "api": self._api,
            "ingest": self._ingest,
            "deliver": self._deliver,
            "project": self._project,
            "maintain": self._maintain,
        }
        return blocks[role]()

    def _watch(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks[task] = name
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        error = _failure(task)
        if error is not None:
            _log.error("role_failed", role=name, exc_info=error)
            self.failed = True
            self._tell()

    @asynccontextmanager
    async def _deliver(self) -> AsyncIterator[None]:
        given, settings = self._parts, self._parts.settings
        stored = await given.ledger.store.installation()
        if stored is None or stored[0] != settings.installation:
            raise OperationError("INSTALLATION differs from the database's own: a copied database mails nobody")
        async with given.ledger.store.connection() as connection:
            if since := await under_way(connection):
                raise OperationError(f"a recovery has not ended: run `recover --since {since.isoformat()}` again")
        renderer, prices = renderer_of(settings, given.catalogue), prices_of(settings)
        async with AsyncExitStack() as stack:
            for channel in sorted(settings.served()):
                await stack.enter_async_context(self._deliver_on(channel, renderer, prices))
            yield

    @asynccontextmanager
    async def _deliver_on(self, channel: Channel, renderer: Renderer, prices: Prices) -> AsyncIterator[None]:
        """Deliver one channel; each has slots and providers of its own, and none waits for another's (promise I21)."""
        given, settings = self._parts, self._parts.settings
        route = await open_route(channel, settings, given.ledger)
        for provider, rate in route.rates.items():
            given.metrics.rate_limit.labels(provider).set(rate)
        renew_by(given.reloading, route)
        allowed = AllowList(settings.allow_list(), settings.countries())
        deliver = Deliver(
            given.ledger,
            renderer,
            route,
            allowed=allowed,
            metrics=given.metrics,
            spending=Spending(prices, settings.caps(), channel),
            wording=given.wording,
            links=Links(given.ledger.identity, settings.public_url),
            ceiling=settings.recipient_ceiling,
        )
        worker = Worker(given.ledger, deliver, given.signals, metrics=given.metrics, slots=settings.delivery_slots)
        task = self._watch(worker.run(), f"deliver {channel}")
        try:
            yield
        finally:
            deliver.stop()
            worker.stop()
            await asyncio.wait([task])
            await route.aclose()

    @asynccontextmanager
    async def _ingest(self) -> AsyncIterator[None]:
        given = self._parts
        ingest = Ingest(
            given.settings.amqp_url,
            given.take_in,
            given.set_aside,
            given.ledger.clock,
            given.metrics,
            tell=partial(queues.seen, given.ledger.store),
        )
        given.reloading.on("amqp_url", lambda now: ingest.use_url(now.amqp_url))
        task = self._watch(ingest.run(), "ingest")
        self._checks["broker"] = ingest.consuming
        try:
            yield
        finally:
            ingest.stop()
            await asyncio.wait([task])

    @asynccontextmanager
    async def _project(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for view in all_views():
                follower = Follower(self._parts.settings.database_url, view, self._parts.signals, pace=pace_of(view))
                self._parts.reloading.on("database_url", partial(_use_database, follower))
                follower.start()
                stack.push_async_callback(follower.stop)
            if self._parts.settings.amqp_url:
                await stack.enter_async_context(self._publish())
            yield

    @asynccontextmanager
    async def _publish(self) -> AsyncIterator[None]:
        given, settings = self._parts, self._parts.settings
        publish = Publish(settings.amqp_url, given.ledger.store, given.metrics)
        relay = Follower(settings.database_url, publish, given.signals, batch=BATCH)
        given.reloading.on("amqp_url", lambda now: publish.use_url(now.amqp_url))
        given.reloading.on("database_url", lambda now: relay.use_url(now.database_url))
        relay.start()
        watch = self._watch(publish.watch_unrouted(), "unrouted")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            await relay.stop()
            await publish.aclose()

    @asynccontextmanager
    async def _maintain(self) -> AsyncIterator[None]:
        given = self._parts
        store, renewed = given.ledger.store, given.reloading
        more = jobs_of(
            given.settings, store, given.archive, given.metrics, bulk=bulk_of(given), now=lambda: renewed.settings
        )
        maintain = Maintain(given.ledger, given.receive, given.set_aside, given.metrics, more=more)
        gauges = Gauges(
            given.registry,
            given.ledger,
            given.set_aside,
            *all_views(),
            caps=given.settings.caps(),
            has_archive=bool(given.settings.archive_url),
        )
        maintain.start()
        task = self._watch(gauges.run(), "gauges")
        try:
            yield
        finally:
            maintain.stop()
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def _api(self) -> AsyncIterator[None]:
        given, settings = self._parts, self._parts.settings
        async with given.ledger.store.connection() as connection:
            # Lists are asked for before the first `project` has ever run, too.
            for view in all_views():
                await prepare(connection, view)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            keys = JwksKeys(_fetch_keys(session, settings.jwt_jwks_url))
            keys.start()
            stack.push_async_callback(keys.stop)
            fetcher = await Fetcher.open()
            stack.push_async_callback(fetcher.aclose)
            verifier = Verifier(topics=settings.topics(), fetch=fetcher, origin=settings.ses_certificate_origin or None)
            twilio = TwilioCallbacks(public_url=settings.public_url, secrets=settings.twilio_callback_secrets())
            for name in ("twilio_auth_token", "twilio_shared_key"):
                given.reloading.on(name, lambda now: twilio.use_secrets(now.twilio_callback_secrets()))
            templates = templates_of(given)
            tail = Tail(given.ledger.store, given.signals)
            services = Services(
                ledger=given.ledger,
                archive=given.archive,
                keys=given.keys,
                reads=Reads(given.ledger.store),
                set_aside=given.set_aside,
                dead_letters=DeadLetters(given.set_aside, given.take_in),
                take_in=given.take_in,
                dry_run=dry_run_of(given),
                bulk=bulk_of(given),
                schemas=message_schemas(given.catalogue, channels=settings.served()),
                receive=given.receive,
                pauses=pauses_of(given),
                templates=templates,
                send_test=send_test_of(given, templates),
                test_recipients=AllowList(settings.testers()),
                reach=reaching(settings, given.ledger),
                ses=SesCallbacks(verifier),
                twilio=twilio,
                replies=twilio,
                receipts=FcmReceipts(given.ledger.identity, given.ledger.clock),
                authenticator=Authenticator(
                    keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, clock=given.ledger.clock
                ),
                sessions=Sessions(given.ledger.identity, public_url=settings.public_url, offered=self._offered),
                tail=tail,
                readiness=Readiness(self._checks_of_api()),
                metrics=given.metrics,
            )
            await stack.enter_async_context(serving(make_app(services), host=settings.host, port=settings.port))
            # Whoever watches the log would hold up the end of everything that is under way.
            stack.callback(tail.close)
            yield

    @asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Take over secrets that change while the block runs."""
        task = self._watch(self._parts.reloading.run(), "reloading")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def wording(self) -> AsyncIterator[None]:
        """Keep the words of this release, and learn what is published while the block runs."""
        await self._parts.wording.keep_shipped()
        task = self._watch(self._parts.wording.run(self._parts.signals), "wording")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def operations(self, roles: Collection[str]) -> AbstractAsyncContextManager[None]:
        """Return the block that serves health and metrics of a process that runs these roles."""
        given, settings = self._parts, self._parts.settings
        # A process that serves HTTP has work as long as the database answers, whatever becomes of the broker.
        readiness = Readiness(self._checks_of_api() if "api" in roles else self._checks)
        show_vitals(given.registry, roles, readiness, given.ledger.clock, given.pool)
        app = make_ops_app(readiness, given.registry)
        return serving(app, host=settings.host, port=settings.ops_port)

    def _checks_of_api(self) -> dict[str, Check]:
        return {"database": self._checks["database"]}


def _use_database(follower: Follower, settings: Settings) -> None:
    follower.use_url(settings.database_url)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """Return what a task failed by; a cancellation is a failure where nobody here asked for it."""
    try:
        return task.exception()
    except asyncio.CancelledError as exc:
        return None if task.cancelling() else exc


def _fetch_keys(session: aiohttp.ClientSession, url: str) -> Fetch:
    """Return how the issuer's keys are got: over HTTP, or from a file (a sandbox is its own issuer)."""
    if not url.startswith("file:"):
        return fetch_from(url, session)
    path = Path(url2pathname(urlsplit(url).path))

    async def read() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return read
