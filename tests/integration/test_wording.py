"""Which words are said: those that were current when it was asked for, whatever was published before it is sent."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from handlers.deliver import Deliver
from handlers.metrics import Metrics
from handlers.wording import Wording
from ledger import template
from ledger.errors import DraftMovedError, UnknownTopicError
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.policy import AllowList
from ledger.signals import TEMPLATES, Signals
from ledger.store import Encoded
from providers.fakes.ses import FakeSes
from providers.guard import Gate, Route
from providers.ses import Ses
from templates.catalogue import load
from templates.files import MESSAGES, files_in
from templates.rendering import Renderer
from tests.acceptance.taking import take_in
from tests.acceptance.traffic import message
from tests.integration.ledger.parts import Connection, rows, running_ledger
from tests.integration.test_deliver import STREAMS, handle, read
from tests.support.postgres import Database
from tests.support.service import until

NAME = "order_shipped"
CATALOGUE = load()


def wording_of(ledger: Ledger, messages: Path = MESSAGES) -> Wording:
    return Wording(ledger, CATALOGUE.templates, messages)


class Shop(msgspec.Struct, frozen=True):
    """Where orders are shipped, and their mails sent."""

    ledger: Ledger
    database: Database
    application: Connection
    ses: Ses
    fake: FakeSes

    async def orders(self) -> UUID:
        """Take one order in; returns its notification."""
        await take_in(self.database.url, [message("OrderShippedEvent", userEmail="ada@sandbox.example")])
        return UUID(str((await rows(self.application, STREAMS))[-1][0]))

    async def sends(self, stream: UUID, wording: Wording, messages: Path = MESSAGES) -> str:
        """Send a notification, as a process does that came with these templates; returns the subject."""
        deliver = Deliver(
            self.ledger,
            Renderer(sender=CATALOGUE.sender, messages=messages),
            Route([Gate(self.ses, self.ledger.store.connection)]),
            allowed=AllowList(frozenset({"*"})),
            metrics=Metrics(CollectorRegistry()),
            wording=wording,
        )
        await handle(deliver, await read(self.ledger, stream))
        body = self.fake.requests[-1].body
        assert body is not None
        assert body.content.simple is not None
        return body.content.simple.subject.data


@pytest.fixture
async def shop(ledger: Ledger, database: Database, application: Connection, fake: FakeSes) -> AsyncIterator[Shop]:
    ses = await Ses.open(region="eu-west-1", endpoint_url=fake.url, access_key_id="key", secret_access_key="none")
    yield Shop(ledger, database, application, ses, fake)
    await ses.aclose()


@pytest.fixture
async def wording(ledger: Ledger) -> Wording:
    return wording_of(ledger)


async def publish(wording: Wording, subject: str) -> str:
    """Publish the shipped template with another subject, as it stands; returns the version."""
    files = {**files_in(MESSAGES, NAME), "en/subject.txt": subject}
    version = await wording.keep(NAME, files)
    await wording.change(NAME, lambda state, now: template.draft(state, version, origin(now)))
    await wording.change(
        NAME,
        lambda state, now: template.publish(
            state, version, version, origin(now), replaces=wording.current(NAME), reason="a test"
        ),
    )
    return version


async def roll_back(wording: Wording, version: str) -> None:
    await wording.change(
        NAME,
        lambda state, now: template.roll_back(
            state, version, origin(now), replaces=wording.current(NAME), reason="a test"
        ),
    )


def origin(now: datetime) -> Origin:
    return Origin(now=now, cause=f"command:{uuid4()}", by="test")


async def test_what_was_asked_for_under_one_version_is_said_in_it_though_another_was_published(
    shop: Shop, wording: Wording
):
    streams, versions = [await shop.orders()], [wording.shipped(NAME)]
    for subject in ("The first", "The second"):
        versions.append(await publish(wording, subject))
        streams.append(await shop.orders())
    await roll_back(wording, versions[0])
    streams.append(await shop.orders())
    versions.append(versions[0])
    said = [await shop.sends(stream, wording) for stream in streams]
    assert said[1:3] == ["The first", "The second"]
    assert all(subject.endswith("is on its way") for subject in (said[0], said[3]))
    pinned = [(await read(shop.ledger, stream)).state.requested.template_version for stream in streams]
    assert pinned == versions


async def test_a_process_that_starts_later_says_what_was_pinned_before_it(shop: Shop, wording: Wording):
    await publish(wording, "The first")
    stream = await shop.orders()
    await roll_back(wording, wording.shipped(NAME))
    restarted = wording_of(shop.ledger)
    await restarted.look()
    assert await shop.sends(stream, restarted) == "The first"


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The shipped templates, as another release would bring them."""
    messages = tmp_path / "messages"
    shutil.copytree(MESSAGES, messages)
    (messages / NAME / "en" / "subject.txt").write_text("The next release")
    return messages


async def test_the_next_release_says_what_this_one_has_pinned(shop: Shop, wording: Wording, next_release: Path):
    await wording.keep_shipped()
    stream = await shop.orders()
    upgraded = wording_of(shop.ledger, next_release)
    assert upgraded.shipped(NAME) != wording.shipped(NAME)
    assert (await shop.sends(stream, upgraded, next_release)).endswith("is on its way")


async def test_where_nobody_has_the_words_any_more_what_is_said_now_is_said_and_the_fact_names_it(
    shop: Shop, next_release: Path
):
    stream = await shop.orders()
    upgraded = wording_of(shop.ledger, next_release)
    assert await shop.sends(stream, upgraded, next_release) == "The next release"
    query = "SELECT fact ->> 'template_version' FROM ledger.facts WHERE topic = 'notification.rendered'"
    assert await rows(shop.application, query) == [(upgraded.shipped(NAME),)]


async def test_what_was_published_is_said_before_what_a_newer_release_brings(
    ledger: Ledger, wording: Wording, next_release: Path
):
    version = await publish(wording, "The first")
    upgraded = wording_of(ledger, next_release)
    await upgraded.look()
    assert upgraded.current(NAME) == version
    assert upgraded.current("welcome") == wording.shipped("welcome")


async def test_the_words_of_a_release_are_kept_once_however_often_it_starts(
    ledger: Ledger, application: Connection, wording: Wording
):
    await wording.keep_shipped()
    await asyncio.gather(*(wording_of(ledger).keep_shipped() for _ in range(5)))
    kept = await rows(application, "SELECT template, version FROM ledger.template_files ORDER BY template")
    assert kept == [(name, wording.shipped(name)) for name in sorted(CATALOGUE.templates)]


async def test_another_process_learns_of_it_by_signal(database: Database, ledger: Ledger, wording: Wording):
    async with running_ledger(database.url) as other:
        elsewhere, signals = wording_of(other), Signals(database.url)
        signals.start(listen=(TEMPLATES,))
        ledger._signals.start()
        running = asyncio.create_task(elsewhere.run(signals))
        try:
            version = await publish(wording, "The first")
            await until(lambda: elsewhere.current(NAME) == version, "the news")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await signals.stop()
            await ledger._signals.stop()


async def test_of_two_who_publish_at_once_one_learns_that_the_draft_is_another(database: Database, wording: Wording):
    async with running_ledger(database.url) as other:
        both = [wording, wording_of(other)]
        for turn in range(20):
            results = await asyncio.gather(
                *(publish(one, f"Turn {turn} of {number}") for number, one in enumerate(both)), return_exceptions=True
            )
            assert all(isinstance(one, str | DraftMovedError) for one in results), results
            for one in both:
                await one.look()
            assert both[0].known == both[1].known
            assert both[0].current(NAME) in results


async def test_behind_a_fact_of_a_newer_release_what_was_said_stays_and_nothing_is_decided(
    ledger: Ledger, wording: Wording
):
    version = await publish(wording, "The first")
    known = wording.known[NAME]
    newer = [(known.stream, known.version + 1, "template.translated", b'{"by":"a newer release"}')]
    await ledger.store.append([Encoded(facts=newer)])
    await wording.look()
    await wording.look()
    assert wording.current(NAME) == version
    with pytest.raises(UnknownTopicError):
        await roll_back(wording, wording.shipped(NAME))


async def test_words_that_do_not_match_their_digest_are_not_said(application: Connection, wording: Wording):
    statement = "INSERT INTO ledger.template_files (version, template, files) VALUES (%s, %s, %s)"
    await application.execute(statement, ("ab" * 32, NAME, b'{"en/subject.txt":"Not what was vetted"}'))
    assert await wording.words(NAME, "ab" * 32) == {}
