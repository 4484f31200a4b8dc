"""append_1: what is refused and why, and that a decision is stored whole or not at all."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.decision import Reference, Take
from ledger.errors import LedgerError, Refusal, UnstorableError
from ledger.store import _APPEND, Encoded, Store, _columns, connect
from tests.integration.ledger.parts import Connection, agenda_row, log, new_id, rows, standing, stored, value
from tests.support.postgres import Database

ONE_DATABASE = True

HOUR = datetime(2031, 5, 4, 12, tzinfo=UTC)
KEY, HASH, OTHER_HASH = b"k" * 32, b"h" * 32, b"o" * 32
TABLES = ("stored_events", "intake", "quota", "content", "provider_reference", "agenda")


async def test_facts_are_stored_in_the_order_they_were_given_in(store: Store, application: Connection):
    one, other = new_id(), new_id()
    assert await store.append([Encoded(facts=[*stored(other, 1, 2), *stored(one, 1)])]) == {}
    assert await store.append([Encoded(facts=stored(one, 2)), Encoded(facts=stored(other, 3))]) == {}
    assert await log(application) == [(other, 1), (other, 2), (one, 1), (one, 2), (other, 3)]


async def test_what_was_stored_is_read_back_byte_for_byte(store: Store):
    stream, state = new_id(), bytes(range(256))
    await store.append([Encoded(facts=[(stream, 1, "notification.expired", state)])])
    (row,) = await store.load([stream])
    assert (row.stream, row.version, row.topic, row.state) == (stream, 1, "notification.expired", state)
    assert row.position == await store.head()


async def test_a_version_that_is_taken_is_refused(store: Store, application: Connection):
    stream = new_id()
    await store.append([Encoded(facts=stored(stream, 1, 2))])
    for versions in ((1,), (2,), (2, 3)):
        assert await store.append([Encoded(facts=stored(stream, *versions))]) == {0: Refusal.VERSION}
    assert await log(application) == [(stream, 1), (stream, 2)]


async def test_i10_a_version_whose_predecessor_is_missing_is_refused(store: Store, application: Connection):
    stream = new_id()
    assert await store.append([Encoded(facts=stored(stream, 2))]) == {0: Refusal.PREDECESSOR}
    await store.append([Encoded(facts=stored(stream, 1))])
    assert await store.append([Encoded(facts=stored(stream, 3))]) == {0: Refusal.PREDECESSOR}
    assert await log(application) == [(stream, 1)]


async def test_i10_a_decision_with_a_gap_in_its_own_versions_is_refused(store: Store, application: Connection):
    assert await store.append([Encoded(facts=stored(new_id(), 1, 3))]) == {0: Refusal.PREDECESSOR}
    assert await log(application) == []


@pytest.mark.parametrize("make_id", [new_id, standing])
async def test_a_guard_of_zero_holds_while_its_stream_is_absent(store: Store, make_id: Any):
    guarded = make_id()
    decisions = [Encoded(facts=stored(new_id()), guards=[(guarded, 0)]) for _ in range(2)]
    assert await store.append([decisions[0]]) == {}
    await store.append([Encoded(facts=stored(guarded))])
    assert await store.append([decisions[1]]) == {0: Refusal.GUARD}


async def test_a_guard_holds_at_exactly_its_version(store: Store):
    guarded = standing()
    await store.append([Encoded(facts=stored(guarded, 1, 2))])
    decisions = [Encoded(facts=stored(new_id()), guards=[(guarded, version)]) for version in (0, 1, 2, 3)]
    assert await store.append(decisions) == {0: Refusal.GUARD, 1: Refusal.GUARD, 3: Refusal.GUARD}


async def test_i02_a_known_intake_key_with_the_same_body_is_refused_as_taken_in(store: Store):
    first, again = (Encoded(facts=stored(new_id()), intake=(KEY, HASH)) for _ in range(2))
    assert await store.append([first]) == {}
    assert await store.append([again]) == {0: Refusal.TAKEN_IN}
    _, known = await store.taken([KEY, b"unknown"])
    assert {key: (row.body_hash, row.notifications) for key, row in known.items()} == {KEY: (HASH, [first.facts[0][0]])}


async def test_i03_a_known_intake_key_with_another_body_is_a_recorded_conflict(store: Store, application: Connection):
    await store.append([Encoded(facts=stored(new_id()), intake=(KEY, HASH))])
    found = await rows(application, "SELECT conflicts, last_conflict_at, last_conflict_hash FROM ledger.intake")
    assert found == [(0, None, None)]
    for _ in range(2):
        assert await store.append([Encoded(facts=stored(new_id()), intake=(KEY, OTHER_HASH))]) == {0: Refusal.CONFLICT}
    query = "SELECT conflicts, last_conflict_at <= now(), last_conflict_hash, body_hash FROM ledger.intake"
    assert await rows(application, query) == [(2, True, OTHER_HASH, HASH)]


async def test_a_message_that_asks_for_nothing_is_taken_in_all_the_same(store: Store):
    await store.append([Encoded(intake=(KEY, HASH))])
    assert await store.append([Encoded(intake=(KEY, HASH))]) == {0: Refusal.TAKEN_IN}


async def test_an_intake_row_names_the_notifications_that_begin_and_no_others(store: Store):
    older, begun, also = new_id(), new_id(), new_id()
    await store.append([Encoded(facts=stored(older))])
    facts = [*stored(older, 2), *stored(begun, 1, 2), *stored(also)]
    await store.append([Encoded(facts=facts, intake=(KEY, HASH))])
    _, known = await store.taken([KEY])
    assert known[KEY].notifications == [begun, also]


async def test_what_was_taken_in_is_said_before_any_other_reason(store: Store):
    stream, guarded = new_id(), standing()
    await store.append([Encoded(facts=stored(stream), intake=(KEY, HASH)), Encoded(facts=stored(guarded))])
    everything = Encoded(facts=stored(stream), guards=[(guarded, 0)], intake=(KEY, HASH), takes=[_take(5, limit=1)])
    assert await store.append([everything]) == {0: Refusal.TAKEN_IN}
    assert await store.append([msgspec.structs.replace(everything, intake=None)]) == {0: Refusal.VERSION}


def _take(amount: float, *, limit: float, key: str = "spend", window: datetime = HOUR) -> Take:
    return Take(key, window, Decimal(str(amount)), Decimal(str(limit)))


async def test_i20_a_quota_is_spent_to_its_last_cent_and_no_further(store: Store, application: Connection):
    takes = [_take(0.07, limit=0.2) for _ in range(3)]
    assert await store.append([Encoded(facts=stored(new_id()), takes=takes[:1])]) == {}
    assert await store.append([Encoded(facts=stored(new_id()), takes=takes[:1])]) == {}
    assert await store.append([Encoded(facts=stored(new_id()), takes=takes[:1])]) == {0: Refusal.QUOTA}
    assert await store.append([Encoded(facts=stored(new_id()), takes=[_take(0.06, limit=0.2)])]) == {}
    assert await rows(application, "SELECT key, window_start, used FROM ledger.quota") == [
        ("spend", HOUR, Decimal("0.20"))
    ]


async def test_i20_decisions_of_one_batch_share_the_rest_of_a_quota_in_their_order(
    store: Store, application: Connection
):
    takes = [[_take(amount, limit=10)] for amount in (6, 6, 4, 1)]
    refused = await store.append([Encoded(facts=stored(new_id()), takes=take) for take in takes])
    assert refused == {1: Refusal.QUOTA, 3: Refusal.QUOTA}
    assert await value(application, "SELECT used FROM ledger.quota") == 10


async def test_what_is_refused_for_another_reason_spends_nothing(store: Store, application: Connection):
    stream = new_id()
    await store.append([Encoded(facts=stored(stream))])
    decisions = [
        Encoded(facts=stored(stream), takes=[_take(10, limit=10)]),
        Encoded(facts=stored(new_id()), takes=[_take(10, limit=10)]),
    ]
    assert await store.append(decisions) == {0: Refusal.VERSION}
    assert await value(application, "SELECT used FROM ledger.quota") == 10


async def test_of_several_quotas_all_are_taken_or_none(store: Store, application: Connection):
    one, other = _take(1, limit=10, key="one"), _take(11, limit=10, key="other")
    assert await store.append([Encoded(facts=stored(new_id()), takes=[one, other])]) == {0: Refusal.QUOTA}
    assert await rows(application, "SELECT * FROM ledger.quota") == []


async def test_a_quota_that_one_decision_takes_from_twice_counts_both(store: Store, application: Connection):
    takes = [_take(4, limit=10), _take(4, limit=10)]
    assert await store.append([Encoded(facts=stored(new_id()), takes=takes)]) == {}
    assert await store.append([Encoded(facts=stored(new_id()), takes=takes)]) == {0: Refusal.QUOTA}
    assert await value(application, "SELECT used FROM ledger.quota") == 8


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(-4, 9), st.sampled_from([5, 10, 1_000]), st.booleans()), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    )
)
async def test_i20_whatever_a_batch_takes_and_gives_back_it_ends_as_if_one_came_after_the_other(
    store: Store, application: Connection, batches: list[list[tuple[int, int, bool]]]
):
    """Takes of (amount, limit, also from a second quota); what fits together is taken together, which nobody sees."""
    keys = [uuid4().hex, uuid4().hex]
    used = dict.fromkeys(keys, 0)
    for batch in batches:
        expected, decisions = {}, []
        for number, (amount, limit, both) in enumerate(batch):
            mine = keys if both else keys[:1]
            decisions.append(
                Encoded(facts=stored(new_id()), takes=[_take(amount, limit=limit, key=key) for key in mine])
            )
            if any(used[key] + amount > limit for key in mine):
                expected[number] = Refusal.QUOTA
            else:
                used |= {key: used[key] + amount for key in mine}
        assert await store.append(decisions) == expected
    found = await rows(application, "SELECT key, used FROM ledger.quota WHERE key = ANY(%s)", keys)
    assert dict.fromkeys(keys, 0) | {key: int(amount) for key, amount in found} == used


async def test_each_window_has_a_quota_of_its_own(store: Store):
    later = HOUR.replace(hour=13)
    for window in (HOUR, later):
        take = _take(10, limit=10, window=window)
        assert await store.append([Encoded(facts=stored(new_id()), takes=[take])]) == {}


def _whole(stream: UUID, **changes: Any) -> Encoded:
    """A decision with something in every part."""
    parts: dict[str, Any] = {
        "facts": [*stored(stream, 1, 2), *stored(new_id())],
        "guards": [(standing(), 0)],
        "intake": (KEY, HASH),
        "takes": [_take(1, limit=10)],
        "contents": [("standard", stream, b"d" * 32, b"words")],
        "references": [Reference("ses", "ref-1", stream, uuid4())],
        "agenda": [agenda_row(stream)],
    }
    return Encoded(**parts | changes)


async def _counts(application: Connection) -> list[int]:
    return [await value(application, f"SELECT count(*) FROM ledger.{table}") for table in TABLES]


async def test_all_parts_of_a_decision_are_stored(store: Store, application: Connection):
    stream = new_id()
    assert await store.append([_whole(stream)]) == {}
    assert await _counts(application) == [3, 1, 1, 1, 1, 1]
    assert await store.content("standard", stream, b"d" * 32) == b"words"
    query = "SELECT provider, reference, notification FROM ledger.provider_reference"
    assert await rows(application, query) == [("ses", "ref-1", stream)]


@pytest.mark.parametrize("reason", Refusal)
async def test_of_a_refused_decision_nothing_is_stored_and_its_neighbours_are(
    store: Store, application: Connection, reason: Refusal
):
    known, neighbour = new_id(), new_id()
    await store.append([Encoded(facts=stored(known), intake=(b"known", HASH))])
    before = await _counts(application)
    faults: dict[Refusal, dict[str, Any]] = {
        Refusal.VERSION: {"facts": [*stored(new_id()), *stored(known, 1)]},
        Refusal.PREDECESSOR: {"facts": [*stored(new_id()), *stored(known, 3)]},
        Refusal.GUARD: {"guards": [(known, 0)]},
        Refusal.TAKEN_IN: {"intake": (b"known", HASH)},
        Refusal.CONFLICT: {"intake": (b"known", OTHER_HASH)},
        Refusal.QUOTA: {"takes": [_take(1, limit=10, key="other"), _take(1, limit=0)]},
    }
    refused = await store.append([_whole(new_id(), **faults[reason]), Encoded(facts=stored(neighbour))])
    assert refused == {0: reason}
    assert await _counts(application) == [before[0] + 1, *before[1:]]


@pytest.mark.parametrize(
    "broken",
    [
        {"contents": [("no-such-class", UUID(int=0), b"d", b"w")]},
        {"references": [Reference("ses", "nul \x00", UUID(int=0), UUID(int=0))]},
        {"references": [Reference("ses", "lone \ud800", UUID(int=0), UUID(int=0))]},
        {"facts": [(UUID(int=0), 1, "notification.expired", b"{}")]},
        {"facts": [(UUID(int=1 << 127), 1, "notification.expired", b"{}")]},
        {"facts": stored(UUID("f0000000-0000-8000-8000-000000000000"), 2**63)},
        {"facts": [*stored(UUID("f0000000-0000-8000-8000-000000000000"), 1, 1)]},
        {"takes": [Take("spend", HOUR.replace(tzinfo=None), Decimal(1), Decimal(1))]},
    ],
)
async def test_values_that_cannot_be_stored_are_told_from_a_database_in_trouble(
    store: Store, application: Connection, broken: dict[str, Any]
):
    with pytest.raises(UnstorableError) as caught:
        await store.append([_whole(new_id()), Encoded(**broken)])
    assert "spend" not in str(caught.value)
    assert "nul" not in str(caught.value)
    assert await _counts(application) == [0] * len(TABLES)
    assert await store.append([_whole(new_id())]) == {}


async def test_the_words_of_a_repeated_digest_and_a_known_reference_are_left_as_they_are(
    store: Store, application: Connection
):
    stream, other = new_id(), new_id()
    reference = Reference("ses", "ref-1", stream, uuid4())
    await store.append([_whole(stream, references=[reference])])
    again = Encoded(
        facts=stored(other),
        contents=[("standard", stream, b"d" * 32, b"other words")],
        references=[Reference("ses", "ref-1", other, uuid4())],
    )
    assert await store.append([again]) == {}
    assert await store.content("standard", stream, b"d" * 32) == b"words"
    assert await value(application, "SELECT notification FROM ledger.provider_reference") == stream


@pytest.mark.parametrize("second", ["writes", "guards"])
async def test_two_decisions_that_meet_in_a_stream_must_not_share_a_batch(store: Store, second: str):
    stream = standing()
    meeting = Encoded(facts=stored(stream, 2)) if second == "writes" else Encoded(guards=[(stream, 0)])
    for batch in ([Encoded(facts=stored(stream)), meeting], [meeting, Encoded(facts=stored(stream))]):
        with pytest.raises(LedgerError):
            await store.append(batch)


async def test_a_decision_may_guard_the_stream_that_it_writes(store: Store):
    stream = new_id()
    assert await store.append([Encoded(facts=stored(stream), guards=[(stream, 0)])]) == {}


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_i07_checks_that_would_not_see_what_committed_meanwhile_are_not_made(
    database: Database, application: Connection, level: str
):
    async with await connect(
        database.url, options=f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"
    ) as strict:
        with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
            await strict.execute(_APPEND, _columns([Encoded(facts=stored(new_id()))]), binary=True)
    assert await log(application) == []


async def test_the_reply_of_a_wholly_refused_batch_is_small(store: Store, application: Connection):
    streams = [new_id() for _ in range(200)]
    await store.append([Encoded(facts=stored(stream)) for stream in streams])
    batch = [Encoded(facts=stored(stream, 3)) for stream in streams]
    cursor = await application.execute(_APPEND, _columns(batch), binary=True)
    assert cursor.pgresult is not None
    reply = [cursor.pgresult.get_value(0, column) or b"" for column in range(cursor.pgresult.nfields)]
    assert len((await cursor.fetchall())[0][0]) == 200
    assert sum(map(len, reply)) < 8_192


async def test_it_says_at_which_position_a_batch_begins(store: Store, application: Connection):
    await store.append([Encoded(facts=stored(new_id(), 1, 2, 3))])
    stream = new_id()
    call = _APPEND.replace("refused, reasons", "first_position, refused")
    batch = [Encoded(facts=stored(new_id(), 2)), Encoded(facts=stored(stream, 1, 2))]
    ((first, refused),) = await (await application.execute(call, _columns(batch), binary=True)).fetchall()
    assert (first, refused) == ((await store.load([stream]))[0].position, [0])
