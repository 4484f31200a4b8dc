"""The whole API on a socket: real ledger, real tokens, and SES's topic that signs what it posts."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from api.app import make_app
from api.health import Readiness
from api.health import database as database_check
from api.services import Services
from api.sessions import Sessions
from api.tail import Tail
from api.tokens import Authenticator, StaticKeys
from handlers.bulk import Bulk
from handlers.dead_letters import DeadLetters
from handlers.dry_run import Carrier, DryRun
from handlers.intake import TakeIn
from handlers.metrics import Metrics
from handlers.pauses import Pauses
from handlers.receive import Receive
from handlers.spending import Spending
from handlers.templates import Templates
from handlers.test_sends import SendTest
from handlers.wording import Wording
from ledger.archive import Archive
from ledger.keys import Identity, KeyEncryption, Keys
from ledger.ledger import Ledger
from ledger.policy import AllowList
from ledger.reads import Reads
from ledger.set_aside import SetAside
from ledger.signals import Signals
from ledger.store import Store, make_pool
from ledger.values import Channel
from ops.routes import reaching
from ops.settings import load as load_settings
from ops.wiring import PROVIDERS
from providers.directory import Directory
from providers.fakes.sns import Seal
from providers.fcm_receipts import FcmReceipts
from providers.pricing import load as load_prices
from providers.ses_callbacks import SesCallbacks
from providers.sns import Fetcher, Verifier
from providers.twilio_callbacks import TwilioCallbacks
from templates.catalogue import Catalogue, load
from templates.files import MESSAGES
from templates.message_schemas import message_schemas
from templates.rendering import Renderer
from templates.vetting import Vetter
from tests.integration.api.tokens import AUDIENCE, ISSUER, KEYS, token
from tests.integration.api.topic import ARN, SignedTopic
from tests.support.postgres import IDENTITY_KEY, KEY_ENCRYPTION_KEY, Database

PUBLIC_URL = "https://notifications.acme.example"
TWILIO_TOKENS = ("the new token", "the old token")
EVERYTHING = (
    "notifications:write notifications:read notifications:act pii:read recipients:write templates:write operations"
)


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A running API. `client` carries a token with every scope; `as_(scope)` gives the headers of a lesser one."""

    url: str
    client: httpx.AsyncClient
    services: Services
    ledger: Ledger
    signals: Signals
    topic: SignedTopic

    def as_(self, scope: str, subject: str = "support") -> dict[str, str]:
        return {"Authorization": f"Bearer {token(scope, subject=subject)}"}


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, loop="none", http="httptools", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
def seal() -> Seal:
    return Seal()


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture
async def topic(seal: Seal) -> AsyncIterator[SignedTopic]:
    async with SignedTopic.serving(seal) as signed:
        yield signed


@pytest.fixture
async def services(
    database: Database, topic: SignedTopic, catalogue: Catalogue, tmp_path: Path
) -> AsyncIterator[Services]:
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(database.url, size=5))
        store = Store(database.url, pool)
        stack.push_async_callback(store.aclose)
        signals = Signals(database.url)
        signals.start()
        stack.push_async_callback(signals.stop)
        keys, identity = Keys(KeyEncryption([KEY_ENCRYPTION_KEY])), Identity(IDENTITY_KEY)
        ledger = Ledger(store, keys, identity, signals)
        await ledger.start()
        stack.push_async_callback(ledger.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        set_aside, metrics = SetAside(store, keys, identity), Metrics(CollectorRegistry())
        wording = Wording(ledger, catalogue.templates, MESSAGES)
        archive = Archive(store, Directory(tmp_path / "archive"))
        take_in = TakeIn(ledger, catalogue, channels={Channel.EMAIL}, wording=wording)
        templates = Templates(wording, catalogue, Vetter())
        twilio = TwilioCallbacks(public_url=PUBLIC_URL, secrets=TWILIO_TOKENS)
        yield Services(
            ledger=ledger,
            archive=archive,
            bulk=Bulk(ledger, archive, allowed=AllowList(frozenset({"*"})), per_second=10_000),
            keys=keys,
            reads=Reads(store),
            set_aside=set_aside,
            take_in=take_in,
            dry_run=DryRun(
                ledger,
                Renderer(sender=catalogue.sender),
                wording,
                allowed=AllowList(frozenset({"*"})),
                carriers={Channel.EMAIL: Carrier("ses", Spending(load_prices(providers=PROVIDERS), (), Channel.EMAIL))},
            ),
            schemas=message_schemas(catalogue, channels={Channel.EMAIL}),
            dead_letters=DeadLetters(set_aside, take_in),
            receive=Receive(ledger, set_aside, metrics),
            receipts=FcmReceipts(identity, ledger.clock),
            reach=reaching(load_settings({}, dotenv=None), ledger),
            templates=templates,
            send_test=SendTest(templates, take_in, catalogue),
            test_recipients=AllowList(frozenset({"acme.example", "+442071838750"})),
            pauses=Pauses(ledger, types=catalogue.kinds, providers={"ses", "smtp"}),
            ses=SesCallbacks(Verifier(topics=[ARN], fetch=Fetcher(session), origin=topic.url)),
            twilio=twilio,
            replies=twilio,
            authenticator=Authenticator(StaticKeys(KEYS), issuer=ISSUER, audience=AUDIENCE, clock=ledger.clock),
            sessions=Sessions(identity, public_url=PUBLIC_URL),
            tail=Tail(store, signals),
            readiness=Readiness({"database": database_check(lambda: database.url)}),
            metrics=metrics,
        )


@pytest.fixture
async def service(services: Services, topic: SignedTopic) -> AsyncIterator[Service]:
    headers = {"Authorization": f"Bearer {token(EVERYTHING, subject='tester')}"}
    async with (
        served(make_app(services)) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
    ):
        yield Service(
            url=url,
            client=client,
            services=services,
            ledger=services.ledger,
            signals=services.ledger._signals,
            topic=topic,
        )
