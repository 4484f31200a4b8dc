"""What is done to many: shown first, exactly what was shown, and each once, whoever works at it and however often."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from handlers import bulk as bulk_actions
from handlers.bulk import Bulk, Found, NoSuchActionError, Plan, TooManyError, TooOldError
from handlers.erasures import erase_user
from handlers.frequency import CEILING, Frequency
from handlers.suppressions import list_by_hand
from ledger.archive import Archive
from ledger.bulk import Action
from ledger.decision import Decision
from ledger.ledger import Ledger
from ledger.mapping import FactMapper
from ledger.policy import AllowList
from ledger.store import Store
from ledger.suppression import Grounds, Reason
from ledger.values import Channel, DoubtPolicy, Personal
from providers.directory import Directory
from tests.integration.api.deliveries import sent
from tests.integration.api.test_release import in_doubt
from tests.integration.ledger.parts import Connection, begun, new_id, rows, running_ledger, value
from tests.support.postgres import Database

RESENDS = """
SELECT count(*) FROM ledger.stored_events
WHERE topic = 'notification.requested' AND convert_from(state, 'UTF8')::json ->> 'resend_of' IS NOT NULL
"""
# As if the process had died before it could remember what it had done.
FORGOTTEN = "UPDATE ledger.bulk_action SET handled = 0, ended_at = NULL, notifications = %s"
WHY = {"by": "api:support", "reason": "the mails were empty"}


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Archive:
    return Archive(store, Directory(tmp_path))


@pytest.fixture
def bulk(ledger: Ledger, archive: Archive) -> Bulk:
    return bulk_of(ledger, archive)


def bulk_of(ledger: Ledger, archive: Archive, *, ceiling: int = CEILING) -> Bulk:
    return Bulk(ledger, archive, allowed=AllowList(frozenset({"*"})), ceiling=ceiling, per_second=10_000)


async def taken(ledger: Ledger, count: int, **changes: object) -> list[UUID]:
    """Notifications that their provider has taken."""
    streams = [new_id() for _ in range(count)]
    for stream in streams:
        await ledger.append(begun(stream, **changes))
    await asyncio.gather(*(sent(ledger, stream, reference=str(stream)) for stream in streams))
    return streams


async def shown(bulk: Bulk, action: Action, streams: Sequence[UUID]) -> Plan:
    found = [Found(stream, "dispatched", "order_shipped", Channel.EMAIL) for stream in streams]
    return await bulk.show(action, found, {"type": "order_shipped"}, by="api:support")


async def facts(ledger: Ledger, stream: UUID) -> list[tuple[str, str, str]]:
    """Topic, author and cause of each fact of a stream."""
    decoded = [(row.topic, FactMapper().decode(row.topic, row.state)) for row in await ledger.store.load([stream])]
    return [(topic, fact.by, fact.cause) for topic, fact in decoded]


async def test_what_was_shown_is_done_once_for_each_and_says_by_what_and_why(
    bulk: Bulk, ledger: Ledger, application: Connection
):
    streams = await taken(ledger, 30)
    on_its_way = new_id()
    await ledger.append(begun(on_its_way))
    plan = await shown(bulk, Action.RESEND, [*streams, on_its_way, new_id()])
    assert (plan.count, plan.by_type, plan.by_channel) == (32, {"order_shipped": 32}, {"email": 32})
    assert (plan.sample.looked_at, plan.sample.refused) == (32, {"still_to_come": 1, "missing": 1})
    with pytest.raises(NoSuchActionError):
        await bulk.progress(plan.id)
    assert await value(application, RESENDS) == 0

    going = await bulk.begin(plan.id, **WHY)
    assert (going.done, going.left, going.ends_at is not None) == (0, 32, True)
    assert (await bulk.begin(plan.id, by="api:chief", reason="another")).by == "api:support"
    await bulk.run()
    ended = await bulk.progress(plan.id)
    assert (ended.done, ended.left, ended.ended_at is not None, ended.reason) == (30, 0, True, WHY["reason"])
    refused = {why: (one.count, one.examples) for why, one in ended.refused.items()}
    assert refused["still_to_come"] == (1, (on_its_way,))
    assert refused["missing"][0] == 1
    assert await value(application, RESENDS) == 30
    assert (await facts(ledger, streams[0]))[-1] == ("notification.sent_again", "api:support", f"bulk:{plan.id}")
    assert [topic for topic, *_ in await facts(ledger, plan.id)] == ["bulk.begun", "bulk.ended"]
    assert [one.id for one in await bulk.listed()] == [plan.id]


async def test_repeated_whole_it_sends_nothing_twice(bulk: Bulk, ledger: Ledger, application: Connection):
    streams = await taken(ledger, 5)
    await bulk.begin((await shown(bulk, Action.RESEND, streams)).id, **WHY)
    await bulk.run()
    plan = await shown(bulk, Action.RESEND, streams)
    await bulk.begin(plan.id, **WHY)
    await bulk.run()
    assert plan.sample.refused == {"sent_again_before": 5}
    ended = await bulk.progress(plan.id)
    assert (ended.done, ended.refused["sent_again_before"].count) == (0, 5)
    assert await value(application, RESENDS) == 5


async def test_two_processes_that_both_believe_to_hold_the_lease_do_each_once(
    bulk: Bulk, ledger: Ledger, archive: Archive, database: Database, application: Connection
):
    plan = await shown(bulk, Action.RESEND, await taken(ledger, 60))
    await bulk.begin(plan.id, **WHY)
    async with running_ledger(database.url) as another:
        await asyncio.gather(bulk.run(), bulk_of(another, archive).run())
    ended = await bulk.progress(plan.id)
    assert (ended.done, ended.refused) == (60, {})
    assert await value(application, RESENDS) == 60


TOLD = {Action.CANCEL: "cancelled", Action.RELEASE: "released", Action.RESEND: "sent_again"}


@pytest.mark.parametrize("action", Action)
async def test_what_a_process_did_before_it_died_is_counted_as_done_by_the_next(
    bulk: Bulk, ledger: Ledger, application: Connection, action: Action
):
    held = [await in_doubt(ledger, doubt=DoubtPolicy.HOLD) for _ in range(3)]
    streams = await taken(ledger, 3) if action is Action.RESEND else held
    plan = await shown(bulk, action, streams)
    await bulk.begin(plan.id, **WHY)
    await bulk.run()
    await application.execute(FORGOTTEN, (streams,))
    await bulk.run()
    ended = await bulk.progress(plan.id)
    assert (ended.done, ended.refused) == (3, {})
    for stream in streams:
        topics = [topic for topic, *_ in await facts(ledger, stream)]
        assert topics.count(f"notification.{TOLD[action]}") == 1


async def test_the_dry_run_tells_what_rules_would_keep_from_being_sent_and_who_was_erased(bulk: Bulk, ledger: Ledger):
    listed, erased = "listed@sandbox.example", "erased@sandbox.example"
    hashed = ledger.identity.address_hash
    given = {"personal": Personal(listed), "address_hash": hashed(listed)}
    streams = await taken(ledger, 2, user_id="u-2", recipient="user:u-2", **given)
    given = {"personal": Personal(erased), "address_hash": hashed(erased)}
    streams += await taken(ledger, 1, user_id="u-3", recipient="user:u-3", **given)
    grounds = Grounds(reason=Reason.MANUAL, note="a test")
    await list_by_hand(ledger, Channel.EMAIL, listed, grounds, by="test")
    await erase_user(ledger, "u-3", (), by="test", reason="asked for")
    sample = (await shown(bulk, Action.RESEND, streams)).sample
    assert (sample.refused, sample.ruled_out) == ({"erased": 1}, {"suppressed_address": 2})


async def test_the_dry_run_counts_what_the_person_has_got_and_would_get_by_the_ones_before(
    ledger: Ledger, archive: Archive
):
    """Of three to one person, of whom two more of the type may go in this hour, the third would be refused."""
    bulk = bulk_of(ledger, archive, ceiling=3)
    streams = await taken(ledger, 3)
    loaded = await ledger.load(streams[0])
    assert loaded is not None
    untried = msgspec.structs.replace(loaded.state, attempts=())
    takes = Frequency(ledger.identity, 3).takes(untried, loaded.now())
    await ledger.append(Decision(facts=begun(new_id()).facts, takes=takes))
    sample = (await shown(bulk, Action.RESEND, streams)).sample
    assert (sample.refused, sample.ruled_out) == ({}, {"ceiling": 1})
    assert (await shown(bulk, Action.RESEND, streams)).sample == sample


async def test_somebody_can_stop_it_and_what_was_done_stays(bulk: Bulk, ledger: Ledger, application: Connection):
    plan = await shown(bulk, Action.RESEND, await taken(ledger, 3))
    await bulk.begin(plan.id, **WHY)
    stopped = await bulk.stop(plan.id, by="api:chief", reason="the wrong ones")
    assert (stopped.stopped_at is not None, stopped.ends_at) == (True, None)
    await bulk.run()
    assert (await bulk.stop(plan.id, by="api:chief", reason="again")).ended_at is not None
    assert await value(application, RESENDS) == 0
    told = [topic for topic, *_ in await facts(ledger, plan.id)]
    assert told == ["bulk.begun", "bulk.stopped", "bulk.ended"]


async def test_behind_a_restore_what_went_on_is_stopped_for_nothing_tells_what_it_has_sent_since(
    bulk: Bulk, ledger: Ledger, application: Connection
):
    plan = await shown(bulk, Action.RESEND, await taken(ledger, 2))
    await bulk.begin(plan.id, **WHY)
    assert await bulk.stop_open(by="recover", reason="restored", dry_run=True) == 1
    assert await bulk.stop_open(by="recover", reason="restored") == 1
    assert await bulk.stop_open(by="recover", reason="restored") == 0
    await bulk.run()
    assert await value(application, RESENDS) == 0


async def test_what_is_not_begun_in_an_hour_is_shown_again_and_after_a_day_it_is_forgotten(
    bulk: Bulk, ledger: Ledger, application: Connection
):
    plan = await shown(bulk, Action.CANCEL, await taken(ledger, 1))
    await application.execute("UPDATE ledger.bulk_action SET shown_at = now() - interval '61 minutes'")
    with pytest.raises(TooOldError):
        await bulk.begin(plan.id, **WHY)
    await application.execute("UPDATE ledger.bulk_action SET shown_at = now() - interval '25 hours'")
    await bulk.run()
    with pytest.raises(NoSuchActionError):
        await bulk.begin(plan.id, **WHY)
    assert await rows(application, "SELECT id FROM ledger.bulk_action") == []


async def test_more_than_may_be_done_at_once_is_refused_before_anything_is_looked_at(bulk: Bulk):
    with pytest.raises(TooManyError, match="more than 10000 were found"):
        await shown(bulk, Action.CANCEL, [new_id()] * (bulk_actions.MOST + 1))
