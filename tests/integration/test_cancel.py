"""Cancels against what would send at the same moment, over two processes' ledgers: the log tells who came first."""

import asyncio
import os
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from handlers.by_hand import TooLateError, cancel
from handlers.deliver import Deliver
from ledger.decision import Decision, NewFact
from ledger.ledger import Ledger
from ledger.values import Channel, Fallback
from providers.fakes.ses import FakeSes
from tests.integration.ledger.parts import Connection, new_id, now, request, rows, running_ledger
from tests.integration.test_pauses import asked_for, deliverer, handle, read
from tests.support.postgres import Database
from tests.support.races import Race

RACES = int(os.environ.get("TEST_RACES", "50"))
AT_ONCE = 10
IN_ORDER = """
SELECT originator_id, topic FROM ledger.stored_events WHERE originator_id < 'f0000000-0000-0000-0000-000000000000'
ORDER BY notification_id
"""
STREAMS = "SELECT originator_id FROM ledger.stored_events WHERE topic = 'notification.requested'"


async def called_off(ledger: Ledger, stream: UUID) -> bool:
    """Cancel it; False = it was too late."""
    try:
        await cancel(ledger, stream, by="tester", reason="a race")
    except TooLateError:
        return False
    return True


async def run(race: Race, deliver: Deliver, delivering: Ledger, cancelling: Ledger, stream: UUID) -> bool:
    known = await read(delivering, stream)
    won = await race.run(called_off(cancelling, stream), handle(deliver, known))
    race.tell(one_was_first=won)
    return won


async def histories(application: Connection) -> dict[UUID, list[str]]:
    """The topics of each notification, in the order of their positions."""
    found = defaultdict(list)
    for stream, topic in await rows(application, IN_ORDER):
        found[stream].append(topic.removeprefix("notification."))
    return found


async def test_i07_of_cancels_and_intents_at_the_same_moment_no_attempt_begins_after_a_cancel(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    await asked_for(database, *["OrderShippedEvent"] * RACES)
    streams = [stream for (stream,) in await rows(application, STREAMS)]
    race = Race()
    async with running_ledger(database.url) as another, deliverer(ledger, fake) as deliver:
        for first in range(0, RACES, AT_ONCE):
            raced = (run(race, deliver, ledger, another, stream) for stream in streams[first : first + AT_ONCE])
            await asyncio.gather(*raced)
    sent = {request.tags["notification"] for request in fake.requests}
    told = await histories(application)
    for stream, topics in told.items():
        if "cancelled" in topics:
            assert "attempt_started" not in topics[topics.index("cancelled") :], topics
        assert ("attempt_started" in topics) == (str(stream) in sent), topics
    # Else nothing has raced.
    assert {"cancelled" in topics for topics in told.values()} == {True, False}
    assert {"attempt_started" in topics for topics in told.values()} == {True, False}


async def test_i07_of_cancels_and_fallbacks_at_the_same_moment_one_comes_first_and_the_other_does_not_come(
    ledger: Ledger, database: Database, fake: FakeSes, application: Connection
):
    overdue, sms = now() - timedelta(hours=1), Fallback(Channel.SMS, timedelta(minutes=15))
    streams = [new_id() for _ in range(RACES)]
    for stream in streams:
        await ledger.append(Decision(facts=(NewFact(stream, 1, request(at=overdue, fallback=sms)),)))
    race, won = Race(), dict[UUID, bool]()
    async with running_ledger(database.url) as another, deliverer(ledger, fake) as deliver:
        for first in range(0, RACES, AT_ONCE):
            raced = streams[first : first + AT_ONCE]
            ran = await asyncio.gather(*(run(race, deliver, ledger, another, stream) for stream in raced))
            won |= zip(raced, ran, strict=True)
    told = await histories(application)
    for stream in streams:
        assert told[stream] == ["requested", "cancelled" if won[stream] else "fell_back"]
    assert len(told) == RACES + sum(not it for it in won.values())
    assert fake.requests == []
