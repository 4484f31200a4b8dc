"""When quiet hours end: over midnight, where the person is, and when the clock there is changed."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.preferences import QuietHours
from ledger.quiet_hours import end

NIGHT, NOON = QuietHours(time(22), time(7, 30)), QuietHours(time(12), time(13))
HALF_PAST_TWO = QuietHours(time(22), time(2, 30))
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "zone", "now", "until"),
    [
        (NIGHT, "UTC", "2026-11-23T22:00:00Z", "2026-11-24T07:30:00Z"),
        (NIGHT, "UTC", "2026-11-23T21:59:59.999999Z", None),
        (NIGHT, "UTC", "2026-11-24T07:29:59.999999Z", "2026-11-24T07:30:00Z"),
        (NIGHT, "UTC", "2026-11-24T07:30:00Z", None),
        (NOON, "UTC", "2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"),
        (NOON, "UTC", "2026-11-23T13:00:00Z", None),
        (NOON, "UTC", "2026-11-23T11:59:00Z", None),
        (QuietHours(time(0), time(0)), "UTC", "2026-11-23T00:00:00Z", None),
        (QuietHours(time(22), time(22)), "UTC", "2026-11-23T23:00:00Z", None),
        (QuietHours(time(22), time(0)), "UTC", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
        # In Tokyo it is the next day already, in Honolulu still the day before.
        (NIGHT, "Asia/Tokyo", "2026-11-23T13:00:00Z", "2026-11-23T22:30:00Z"),
        (NIGHT, "Pacific/Honolulu", "2026-11-23T08:00:00Z", "2026-11-23T17:30:00Z"),
        (NIGHT, "Not/AZone", "2026-11-23T23:00:00Z", "2026-11-24T07:30:00Z"),
        (NIGHT, "../etc/passwd", "2026-11-23T23:00:00Z", "2026-11-24T07:30:00Z"),
        # In the night of 29 March 2026 the clock is set forward, in that of 25 October back: an hour less and more.
        (NIGHT, "Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T05:30:00Z"),
        (NIGHT, "Europe/Berlin", "2026-10-24T20:00:00Z", "2026-10-25T06:30:00Z"),
        # 02:30 is not there on that morning, and twice on this one.
        (HALF_PAST_TWO, "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T01:30:00Z"),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-03-29T00:59:00Z", "2026-03-29T01:30:00Z"),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-03-29T01:30:00Z", None),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z"),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-10-25T00:40:00Z", "2026-10-25T01:30:00Z"),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"),
        (HALF_PAST_TWO, "Europe/Berlin", "2026-10-25T01:30:00Z", None),
    ],
)
def test_quiet_hours_end_by_the_clock_of_where_the_person_is(hours: QuietHours, zone: str, now: str, until: str | None):
    assert end(hours, zone, moment(now)) == (None if until is None else moment(until))


@given(
    hours=st.builds(QuietHours, st.times(), st.times()),
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 25 * 366 * 24),
    within=st.timedeltas(timedelta(0), timedelta(hours=1)),
)
def test_whoever_waits_does_so_until_a_time_to_come_that_shows_the_end_and_within_a_day_and_an_hour(
    hours: QuietHours, zone: str, hour: int, within: timedelta
):
    now = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(hours=hour) + within
    until = end(hours, zone, now)
    assume(until is not None)
    assert until is not None
    assert now < until <= now + timedelta(hours=25)
    shown = until.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    late = (shown - datetime.combine(shown.date(), hours.end)) % timedelta(days=1)
    assert late <= timedelta(hours=1)
