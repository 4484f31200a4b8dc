"""Ids that sort by time, and the database's time between two questions."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from ledger.clock import Clock
from ledger.ids import NEVER, begins_at, ids_of, is_standing, notification_id, week_of
from ledger.values import Mail, utc

NOON = datetime(2031, 5, 4, 12, 0, 0, 123_456, tzinfo=UTC)


def test_a_notification_id_is_a_uuid_7_of_its_time():
    made = notification_id(NOON)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    # RFC 9562, 5.7: the first 48 bits are milliseconds since 1970.
    assert int.from_bytes(made.bytes[:6]) == int(NOON.timestamp() * 1000)
    assert not is_standing(made)


def test_notification_ids_sort_by_time_and_never_repeat():
    ids = [notification_id(NOON + timedelta(milliseconds=number)) for number in range(1_000)]
    assert ids == sorted(ids)
    assert len({notification_id(NOON) for _ in range(10_000)}) == 10_000


def test_the_ids_of_a_week_are_those_from_its_first_millisecond_to_its_last():
    monday = datetime(2026, 12, 28, tzinfo=UTC)
    first, last = ids_of("2026w53")
    assert begins_at("2026w53") == monday
    tick = timedelta(milliseconds=1)
    for moment, inside in ((-tick, False), (timedelta(), True), (timedelta(days=7) - tick, True)):
        made = notification_id(monday + moment)
        assert (first <= made <= last) == (week_of(made) == "2026w53") == inside
    assert week_of(notification_id(monday + timedelta(days=7))) == "2027w01"
    low, high = ids_of("standing")
    assert (week_of(low), week_of(high), is_standing(low)) == ("standing", "standing", True)
    assert not is_standing(UUID(int=low.int - 1))


def test_an_id_of_the_far_future_is_still_no_standing_stream():
    assert not is_standing(notification_id(datetime(9000, 1, 1, tzinfo=UTC)))


def test_a_time_with_an_offset_is_taken_to_utc_and_one_without_is_refused():
    assert utc(datetime(2031, 5, 4, 14, tzinfo=timezone(timedelta(hours=2)))) == datetime(2031, 5, 4, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="offset"):
        utc(datetime(2031, 5, 4, 14))  # noqa: DTZ001 - the mistake itself


def test_i26_the_digest_of_words_is_what_it_always_was():
    content = Mail(sender="shop@example.com", subject="Hëllo", html="<p>1</p>", text="1")
    assert content.digest().hex() == "dcd7a1265655d866fe2c290e898e65d5e31c46057864ac26df4645844c74c600"
    assert content.digest() != Mail("shop@example.com", "Hëllo", "<p>1</p>", "2").digest()


def test_i24_the_clock_tells_the_time_of_the_database_and_not_of_the_pod():
    clock = Clock()
    clock.set(NOON)
    assert NOON <= clock.now() <= clock.now() < NOON + timedelta(minutes=1)
    assert clock.skewed


def test_i24_a_pod_that_agrees_with_the_database_is_not_skewed():
    clock = Clock()
    clock.set(datetime.now(UTC))
    assert not clock.skewed


def test_a_clock_that_was_never_set_tells_no_time():
    with pytest.raises(RuntimeError, match="not been read"):
        Clock().now()


@pytest.mark.parametrize("made_up", ["ecb1aff1-72d1-4f01-8025-6955a92a0ec5", "efffffff-ffff-4fff-bfff-ffffffffffff"])
def test_an_id_that_lies_behind_all_time_is_of_no_week(made_up: str):
    assert week_of(UUID(made_up)) == NEVER


def test_the_last_week_that_there_is_has_a_name():
    assert week_of(notification_id(datetime.max.replace(tzinfo=UTC) - timedelta(days=1))) == "9999w52"
