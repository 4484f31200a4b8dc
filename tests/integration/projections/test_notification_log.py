from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql

from ledger import notification as n
from ledger.follower import Follower, caught_up
from ledger.keys import Identity
from ledger.mapping import Recorded
from ledger.signals import Signals
from ledger.store import Store
from projections.notification_log import BrokenStreamError, LogRow, NotificationLog
from tests.integration.projections.lives import (
    KEY,
    MAPPER,
    Life,
    folded_from_log,
    steps,
    wishes,
    write,
    write_interleaved,
)
from tests.support.postgres import IDENTITY_KEY, Database

VIEW = NotificationLog()
LONG = timedelta(seconds=60)
on_one_database = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
lives = st.lists(st.tuples(wishes, steps), min_size=1, max_size=6)


async def rows_of(connection: AsyncConnection[Any], streams: Sequence[UUID]) -> dict[UUID, LogRow]:
    names = sql.SQL(", ").join(map(sql.Identifier, LogRow.__struct_fields__))
    query = sql.SQL("SELECT {} FROM views.notification_log WHERE notification = ANY(%s)").format(names)
    found = await connection.execute(query, (list(streams),), binary=True)
    return {row[0]: LogRow(*row) for row in await found.fetchall()}


def row_of(stream: UUID, state: n.State, position: int) -> LogRow:
    """Write down by hand what a row says of a state."""
    asked, attempts = state.requested, state.attempts
    references = [attempt.reference for attempt in attempts if attempt.reference]
    assert isinstance(asked.personal, bytes)

    def first(field: str) -> Any:
        return min((at for attempt in attempts if (at := getattr(attempt, field))), default=None)

    return LogRow(
        notification=stream,
        created_at=asked.recorded_at,
        channel=asked.channel.value,
        category=asked.category.value,
        type=asked.type,
        template=asked.template,
        user_id=asked.user_id,
        address_hash=asked.address_hash,
        recipient=asked.recipient,
        lane=asked.lane.value,
        locale=asked.locale,
        source=asked.source,
        message_id=asked.message_id,
        correlation_id=asked.correlation_id,
        references=asked.references,
        expires_at=asked.expires_at,
        sealed=asked.personal,
        sealed_version=1,
        sealed_topic="notification.requested",
        changed_at=state.changed_at,
        status=state.status.value,
        reason=state.reason,
        attempts=len(attempts),
        provider=attempts[-1].provider if attempts else None,
        provider_message_id=references[-1] if references else None,
        dispatched_at=first("dispatched_at"),
        delivered_at=first("delivered_at"),
        first_opened_at=first("first_opened_at"),
        first_clicked_at=first("first_clicked_at"),
        opens=sum(attempt.opens for attempt in attempts),
        clicks=sum(attempt.clicks for attempt in attempts),
        version=state.version,
        position=position,
        cost=[{"amount": str(money.amount), "currency": money.currency} for money in state.cost],
        template_version=asked.template_version,
        resend_of=asked.resend_of,
        fell_back_from=asked.fallback_of,
        fell_back_to=state.fell_back_to,
    )


async def expected_rows(store: Store, streams: Sequence[UUID]) -> dict[UUID, LogRow]:
    folded = await folded_from_log(store, streams)
    return {stream: row_of(stream, state, at) for stream, (state, at) in folded.items()}


async def recorded_after(store: Store, position: int) -> list[Recorded]:
    rows = await store.read(after=position, limit=10_000)
    return [Recorded(r.stream, r.version, r.topic, MAPPER.decode(r.topic, r.state), r.position) for r in rows]


@on_one_database
@given(drawn=lives, batch=st.integers(1, 20))
async def test_i11_what_the_follower_writes_is_the_fold_of_the_log_row_by_row(
    database: Database, store: Store, connection: AsyncConnection[Any], drawn: Any, batch: int
):
    now = await store.now()
    written = [Life(now, **wish).live(*steps) for wish, steps in drawn]
    await write_interleaved(store, written)
    follower = Follower(database.url, VIEW, Signals(database.url), batch=batch, pace=timedelta())
    follower.start()
    assert await caught_up(connection, VIEW, await store.head(), timeout=LONG)
    await follower.stop()
    streams = [life.stream for life in written]
    assert await rows_of(connection, streams) == await expected_rows(store, streams)


@on_one_database
@given(drawn=lives, data=st.data())
async def test_i11_however_the_log_is_cut_into_batches_the_rows_are_the_same(
    store: Store, connection: AsyncConnection[Any], drawn: Any, data: st.DataObject
):
    start = await store.head()
    now = await store.now()
    written = [Life(now, **wish).live(*steps) for wish, steps in drawn]
    await write_interleaved(store, written)
    facts = await recorded_after(store, start)
    cuts = data.draw(st.sets(st.integers(1, len(facts))))
    for begin, end in pairwise(sorted({0, len(facts), *cuts})):
        async with connection.transaction():
            await VIEW.fold(connection, facts[begin:end])
    streams = [life.stream for life in written]
    rows = await rows_of(connection, streams)
    assert rows == await expected_rows(store, streams)
    assert await statuses_of(connection, streams) == sorted((row.status, stream) for stream, row in rows.items())


async def statuses_of(connection: AsyncConnection[Any], streams: Sequence[UUID]) -> list[tuple[str, UUID]]:
    found = await connection.execute(
        "SELECT status, notification FROM views.notification_log_status WHERE notification = ANY(%s)", (list(streams),)
    )
    return sorted(await found.fetchall())


async def test_the_sealed_field_is_copied_with_what_it_is_bound_to_and_nothing_else_names_the_person(
    store: Store, connection: AsyncConnection[Any]
):
    life = Life(await store.now()).live("attempt", "accepted")
    await write(store, life.encoded())
    async with connection.transaction():
        await VIEW.fold(connection, await recorded_after(store, 0))
    row = (await rows_of(connection, [life.stream]))[life.stream]
    assert row.sealed is not None
    bound_to = row.notification.bytes + row.sealed_version.to_bytes(8) + row.sealed_topic.encode()
    assert msgspec.json.decode(KEY.open(row.sealed, bound_to=bound_to))["address"] == "ann@example.com"
    (whole,) = await (
        await connection.execute("SELECT l::text, convert_from(l.progress, 'UTF8') FROM views.notification_log l")
    ).fetchall()
    assert "ann@example.com" not in "".join(whole)
    assert Identity(IDENTITY_KEY).address_hash("ann@example.com") not in "".join(whole)


async def test_streams_that_stand_for_a_thing_have_no_row(store: Store, connection: AsyncConnection[Any]):
    life = Life(await store.now())
    life.stream = Identity(IDENTITY_KEY).standing_stream("suppression", "x")
    await write(store, life.encoded())
    async with connection.transaction():
        await VIEW.fold(connection, await recorded_after(store, 0))
    assert await rows_of(connection, [life.stream]) == {}


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_a_fact_is_never_folded_over_a_gap(store: Store, connection: AsyncConnection[Any], missing: int):
    await write(store, Life(await store.now()).live("attempt", "accepted").encoded())
    facts = await recorded_after(store, 0)
    with pytest.raises(BrokenStreamError):
        await VIEW.fold(connection, [*facts[:missing], *facts[missing + 1 :]])


async def test_no_index_holds_a_column_that_changes(store: Store, connection: AsyncConnection[Any]):
    """Then a row is updated in place (HOT), whatever the server is busy with."""
    life = Life(await store.now(), user_id="u-1")
    life.live("attempt", "accepted", "delivered", "opened")
    await write_interleaved(store, [life])
    facts = await recorded_after(store, 0)
    rows = []
    for part in (facts[:1], facts[1:]):
        async with connection.transaction():
            await VIEW.fold(connection, part)
        told = await connection.execute("SELECT to_jsonb(l) FROM views.notification_log_v4 l")
        rows.append((await told.fetchall())[0][0])
    indexed = await connection.execute(
        "SELECT DISTINCT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'views.notification_log_v4'::regclass"
    )
    changing = {column for column, value in rows[1].items() if rows[0][column] != value}
    assert {"status", "changed_at"} <= changing
    assert changing.isdisjoint(name for (name,) in await indexed.fetchall())


ONE_VERSION_BACK = """
DROP VIEW views.notification_log, views.notification_log_business_reference;
DROP TABLE views.notification_log_business_reference_v4;
ALTER TABLE views.notification_log_v4
    DROP COLUMN template_version, DROP COLUMN resend_of, DROP COLUMN fell_back_from, DROP COLUMN fell_back_to;
ALTER TABLE views.notification_log_v4 RENAME TO notification_log_v3;
ALTER TABLE views.notification_log_reference_v4 RENAME TO notification_log_reference_v3;
ALTER TABLE views.notification_log_address_v4 RENAME TO notification_log_address_v3;
ALTER TABLE views.notification_log_status_v4 RENAME TO notification_log_status_v3;
CREATE VIEW views.notification_log AS SELECT * FROM views.notification_log_v3;
DELETE FROM ledger.follower;
"""


async def test_it_is_found_by_an_address_that_was_found_for_an_attempt(store: Store, connection: AsyncConnection[Any]):
    """A batch that begins behind the request knows nothing of it: the attempt says itself where its address is from."""
    found, named = "f" * 32, "e" * 32
    lives = [Life(await store.now(), address_hash=None), Life(await store.now(), address_hash=named)]
    for life, address in zip(lives, ("who@example.com", None), strict=True):
        life.attempt_at(found, address)
    await write_interleaved(store, lives)
    facts = await recorded_after(store, 0)
    for part in (facts[:2], facts[2:]):
        async with connection.transaction():
            await VIEW.fold(connection, part)
    told = await connection.execute("SELECT address_hash, notification FROM views.notification_log_address ORDER BY 1")
    assert await told.fetchall() == [(named, lives[1].stream), (found, lives[0].stream)]


async def known_as(connection: AsyncConnection[Any]) -> list[tuple[str, str, UUID]]:
    told = await connection.execute("SELECT name, value, notification FROM views.notification_log_business_reference")
    return sorted(await told.fetchall())


async def test_it_is_found_by_what_the_business_knows_it_by(store: Store, connection: AsyncConnection[Any]):
    named = {"orderId": "o-1", "invoice": "o-1"}
    now = await store.now()
    known, unknown = (Life(now, references=names) for names in (named, {}))
    await write_interleaved(store, [known, unknown])
    async with connection.transaction():
        await VIEW.fold(connection, await recorded_after(store, 0))
    assert await known_as(connection) == [(name, "o-1", known.stream) for name in sorted(named)]


async def test_i12_a_new_version_is_filled_beside_the_one_before_which_is_shown_until_then(
    store: Store, connection: AsyncConnection[Any]
):
    references = {"orderId": "o-1"}
    lives = [Life(await store.now(), references=references).live("attempt", "accepted") for _ in range(5)]
    await write_interleaved(store, lives)
    facts = await recorded_after(store, 0)
    async with connection.transaction():
        await VIEW.fold(connection, facts)
    streams = [life.stream for life in lives]
    right, known = await rows_of(connection, streams), await known_as(connection)
    assert right == await expected_rows(store, streams)
    await connection.execute(ONE_VERSION_BACK, prepare=False)

    new = NotificationLog(caught_up=3)
    async with connection.transaction():
        await new.create(connection)
    shown = await rows_of(connection, streams)
    assert shown == {stream: msgspec.structs.replace(row, template_version="") for stream, row in right.items()}
    assert await known_as(connection) == known
    async with connection.transaction():
        await new.fold(connection, facts[:6])
    assert await rows_of(connection, streams) == shown
    async with connection.transaction():
        await new.fold(connection, facts[6:])
    assert await rows_of(connection, streams) == right
    assert await known_as(connection) == known
