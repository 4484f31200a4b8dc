"""The agenda's rows, as append_1 writes them beside the facts."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from ledger import agenda
from ledger.agenda import WaitsFor
from ledger.errors import Refusal
from ledger.store import Encoded, Store
from ledger.values import Channel, Lane
from tests.integration.ledger.parts import Connection, agenda_row, new_id, rows, stored, value

ONE_DATABASE = True

LEASE = timedelta(minutes=1)


async def _set(store: Store, notification: UUID, version: int, **row: Any) -> None:
    assert await store.append([Encoded(agenda=[agenda_row(notification, version, **row)])]) == {}


async def _version(application: Connection) -> int:
    found: int = await value(application, "SELECT max(version) FROM ledger.agenda")
    return found


async def _claim(application: Connection, owner: UUID) -> None:
    assert await agenda.claim(
        application, Channel.EMAIL, dict.fromkeys(Lane, 1_000), owner=owner, limit=10, lease=LEASE
    )


async def _lease(application: Connection) -> tuple[Any, ...]:
    query = "SELECT owner, claims, lease_until > now() FROM ledger.agenda"
    (row,) = await rows(application, query)
    return row


async def test_what_is_due_is_written_with_its_facts(store: Store, application: Connection):
    stream = new_id()
    row = agenda_row(stream, due=60)
    await store.append([Encoded(facts=stored(stream), agenda=[row])])
    query = "SELECT notification, channel, lane, due_at, version, claims, claimable_at = due_at FROM ledger.agenda"
    assert row.due is not None
    assert await rows(application, query) == [(stream, "email", "normal", row.due.at, 1, 0, True)]


async def test_newer_overwrites_older_and_never_the_other_way_round(store: Store, application: Connection):
    stream = new_id()
    for version in (2, 3, 1, 3, 2):
        await _set(store, stream, version)
    assert await _version(application) == 3


async def test_nothing_due_takes_the_row_away_unless_it_is_newer(store: Store, application: Connection):
    stream = new_id()
    await _set(store, stream, 3)
    await _set(store, stream, 2, due=None)
    assert await _version(application) == 3
    await _set(store, stream, 3, due=None)
    assert await rows(application, "SELECT * FROM ledger.agenda") == []


async def test_what_is_settled_by_its_owner_is_free_again(store: Store, application: Connection):
    stream, owner = new_id(), uuid4()
    await _set(store, stream, 1)
    await _claim(application, owner)
    assert await _lease(application) == (owner, 1, True)
    await _set(store, stream, 2, settles=owner)
    assert await _lease(application) == (None, 0, False)


async def test_nobody_ends_the_lease_of_another(store: Store, application: Connection):
    stream, owner = new_id(), uuid4()
    await _set(store, stream, 1)
    await _claim(application, owner)
    await _set(store, stream, 2, settles=uuid4())
    await _set(store, stream, 3)
    assert await _lease(application) == (owner, 1, True)


async def test_a_wait_ends_when_something_else_becomes_due(store: Store, application: Connection):
    stream, owner = new_id(), uuid4()
    row = agenda_row(stream, 1)
    await store.append([Encoded(agenda=[row])])
    await _claim(application, owner)
    await agenda.wait(application, [stream], owner=owner, pause=LEASE, waits_for=WaitsFor.RATE)
    waits = "SELECT wait_until > now() FROM ledger.agenda"
    await store.append([Encoded(agenda=[agenda_row_like(row, version=2)])])
    assert await value(application, waits) is True
    await _set(store, stream, 3, due=-1)
    assert await value(application, waits) is False


def agenda_row_like(row: Any, *, version: int) -> Any:
    """The same time, at a later version."""
    return type(row)(row.notification, version, row.due, row.settles)


async def test_a_refused_decision_leaves_the_agenda_as_it_is(store: Store, application: Connection):
    known, other = new_id(), new_id()
    await store.append([Encoded(facts=stored(known), agenda=[agenda_row(known)])])
    refused = await store.append(
        [
            Encoded(facts=stored(known), agenda=[agenda_row(known, 9, due=None)]),
            Encoded(facts=stored(other, 2), agenda=[agenda_row(other, 2)]),
        ]
    )
    assert refused == {0: Refusal.VERSION, 1: Refusal.PREDECESSOR}
    assert await rows(application, "SELECT notification, version FROM ledger.agenda") == [(known, 1)]
