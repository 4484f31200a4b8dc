"""What waits for a person or for its match: dead letters, tries, unmatched reports."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest

from ledger import conflicts
from ledger.decision import Reference
from ledger.set_aside import HIDDEN, Refusal, SetAside
from ledger.store import Encoded, Store
from ledger.values import Report, ReportKind
from tests.integration.ledger.parts import IDENTITY, Connection, new_id, now, rows, set_aside_in, value

ONE_DATABASE = True

BODY = b'{"messageType":"OrderShippedEvent","payload":{"email":"ada@example.com"}}'
REFUSAL = Refusal(
    reason="invalid",
    faults=[{"path": "payload.order", "message": "is missing"}],
    source="orders",
    type="OrderShippedEvent",
    message_id="m-1",
)


@pytest.fixture
def set_aside(store: Store) -> SetAside:
    return set_aside_in(store)


async def _keep(set_aside: SetAside, body: bytes = BODY, refusal: Refusal = REFUSAL) -> bytes:
    return await set_aside.keep(body, refusal, origin="amqp", now=now())


async def test_a_refused_message_is_kept_with_every_fault(set_aside: SetAside):
    key = await _keep(set_aside)
    letter = await set_aside.shown(key)
    assert letter is not None
    assert await set_aside.listed() == [letter]
    assert (letter.key, letter.reason, letter.faults, letter.origin) == (key.hex(), "invalid", REFUSAL.faults, "amqp")
    assert (letter.source, letter.type, letter.message_id) == ("orders", "OrderShippedEvent", "m-1")
    assert (letter.state, letter.seen, letter.decided_by) == ("waiting", 1, None)
    assert await set_aside.body_of(key) == BODY


async def test_i18_its_body_is_sealed(set_aside: SetAside, application: Connection):
    await _keep(set_aside)
    assert b"ada@" not in await value(application, "SELECT body FROM ledger.dead_letter")
    assert b"ada@" not in (await value(application, "SELECT d::text FROM ledger.dead_letter d")).encode()


async def test_the_same_bytes_again_are_the_same_row(set_aside: SetAside):
    keys = {await _keep(set_aside) for _ in range(3)}
    (letter,) = await set_aside.listed()
    assert (keys, letter.seen) == ({bytes.fromhex(letter.key)}, 3)
    assert await _keep(set_aside, b"other bytes") not in keys
    assert await set_aside.waiting() == 2


async def test_the_same_bytes_kept_by_many_at_once_are_one_row(set_aside: SetAside):
    await asyncio.gather(*(_keep(set_aside) for _ in range(10)))
    (letter,) = await set_aside.listed()
    assert letter.seen == 10


async def test_i16_a_dead_letter_is_decided_once(set_aside: SetAside):
    key = await _keep(set_aside)
    decided = await asyncio.gather(
        *(set_aside.decide(key, state="replayed", by=f"operator-{n}", reason="mended") for n in range(5))
    )
    assert sorted(decided) == [False] * 4 + [True]
    letter = await set_aside.shown(key)
    assert letter is not None
    assert (letter.state, letter.decision) == ("replayed", "mended")
    assert letter.decided_by == f"operator-{decided.index(True)}"
    assert letter.decided_at is not None
    assert (await set_aside.waiting(), await set_aside.listed()) == (0, [])
    assert await set_aside.listed(state="replayed") == await set_aside.listed(state=None) == [letter]


async def test_what_comes_again_after_it_was_decided_waits_anew(set_aside: SetAside):
    key = await _keep(set_aside)
    await set_aside.decide(key, state="discarded", by="operator", reason="nonsense")
    await _keep(set_aside, refusal=msgspec.structs.replace(REFUSAL, reason="conflict"))
    letter = await set_aside.shown(key)
    assert letter is not None
    assert (letter.state, letter.seen, letter.reason) == ("waiting", 2, "conflict")
    assert (letter.decided_at, letter.decided_by, letter.decision) == (None, None, None)


async def test_what_was_never_kept_is_not_there(set_aside: SetAside):
    assert await set_aside.shown(b"unknown") is None
    assert await set_aside.body_of(b"unknown") is None
    assert not await set_aside.decide(b"unknown", state="discarded", by="operator", reason="?")


async def test_the_newest_are_listed_first(set_aside: SetAside):
    keys = [await _keep(set_aside, str(number).encode()) for number in range(5)]
    assert [letter.key for letter in await set_aside.listed(limit=3)] == [key.hex() for key in keys[:1:-1]]


@pytest.mark.parametrize("text", ["nul \x00", "lone \ud800", "ö 😀"])
async def test_i01_whatever_text_is_left_of_an_envelope_a_message_is_kept(set_aside: SetAside, text: str):
    refusal = Refusal(
        reason="invalid", faults=[{"path": text, "message": text}], source=text, type=text, message_id=text
    )
    letter = await set_aside.shown(await _keep(set_aside, refusal=refusal))
    assert letter is not None
    readable = text.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert (letter.source, letter.type, letter.message_id) == (HIDDEN, HIDDEN, HIDDEN)
    assert letter.faults == [{"path": readable, "message": readable}]


@pytest.mark.parametrize("name", ["reset-ada@shop.example", "Ada Lovelace", "m" * 129, "+441632960000", "m-1\n", ""])
async def test_i18_a_name_that_may_hold_an_address_is_hidden(set_aside: SetAside, application: Connection, name: str):
    refusal = Refusal(reason="envelope", source=name, type=name, message_id=name)
    assert (refusal.source, refusal.type, refusal.message_id) == (HIDDEN, HIDDEN, HIDDEN)
    key = await _keep(set_aside, name.encode(), refusal)
    stored = await rows(application, "SELECT source, type, message_id FROM ledger.dead_letter")
    assert stored == [(HIDDEN, HIDDEN, HIDDEN)]
    assert await set_aside.body_of(key) == name.encode()


@pytest.mark.parametrize("name", ["OrderShippedEvent.v1", "urn:uuid:0d9f7c52-3b1e", "order_service", "m" * 128, None])
def test_any_other_name_is_shown(name: str | None):
    assert Refusal(reason="envelope", message_id=name).message_id == name


@pytest.mark.parametrize("body", [b"", bytes(range(256)), b"x" * 1_000_000])
async def test_i01_whatever_bytes_a_message_is_they_are_kept(set_aside: SetAside, body: bytes):
    assert await set_aside.body_of(await _keep(set_aside, body)) == body


async def test_each_week_has_a_key_of_its_own_and_older_bodies_stay_readable(
    set_aside: SetAside, application: Connection
):
    keys = [
        await set_aside.keep(f"{week}".encode(), REFUSAL, origin="http", now=now() - timedelta(weeks=week))
        for week in (2, 1, 0)
    ]
    assert [await set_aside.body_of(key) for key in keys] == [b"2", b"1", b"0"]
    assert await value(application, "SELECT count(*) FROM ledger.week_key") == 3


async def test_it_is_kept_for_thirty_days(set_aside: SetAside, application: Connection):
    old, young = await _keep(set_aside, b"old"), await _keep(set_aside, b"young")
    aged = "UPDATE ledger.dead_letter SET received_at = now() - %s WHERE key = %s"
    await application.execute(aged, (timedelta(days=30, minutes=1), old))
    await application.execute(aged, (timedelta(days=29, hours=23), young))
    await set_aside.purge()
    assert [letter.key for letter in await set_aside.listed()] == [young.hex()]


async def test_i01_what_comes_again_is_kept_for_thirty_days_from_then(set_aside: SetAside, application: Connection):
    key = await set_aside.keep(BODY, REFUSAL, origin="amqp", now=now() - timedelta(days=61))
    await application.execute("UPDATE ledger.dead_letter SET received_at = now() - interval '31 days'")
    assert await _keep(set_aside) == key
    await set_aside.purge()
    (letter,) = await set_aside.listed()
    assert (letter.key, letter.seen) == (key.hex(), 2)
    assert await set_aside.body_of(key) == BODY


async def test_i15_each_try_of_the_same_bytes_is_counted_whoever_tries(store: Store, set_aside: SetAside):
    assert [await one.try_again(BODY) for one in (set_aside, set_aside_in(store), set_aside)] == [1, 2, 3]
    assert await set_aside.try_again(b"other") == 1
    await set_aside.forget_tries(BODY)
    assert await set_aside.try_again(BODY) == 1


# -- reports that match nothing yet ------------------------------------------------------------------------------


def _report(key: str = "k1", reference: str = "ref-1", provider: str = "ses") -> Report:
    return Report(
        provider=provider,
        reference=reference,
        kind=ReportKind.DELIVERED,
        key=key,
        notification=new_id(),
        attempt=uuid4(),
        occurred_at=now(),
        evidence={"code": "250 secret"},
    )


async def test_i09_an_unmatched_report_is_kept_once_and_whole(set_aside: SetAside, application: Connection):
    report = _report()
    for _ in range(2):
        await set_aside.keep_report(report, now=now())
    assert await set_aside.unmatched() == 1
    assert "secret" not in await value(application, "SELECT u::text FROM ledger.unmatched_report u")


async def test_i09_a_report_is_tried_at_once_when_its_reference_has_appeared(set_aside: SetAside, store: Store):
    report, other = _report("a"), _report("b", reference="ref-2")
    for each in (report, other):
        await set_aside.keep_report(each, now=now())
    await store.append([Encoded(references=[Reference("ses", "ref-1", new_id(), uuid4())])])
    assert await set_aside.reports_to_try() == [report]


async def test_a_report_that_was_dropped_is_forgotten(set_aside: SetAside, application: Connection):
    one, other = _report("a"), _report("b")
    for report in (one, other):
        await set_aside.keep_report(report, now=now())
    await set_aside.drop_report(one)
    await _age(application, 2)
    assert await set_aside.reports_to_try() == [other]


async def _age(application: Connection, minutes: float) -> None:
    query = "UPDATE ledger.unmatched_report SET tried_at = tried_at - %s"
    await application.execute(query, (timedelta(minutes=minutes),))


async def test_i13_a_report_is_tried_again_by_the_clock_ever_less_often(set_aside: SetAside, application: Connection):
    report = _report()
    await set_aside.keep_report(report, now=now())
    assert await set_aside.reports_to_try() == []
    for minutes in (1.1, 2.1, 3.1):
        await _age(application, minutes - 0.5)
        assert await set_aside.reports_to_try() == []
        await _age(application, 0.5)
        assert await set_aside.reports_to_try() == [report]
    await application.execute("UPDATE ledger.unmatched_report SET tries = 10000")
    await _age(application, 61)
    assert await set_aside.reports_to_try() == [report]


async def test_each_report_is_tried_by_one_of_many_at_a_time(set_aside: SetAside, application: Connection):
    for number in range(40):
        await set_aside.keep_report(_report(str(number)), now=now())
    await _age(application, 2)
    parts = await asyncio.gather(*(set_aside.reports_to_try(limit=10) for _ in range(6)))
    keys = [report.key for part in parts for report in part]
    assert len(keys) == len(set(keys))
    rest = await set_aside.reports_to_try()
    assert len(keys) + len(rest) == 40


async def test_a_providers_id_is_found_with_what_it_stands_for(store: Store, set_aside: SetAside):
    notification, attempt = new_id(), uuid4()
    await store.append([Encoded(references=[Reference("ses", "ref-1", notification, attempt)])])
    assert await set_aside.find_reference("ses", "ref-1") == (notification, attempt)
    assert await set_aside.find_reference("twilio", "ref-1") is None


async def test_everything_is_sealed_under_the_key_of_its_week(set_aside: SetAside, application: Connection):
    await _keep(set_aside)
    await set_aside.keep_report(_report(), now=now())
    weeks = await rows(application, "SELECT week, extract(isodow FROM week)::int FROM ledger.week_key")
    assert [day for _, day in weeks] == [1]


async def test_a_report_that_matches_nothing_is_tried_for_seven_days(set_aside: SetAside, application: Connection):
    old, young = _report("old"), _report("young")
    for report, age in ((old, timedelta(days=7, minutes=1)), (young, timedelta(days=6, hours=23))):
        await set_aside.keep_report(report, now=now())
        query = "UPDATE ledger.unmatched_report SET received_at = now() - %s WHERE key = %s"
        await application.execute(query, (age, report.key))
    await set_aside.purge()
    assert await rows(application, "SELECT key FROM ledger.unmatched_report") == [("young",)]


async def test_i03_a_conflict_is_known_by_its_message_for_as_long_as_the_intake_knows_its_key(
    store: Store, set_aside: SetAside, application: Connection
):
    kept, gone = (IDENTITY.intake_key("message", source, "m-1") for source in ("orders", "payments"))
    await store.append([Encoded(intake=(kept, bytes(32)))])
    for key in (kept, gone, kept):
        await conflicts.name(store, IDENTITY, "m-1", key)
    assert await conflicts.named(store, IDENTITY, ["m-1", "m-2"]) == {kept, gone}
    assert await conflicts.named(store, IDENTITY, ["m-2"]) == set()
    await set_aside.purge()
    assert await conflicts.named(store, IDENTITY, ["m-1"]) == {kept}


async def test_a_weeks_key_is_destroyed_once_nothing_sealed_under_it_is_kept(
    set_aside: SetAside, application: Connection
):
    ages = (0, 29, 37, 46)
    keys = [
        await set_aside.keep(str(days).encode(), REFUSAL, origin="http", now=now() - timedelta(days=days))
        for days in ages
    ]
    aged = "UPDATE ledger.dead_letter SET received_at = now() - %s WHERE key = %s"
    for days, key in zip(ages, keys, strict=True):
        await application.execute(aged, (timedelta(days=days), key))
    await set_aside.purge()
    assert [await set_aside.body_of(key) for key in keys] == [b"0", b"29", None, None]
    oldest = await value(application, "SELECT current_date - min(week) FROM ledger.week_key")
    assert 29 <= oldest < 46
