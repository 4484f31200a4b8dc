"""What a person allows, as facts on disk: told by messages and commands, by several at once, after an erasure."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest

from handlers.intake import TakeIn, TakenIn
from handlers.recipients import tell
from ledger.decision import Decision
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.preferences import Choice, ConsentNews, PreferenceNews
from ledger.recipient import Erased, Recipient
from ledger.values import Category, Channel
from templates.catalogue import load
from tests.integration.ledger.parts import Connection, now, rows, running_ledger
from tests.integration.test_people import about, take
from tests.support.postgres import Database

MESSAGE = "UserPreferencesChangedEvent"
STORED = "SELECT originator_version, topic FROM ledger.stored_events ORDER BY notification_id"
MAIL = (Category.MARKETING, Channel.EMAIL)


@pytest.fixture
def taking(ledger: Ledger) -> TakeIn:
    return TakeIn(ledger, load(), channels=set(Channel))


def chose(said_at: datetime, *, enabled: bool) -> PreferenceNews:
    return PreferenceNews(user_id="u-1", said_at=said_at, choices=(Choice(*MAIL, enabled=enabled),))


def preferring(*, enabled: bool, ago: float = 0) -> dict[str, Any]:
    choice = {"category": "marketing", "channel": "email", "enabled": enabled}
    return about(MESSAGE, ago=ago, preferences=[choice])


async def test_a_message_becomes_facts_in_one_decision_and_its_repeat_none(
    taking: TakeIn, ledger: Ledger, application: Connection
):
    consent = {"purpose": "offers", "granted": True, "wording": "2031-05", "at": "2021-05-04T11:00:00+01:00"}
    off = {"category": "marketing", "channel": "email", "enabled": False}
    whole = about(MESSAGE, preferences=[off], consents=[consent], quietHours={"from": "22:00", "to": "07:00"})
    assert await take(taking, whole, whole) == [
        TakenIn(MESSAGE, (), repeated=False),
        TakenIn(MESSAGE, (), repeated=True),
    ]
    topics = ("preferences_changed", "consent_changed", "quiet_hours_changed")
    assert await rows(application, STORED) == [(place, f"recipient.{topic}") for place, topic in enumerate(topics, 1)]
    allows = (await ledger.recipient("u-1")).allows
    assert allows.consents["offers"].where == "UserService"
    assert allows.consents["offers"].said_at.isoformat() == "2021-05-04T10:00:00+00:00"


async def test_what_was_said_last_holds_whichever_message_comes_last(taking: TakeIn, ledger: Ledger):
    for ago, enabled in ((30, True), (1, False), (20, True), (10, False)):
        await take(taking, preferring(enabled=enabled, ago=ago))
    assert (await ledger.recipient("u-1")).allows.choices[MAIL].enabled is False


async def test_those_who_tell_of_one_person_at_once_in_two_processes_are_all_heard_and_the_last_holds(
    database: Database, application: Connection
):
    began = now()
    async with AsyncExitStack() as stack:
        both = [
            TakeIn(await stack.enter_async_context(running_ledger(database.url)), load(), channels=set(Channel))
            for _ in range(2)
        ]
        told = [preferring(enabled=number == 1, ago=number) for number in range(1, 21)]
        await asyncio.gather(*(take(both[number % 2], one) for number, one in enumerate(told)))
    async with running_ledger(database.url) as ledger:
        known = await ledger.recipient("u-1")
    assert known.allows.choices[MAIL].enabled is True
    assert known.allows.choices[MAIL].said_at > began - timedelta(seconds=2)
    assert [version for version, _ in await rows(application, STORED)] == list(range(1, known.version + 1))


async def test_a_command_holds_over_a_message_of_a_publisher_whose_clock_is_ahead(taking: TakeIn, ledger: Ledger):
    await take(taking, preferring(enabled=False, ago=-1800))
    after = await tell(ledger, chose(now(), enabled=True), by="test")
    assert after.allows.choices[MAIL].enabled is True
    withdrawn = ConsentNews(purpose="offers", granted=False)
    agreed = ConsentNews(purpose="offers", granted=True, wording="w", at=now() + timedelta(minutes=30))
    for consent in (agreed, withdrawn):
        news = PreferenceNews(user_id="u-1", said_at=now(), consents=(consent,))
        after = await tell(ledger, news, by="test")
    assert after.allows.consents["offers"].granted is False


async def test_i19_a_message_from_before_an_erasure_brings_nothing_back_and_a_later_one_is_heard(
    taking: TakeIn, ledger: Ledger
):
    await take(taking, preferring(enabled=True, ago=60))

    await erase(ledger)
    (late,) = await take(taking, preferring(enabled=True, ago=30))
    assert late == TakenIn(MESSAGE, (), repeated=False)
    assert (await ledger.recipient("u-1")).allows.choices == {}
    await tell(ledger, chose(now(), enabled=False), by="test")
    known = await ledger.recipient("u-1")
    assert (known.allows.choices[MAIL].enabled, known.version) == (False, 3)


async def test_what_is_told_holds_over_an_erasure_by_a_process_whose_clock_is_ahead(ledger: Ledger):
    await tell(ledger, chose(now(), enabled=False), by="test")
    await erase(ledger, ahead=timedelta(seconds=20))
    after = await tell(ledger, chose(now(), enabled=True), by="test")
    assert after.allows.choices[MAIL].enabled is True


async def erase(ledger: Ledger, *, ahead: timedelta = timedelta()) -> None:
    def decide(known: Recipient, at: datetime) -> Decision:
        origin = Origin(now=at + ahead, cause="test", by="test")
        return Decision(facts=known.next((Erased(**origin.stamp(), recipient="user:u-1", reason="asked by letter"),)))

    await ledger.change_recipient("u-1", decide)
