import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from psycopg import AsyncConnection

from ledger.mapping import Recorded
from ledger.status import Status
from ledger.values import Category, Channel, DoubtPolicy
from projections.notification_log import LogRow, NotificationLog
from projections.notification_search import CursorError, Filters, _query, search
from tests.integration.projections.lives import MAPPER, Life

VIEW = NotificationLog()
STEPS = ((), ("suppress",), ("attempt",), ("attempt", "refused"), ("attempt", "accepted"))
REACHED = (*STEPS[4], "delivered")
ENDINGS = (
    *STEPS,
    REACHED,
    (*REACHED, "opened"),
    (*REACHED, "bounced"),
    ("attempt", "postponed", "attempt", "accepted"),
)


def some_lives(now: datetime, count: int) -> list[Life]:
    """Make notifications that differ in everything that is searched by, the oldest first."""
    draw = random.Random(7)
    return [
        Life(
            now - timedelta(seconds=count - i),
            type=draw.choice(["OrderShippedEvent", "PasswordResetEvent"]),
            template=draw.choice(["order_shipped", "password_reset"]),
            template_version=draw.choice(["a" * 16, "b" * 16]),
            references={draw.choice(["order", "invoice"]): f"o-{draw.randrange(count // 4)}", "shop": "s-1"},
            channel=draw.choice([Channel.EMAIL, Channel.EMAIL, Channel.SMS]),
            category=draw.choice(list(Category)),
            user_id=f"u-{draw.randrange(count // 4)}",
            address_hash=f"{draw.randrange(count // 4):032x}",
            correlation_id=f"c-{draw.randrange(count // 4)}",
            message_id=f"m-{draw.randrange(count // 2)}",
        ).live(*draw.choice(ENDINGS))
        for i in range(count)
    ]


async def fold(connection: AsyncConnection[Any], lives: list[Life]) -> None:
    facts: list[Recorded] = []
    for life in lives:
        for stream, version, topic, state in life.encoded().facts:
            facts.append(Recorded(stream, version, topic, MAPPER.decode(topic, state), len(facts)))
    async with connection.transaction():
        await VIEW.fold(connection, facts)


@pytest.fixture
async def lives(connection: AsyncConnection[Any]) -> list[Life]:
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    lives = some_lives(now, 60)
    await fold(connection, lives)
    return lives


async def everything(connection: AsyncConnection[Any], filters: Filters, *, limit: int = 200) -> list[LogRow]:
    rows: list[LogRow] = []
    cursor = None
    while True:
        page = await search(connection, filters, cursor=cursor, limit=limit)
        rows += page.rows
        cursor = page.cursor
        if cursor is None:
            return rows


def told_of(life: Life) -> dict[str, Any]:
    """Return what a life is found by."""
    asked = life.state.requested
    return {
        **{name: getattr(asked, name) for name in ("user_id", "channel", "category", "type", "template")},
        **{name: getattr(asked, name) for name in ("correlation_id", "message_id", "address_hash")},
        "status": life.state.status,
        "notification": life.stream,
        "template_version": asked.template_version,
        "reference": next(iter(asked.references.values())),
    }


FIELDS = sorted(set(Filters.__struct_fields__) - {"provider_message_id", "reference_name", "since", "until"})


@pytest.mark.parametrize("field", FIELDS)
async def test_each_filter_finds_exactly_the_rows_that_are_so_the_newest_first(
    connection: AsyncConnection[Any], lives: list[Life], field: str
):
    for value in {told_of(life)[field] for life in lives}:
        found = await everything(connection, Filters(**{field: value}))
        wanted = [life.stream for life in reversed(lives) if told_of(life)[field] == value]
        assert [row.notification for row in found] == wanted


async def test_filters_narrow_each_other(connection: AsyncConnection[Any], lives: list[Life]):
    for life in lives:
        told = told_of(life)
        for other in FIELDS:
            filters = Filters(status=told["status"], **({other: told[other]} if other != "status" else {}))
            wanted = {
                each.stream
                for each in lives
                if told_of(each)["status"] == told["status"] and told_of(each)[other] == told[other]
            }
            assert {row.notification for row in await everything(connection, filters)} == wanted


async def test_a_reference_is_found_under_its_name_alone_and_once_without_it(
    connection: AsyncConnection[Any], lives: list[Life]
):
    twice = Life(lives[-1].now, references={"order": "o-1", "invoice": "o-1"})
    await fold(connection, [twice])
    every = [*lives, twice]
    for names in ({"order"}, {"invoice"}, {"order", "invoice"}):
        name = names.pop() if len(names) == 1 else None
        found = await everything(connection, Filters(reference="o-1", reference_name=name))
        wanted = [
            life.stream
            for life in reversed(every)
            if any(value == "o-1" and name in {None, one} for one, value in life.state.requested.references.items())
        ]
        assert [row.notification for row in found] == wanted
    assert await everything(connection, Filters(reference="o-1", reference_name="shop")) == []


async def test_every_status_can_be_asked_for(connection: AsyncConnection[Any], lives: list[Life]):
    assert len({life.state.status for life in lives}) > 6
    for status in Status:
        found = await everything(connection, Filters(status=status))
        assert {row.status for row in found} <= {status.value}


async def test_a_notification_is_found_by_the_providers_id_of_any_of_its_attempts(
    connection: AsyncConnection[Any], lives: list[Life]
):
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    twice = Life(now, doubt=DoubtPolicy.RESEND).live("attempt", "in_doubt")
    twice.now += timedelta(minutes=20)
    twice.live("attempt", "accepted")
    first, second = (attempt.id for attempt in twice.state.attempts)
    # The first attempt's report comes late: it had been taken after all.
    twice.facts += twice._outcome("accepted", first)
    await fold(connection, [twice])
    for attempt in (first, second):
        found = await everything(connection, Filters(provider_message_id=f"ref-{attempt}"))
        assert [row.notification for row in found] == [twice.stream]


async def test_a_span_of_time_includes_its_beginning_and_not_its_end(
    connection: AsyncConnection[Any], lives: list[Life]
):
    times = [life.state.requested.recorded_at for life in lives]
    found = await everything(connection, Filters(since=times[10], until=times[20]))
    assert [row.created_at for row in found] == times[10:20][::-1]
    tick = timedelta(microseconds=1)
    found = await everything(connection, Filters(since=times[10] + tick, until=times[20] + tick))
    assert [row.created_at for row in found] == times[11:21][::-1]


async def test_pages_neither_skip_nor_repeat_while_rows_are_added(connection: AsyncConnection[Any], lives: list[Life]):
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    seen: list[UUID] = []
    cursor = None
    while True:
        page = await search(connection, Filters(), cursor=cursor, limit=7)
        assert len(page.rows) <= 7
        seen += [row.notification for row in page.rows]
        await fold(connection, [Life(now + timedelta(seconds=len(seen)))])
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [life.stream for life in reversed(lives)]


async def test_the_last_page_has_no_cursor_even_when_it_is_full(connection: AsyncConnection[Any], lives: list[Life]):
    page = await search(connection, Filters(), limit=len(lives))
    assert len(page.rows) == len(lives)
    assert page.cursor is None


async def test_a_cursor_that_is_none_is_refused(connection: AsyncConnection[Any]):
    with pytest.raises(CursorError):
        await search(connection, Filters(), cursor="nonsense")


@pytest.mark.parametrize("text", ["u\0", "\ud800", "'; DROP TABLE views.notification_log_v4; --", "%s {} %(limit)b"])
async def test_a_text_that_cannot_be_stored_or_looks_like_sql_finds_nothing(
    connection: AsyncConnection[Any], lives: list[Life], text: str
):
    for field in ("user_id", "type", "template", "correlation_id", "message_id", "provider_message_id", "reference"):
        filters = msgspec.structs.replace(Filters(), **{field: text})
        assert (await search(connection, filters)).rows == []
    assert len((await search(connection, Filters(), limit=100)).rows) == len(lives)


async def plan_of(connection: AsyncConnection[Any], filters: Filters) -> str:
    query, given = _query(filters, before=uuid4(), limit=51)
    return "\n".join(
        [
            row[0]
            for row in await (
                await connection.execute(b"EXPLAIN " + query.as_bytes(connection), given, prepare=False)
            ).fetchall()
        ]
    )


async def test_every_filter_reads_an_index_and_never_the_whole_table(connection: AsyncConnection[Any]):
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    lives = some_lives(now, 5000)
    await fold(connection, lives)
    for table in ("log", "log_status", "log_reference", "log_address", "log_business_reference"):
        await connection.execute(f"ANALYZE views.notification_{table}_v4".encode())
    told = told_of(lives[2500])
    singles = [Filters(**{field: told[field]}) for field in FIELDS]
    reference = next(f"ref-{life.state.attempts[0].id}" for life in lives if life.state.attempts)
    others = [
        Filters(provider_message_id=reference),
        Filters(since=now - timedelta(minutes=5)),
        Filters(until=now - timedelta(minutes=5)),
        *(Filters(status=status) for status in Status),
        Filters(),
    ]
    for filters in (*singles, *others):
        plan = await plan_of(connection, filters)
        assert "Index" in plan, filters
        assert "Seq Scan" not in plan, (filters, plan)
    for field in ("user_id", "correlation_id", "message_id"):
        assert f"notification_log_v4_{field}_notification_idx" in await plan_of(
            connection, Filters(**{field: told[field]})
        )
    assert "notification_log_address_v4_pkey" in await plan_of(connection, Filters(address_hash=told["address_hash"]))


def test_the_filters_are_those_of_the_contract():
    contract = {"user_id", "channel", "status", "category", "type", "template", "correlation_id", "message_id"}
    ours = {"provider_message_id", "address_hash", "since", "until", "notification"}
    ours |= {"template_version", "reference", "reference_name"}
    assert set(msgspec.structs.asdict(Filters())) == contract | ours
