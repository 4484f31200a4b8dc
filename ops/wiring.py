"""The composition root: builds, from the settings, the parts that every role is made of."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Info
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from handlers.bulk import Bulk
from handlers.dry_run import Carrier, DryRun
from handlers.intake import TakeIn
from handlers.metrics import Metrics
from handlers.pauses import Pauses
from handlers.receive import Receive
from handlers.spending import Spending, faults_of
from handlers.templates import Templates
from handlers.test_sends import SendTest
from handlers.wording import Wording
from ledger.archive import Archive
from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger
from ledger.policy import AllowList
from ledger.set_aside import SetAside
from ledger.signals import Signals
from ledger.store import Store, connect, installation_in, make_pool
from ops.errors import NotReadyError, SettingsError
from ops.reloading import Reloading
from ops.routes import providers_of
from ops.settings import Settings
from ops.shelves import open_shelf
from providers.pricing import PriceListError, Prices
from providers.pricing import load as load_prices
from templates.catalogue import Catalogue, load
from templates.files import MESSAGES
from templates.rendering import Renderer
from templates.vetting import Vetter

# Every provider that a release may call, whether this installation does or not.
PROVIDERS = frozenset({"ses", "smtp", "twilio", "fcm"})

_log = structlog.get_logger("ops.wiring")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What every role is made of."""

    settings: Settings
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    ledger: Ledger
    keys: Keys
    signals: Signals
    set_aside: SetAside
    catalogue: Catalogue
    wording: Wording
    registry: CollectorRegistry
    metrics: Metrics
    take_in: TakeIn
    receive: Receive
    reloading: Reloading
    archive: Archive


@asynccontextmanager
async def parts(
    settings: Settings, *, listen: Collection[str] = (), files: Mapping[str, Path] | None = None
) -> AsyncIterator[Parts]:
    """Open the database and build the parts; what was queued is written before it closes again.

    `listen` names what this process waits for (ledger.signals.Signals.start). `files` are those that settings were read
    from; who wants them looked at again runs `reloading`.
    """
    async with AsyncExitStack() as stack:
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        reloading = Reloading(settings, files or {}, registry)
        pool = make_pool(settings.database_url, size=settings.database_pool_size)
        await stack.enter_async_context(pool)
        store = Store(settings.database_url, pool, timed=metrics.time_database)
        stack.push_async_callback(store.aclose)
        encryption = KeyEncryption(settings.encryption_keys())
        installation, identity = await _identity(store, encryption)
        signals = Signals(settings.database_url)
        signals.start(listen=listen)
        stack.push_async_callback(signals.stop)
        keys = Keys(encryption)
        _renew_database(reloading, store, signals, installation=installation)
        _renew_keys(reloading, store, keys)
        ledger = Ledger(store, keys, identity, signals)
        await ledger.start()
        stack.push_async_callback(ledger.stop)
        Info("notification_build", "What runs here.", registry=registry).info(
            {"version": version("notification-ledger")}
        )
        known = catalogue_of(settings)
        wording = Wording(ledger, known.templates, _messages(settings))
        await wording.look()
        set_aside = SetAside(store, keys, identity)
        yield Parts(
            settings=settings,
            pool=pool,
            ledger=ledger,
            keys=keys,
            signals=signals,
            set_aside=set_aside,
            catalogue=known,
            wording=wording,
            registry=registry,
            metrics=metrics,
            take_in=TakeIn(ledger, known, channels=settings.served(), wording=wording),
            receive=Receive(ledger, set_aside, metrics),
            reloading=reloading,
            archive=Archive(store, await stack.enter_async_context(open_shelf(settings))),
        )


def catalogue_of(settings: Settings, file: Path | None = None) -> Catalogue:
    """Load the installation's catalogue, or another file of one, with the installation's templates."""
    named = Path(settings.catalogue) if settings.catalogue else None
    return load(file or named, messages=_messages(settings))


def _messages(settings: Settings) -> Path:
    return Path(settings.templates) if settings.templates else MESSAGES


async def _identity(store: Store, encryption: KeyEncryption) -> tuple[str, Identity]:
    """Return the name of the installation, and what all its ids are derived by."""
    installation = await store.installation()
    if installation is None:
        raise NotReadyError("the database has no schema yet: run `notification-ledger migrate`")
    if not await store.sequence_is_ahead():
        raise NotReadyError("the sequence of positions lies behind the log: was it restored? run `recover`")
    return installation[0], Identity(encryption.unwrap_identity(installation[1]))


def _renew_database(reloading: Reloading, store: Store, signals: Signals, *, installation: str) -> None:
    async def is_the_same(settings: Settings) -> None:
        """A new password opens the same database; another one takes a restart, and its checks."""
        async with await connect(settings.database_url) as connection:
            found = await installation_in(connection)
            if found is None or found[0] != installation:
                raise SettingsError(["DATABASE_URL is of another database: that takes a restart"])

    reloading.on("database_url", is_the_same)
    reloading.on("database_url", lambda settings: store.use_url(settings.database_url))
    reloading.on("database_url", lambda settings: signals.use_url(settings.database_url))


def _renew_keys(reloading: Reloading, store: Store, keys: Keys) -> None:
    async def use(settings: Settings) -> None:
        encryption = KeyEncryption(settings.encryption_keys())
        installation = await store.installation()
        if installation is not None:
            encryption.unwrap_identity(installation[1])
        keys.use_encryption(encryption)

    reloading.on("key_encryption_key", use)


def renderer_of(settings: Settings, known: Catalogue) -> Renderer:
    return Renderer(
        sender=known.sender,
        sms_sender=settings.sms_sender,
        segments=known.sms_segments,
        messages=_messages(settings),
        default_locale=known.locale,
    )


def prices_of(settings: Settings) -> Prices:
    """Load the price list. Raises SettingsError for one that cannot be used, or that the caps do not fit."""
    try:
        prices = load_prices(Path(settings.prices) if settings.prices else None, providers=PROVIDERS)
    except PriceListError as exc:
        raise SettingsError([f"PRICES: {fault}" for fault in exc.faults]) from exc
    if faults := faults_of(prices, settings.caps()):
        raise SettingsError(faults)
    return prices


def dry_run_of(given: Parts) -> DryRun:
    settings, prices = given.settings, prices_of(given.settings)
    carriers = {
        channel: Carrier(names[0], Spending(prices, settings.caps(), channel))
        for channel, names in providers_of(settings).items()
    }
    renderer = renderer_of(settings, given.catalogue)
    return DryRun(
        given.ledger,
        renderer,
        given.wording,
        allowed=_allowed(settings),
        carriers=carriers,
        ceiling=settings.recipient_ceiling,
    )


def bulk_of(given: Parts) -> Bulk:
    settings = given.settings
    return Bulk(given.ledger, given.archive, allowed=_allowed(settings), ceiling=settings.recipient_ceiling)


def _allowed(settings: Settings) -> AllowList:
    """Whom this installation may write to is the affair of `deliver`: a process that was not told forbids nobody."""
    return AllowList(settings.allow_list() or frozenset({"*"}), settings.countries())


def pauses_of(given: Parts) -> Pauses:
    return Pauses(given.ledger, types=given.catalogue.kinds, providers=PROVIDERS)


def templates_of(given: Parts) -> Templates:
    return Templates(given.wording, given.catalogue, Vetter())


def send_test_of(given: Parts, templates: Templates) -> SendTest:
    return SendTest(templates, given.take_in, given.catalogue)
