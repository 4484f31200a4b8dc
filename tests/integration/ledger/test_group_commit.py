"""One writer a process: shared commits, order, room, and one bad decision that harms nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import pytest

from ledger.decision import Decision, Guard, Intake, NewFact, Reference, SaidContent
from ledger.errors import KeyUnavailableError, LedgerError, OverloadedError, Refusal, RefusedError, UnstorableError
from ledger.group_commit import QUEUED_BYTES, QUEUED_DECISIONS, GroupCommit
from ledger.keys import DataKey, KeyEncryption
from ledger.ledger import Ledger
from ledger.store import Store
from ledger.values import Personal
from tests.integration.ledger.parts import (
    Connection,
    agenda_row,
    begun,
    log,
    new_id,
    plain,
    request,
    rows,
    running_writer,
    standing,
    stated,
    value,
)

ONE_DATABASE = True

COMMITS = "SELECT count(DISTINCT xmin::text) FROM ledger.stored_events"


def states(stream: UUID, version: int = 1, **parts: Any) -> Decision:
    return Decision(facts=(stated(stream, version),), **parts)


async def together(append: Callable[[Decision], Awaitable[None]], decisions: Iterable[Decision]) -> list[Any]:
    """Queue all at once, in this order; None is stored, a Refusal or an error type is not."""
    results = await asyncio.gather(*(append(one) for one in decisions), return_exceptions=True)
    return [result.reason if isinstance(result, RefusedError) else result and type(result) for result in results]


async def test_a_thousand_decisions_that_wait_at_the_same_moment_share_few_commits(
    store: Store, application: Connection
):
    async with running_writer(store) as writer:
        assert await together(writer.append, [states(new_id()) for _ in range(1_000)]) == [None] * 1_000
    assert len(await log(application)) == 1_000
    assert await value(application, COMMITS) == 5


async def test_a_single_decision_waits_for_no_other(store: Store, application: Connection):
    async with running_writer(store) as writer:
        for _ in range(5):
            await writer.append(states(new_id()))
    assert await value(application, COMMITS) == 5


async def test_decisions_on_one_stream_are_stored_in_their_order(store: Store, application: Connection):
    stream, other = new_id(), new_id()
    decisions = [states(one, version) for version in range(1, 21) for one in (stream, other)]
    async with running_writer(store) as writer:
        assert await together(writer.append, decisions) == [None] * 40
    assert await log(application) == [(one, version) for version in range(1, 21) for one in (stream, other)]


async def test_the_order_of_a_stream_holds_beyond_one_batch(store: Store):
    stream = new_id()
    decisions = [states(stream, version) for version in range(1, 7)]
    others = [states(new_id()) for _ in range(300)]
    async with running_writer(store) as writer:
        assert await together(writer.append, [*decisions[:3], *others, *decisions[3:]]) == [None] * 306


async def test_a_later_decision_does_not_overtake_one_that_is_held(store: Store, application: Connection):
    one, other = standing("one"), standing("other")
    decisions = [
        states(one),
        Decision(facts=(stated(one, 2), stated(other, 1))),
        states(other, 2),
        states(new_id(), guards=(Guard(other, 2),)),
    ]
    async with running_writer(store) as writer:
        assert await together(writer.append, decisions) == [None] * 4
    assert (await log(application))[:4] == [(one, 1), (one, 2), (other, 1), (other, 2)]


async def test_i07_a_suppression_and_an_intent_that_it_forbids_share_no_batch(store: Store, application: Connection):
    suppression = standing()
    intents = [states(new_id(), guards=(Guard(suppression, 0),)) for _ in range(4)]
    async with running_writer(store) as writer:
        results = await together(writer.append, [*intents[:2], states(suppression), *intents[2:]])
    assert results == [None, None, None, Refusal.GUARD, Refusal.GUARD]
    assert [stream for stream, _ in await log(application)][2] == suppression


async def test_i02_one_message_that_waits_a_hundred_times_is_taken_in_once(store: Store, application: Connection):
    same, other = Intake(b"key", b"body"), Intake(b"key", b"other body")
    decisions = [states(new_id(), intake=intake) for intake in [same, other] * 50]
    async with running_writer(store) as writer:
        results = await together(writer.append, decisions)
    assert results == [None, Refusal.CONFLICT, *[Refusal.TAKEN_IN, Refusal.CONFLICT] * 49]
    assert await rows(application, "SELECT conflicts FROM ledger.intake") == [(50,)]


async def test_two_decisions_that_only_set_one_row_of_the_agenda_share_no_batch(store: Store, application: Connection):
    stream = new_id()
    settling = [Decision(agenda=(agenda_row(stream, version, settles=uuid4()),)) for version in (1, 1, 2)]
    decisions = [states(stream, agenda=(agenda_row(stream),)), *settling, states(stream, 2)]
    async with running_writer(store) as writer:
        assert await together(writer.append, decisions) == [None] * 5
    assert await value(application, "SELECT version FROM ledger.agenda") == 2


async def test_a_refusal_is_told_to_its_own_caller(store: Store):
    known = new_id()
    async with running_writer(store) as writer:
        await writer.append(states(known))
        results = await together(
            writer.append, [states(new_id()), states(known), states(new_id(), 2), states(new_id())]
        )
    assert results == [None, Refusal.VERSION, Refusal.PREDECESSOR, None]


def _nul() -> Decision:
    return states(new_id(), references=(Reference("ses", "nul \x00", new_id(), new_id()),))


def _no_partition() -> Decision:
    return states(UUID(int=1))


def _no_class() -> Decision:
    said = SaidContent("no-such-class", new_id(), b"d" * 32, b"words", DataKey(b"k" * 32))
    return states(new_id(), contents=(said,))


def _surrogate() -> Decision:
    return Decision(facts=(stated(new_id(), reason="lone \ud800"),))


def _nul_recipient() -> Decision:
    return begun(recipient="user:\x00")


def _surrogate_recipient() -> Decision:
    return begun(recipient="user:\ud800")


def _bottomless() -> Decision:
    data: dict[str, Any] = {}
    for _ in range(5_000):
        data = {"deeper": data}
    return begun(personal=Personal("ada@example.com", None, data))


@pytest.mark.parametrize(
    "make", [_nul, _no_partition, _no_class, _surrogate, _nul_recipient, _surrogate_recipient, _bottomless]
)
async def test_one_decision_that_cannot_be_stored_harms_none_of_a_hundred(
    ledger: Ledger, application: Connection, make: Callable[[], Decision]
):
    healthy = [begun(recipient=f"user:u-{number}") for number in range(100)]
    decisions = [*healthy[:37], make(), *healthy[37:]]
    # Through the writer itself: the ledger would first fold what these facts begin.
    results = await together(ledger._writer.append, decisions)
    assert results == [None] * 37 + [UnstorableError] + [None] * 63
    assert len(await log(application)) == 100
    await ledger.append(begun())


async def test_a_person_whose_key_does_not_open_harms_none_of_a_hundred(ledger: Ledger, application: Connection):
    lost = KeyEncryption([b"x" * 32]).wrap("user:lost", b"k" * 32)
    await application.execute("INSERT INTO ledger.recipient_key (recipient, wrapped) VALUES ('user:lost', %s)", (lost,))
    decisions = [begun(recipient=f"user:u-{number}") for number in range(100)]
    results = await together(ledger.append, [*decisions, begun(recipient="user:lost")])
    assert results == [None] * 100 + [KeyUnavailableError]


async def test_a_full_queue_takes_nothing_more_and_empties_again(store: Store, application: Connection):
    writer = GroupCommit(store, plain, lambda _: None)
    waiting = [asyncio.create_task(writer.append(states(new_id()))) for _ in range(QUEUED_DECISIONS)]
    await asyncio.sleep(0)
    assert writer.room == 0
    with pytest.raises(OverloadedError):
        await writer.append(states(new_id()))
    writer.start()
    await asyncio.gather(*waiting)
    assert writer.room == QUEUED_DECISIONS
    await writer.append(states(new_id()))
    await writer.stop()
    assert await value(application, "SELECT count(*) FROM ledger.stored_events") == QUEUED_DECISIONS + 1


async def test_a_queue_is_also_full_by_its_bytes(store: Store):
    writer = GroupCommit(store, plain, lambda _: None)
    stream = new_id()
    said = SaidContent("standard", stream, b"d" * 32, bytes(QUEUED_BYTES), DataKey(b"k" * 32))
    waiting = asyncio.create_task(writer.append(states(stream, contents=(said,))))
    await asyncio.sleep(0)
    assert writer.room == 0
    with pytest.raises(OverloadedError):
        await writer.append(states(new_id()))
    writer.start()
    await waiting
    assert writer.room == QUEUED_DECISIONS
    await writer.stop()


async def test_a_caller_that_goes_away_withdraws_nothing(store: Store, application: Connection):
    writer = GroupCommit(store, plain, lambda _: None)
    waiting = [asyncio.create_task(writer.append(states(new_id()))) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[:5]:
        task.cancel()
    writer.start()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    await writer.stop()
    assert [type(result) for result in results] == [asyncio.CancelledError] * 5 + [type(None)] * 5
    assert len(await log(application)) == 10


async def test_i22_who_stops_the_writer_waits_for_what_is_queued(store: Store, application: Connection):
    writer = GroupCommit(store, plain, lambda _: None)
    writer.start()
    waiting = [asyncio.create_task(writer.append(states(new_id()))) for _ in range(500)]
    await asyncio.sleep(0)
    await writer.stop()
    assert await value(application, "SELECT count(*) FROM ledger.stored_events") == 500
    await asyncio.gather(*waiting)
    with pytest.raises(OverloadedError):
        await writer.append(states(new_id()))


async def test_what_was_stored_is_told_and_what_was_refused_is_not(store: Store):
    told: list[Decision] = []
    writer = GroupCommit(store, plain, told.extend)
    writer.start()
    first, second = states(new_id()), states(new_id(), 2)
    await together(writer.append, [first, second])
    await writer.stop()
    assert told == [first]


async def test_a_fault_that_is_nobodys_is_told_to_all_and_the_writer_goes_on(
    store: Store, owner: Connection, application: Connection
):
    await owner.execute("ALTER FUNCTION ledger.append_1 RENAME TO append_0")
    async with running_writer(store) as writer:
        results = await together(writer.append, [states(new_id()) for _ in range(3)])
        assert results == [LedgerError] * 3
        await owner.execute("ALTER FUNCTION ledger.append_0 RENAME TO append_1")
        await writer.append(states(new_id()))
    assert len(await log(application)) == 1


async def test_i18_an_error_shows_nothing_of_what_was_to_be_stored(ledger: Ledger):
    secret = NewFact(UUID(int=1), 1, request(personal=Personal("ada@example.com"), user_id="ada"))
    with pytest.raises(UnstorableError) as caught:
        await ledger.append(Decision(facts=(secret,)))
    assert "ada" not in str(caught.value)
