"""What counts against the frequency cap and the ceiling: who is counted together, for how long, and what goes back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from handlers.frequency import Frequency, Limit
from ledger.keys import Identity
from ledger.policy import Suppress
from ledger.values import Category, Channel, FrequencyCap, InDoubt, Postponed, Refused
from tests.unit.ledger.samples import at, given, requested, sending, settled

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
TWICE_A_DAY = FrequencyCap(2, DAY)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NOON = MONDAY + timedelta(hours=12, minutes=34, seconds=56, microseconds=789)
IDENTITY = Identity(bytes(range(32)))
COUNTED = Frequency(IDENTITY, 100)


def limits(when: datetime = NOON, **said: Any) -> list[Limit]:
    marketing: dict[str, Any] = {"category": Category.MARKETING, "frequency_cap": TWICE_A_DAY}
    return list(COUNTED.limits(given(requested(**marketing | said)), when))


def keys(**said: Any) -> list[str]:
    return [limit.take.key for limit in limits(**said)]


def test_the_cap_is_of_the_category_and_the_ceiling_of_the_type():
    cap, ceiling = limits()
    assert (cap.rule, cap.counted, cap.window, cap.take.limit) == (
        "frequency_cap",
        {"category": "marketing"},
        DAY,
        Decimal(2),
    )
    assert (ceiling.rule, ceiling.counted, ceiling.window, ceiling.take.limit) == (
        "ceiling",
        {"type": "order_shipped"},
        timedelta(hours=1),
        Decimal(100),
    )
    assert {cap.take.amount, ceiling.take.amount} == {Decimal(1)}


@pytest.mark.parametrize("category", tuple(Category))
def test_the_ceiling_holds_for_every_category(category: Category):
    assert "ceiling" in {limit.rule for limit in limits(category=category)}


def test_what_has_no_cap_and_what_is_for_security_is_not_capped():
    for said in ({"frequency_cap": None}, {"category": Category.SECURITY}):
        assert [limit.rule for limit in limits(**said)] == ["ceiling"]


def test_channels_and_types_of_a_category_are_capped_together_and_people_apart():
    (cap, ceiling), (other_cap, other_ceiling) = keys(), keys(channel=Channel.PUSH, type="flash_sale")
    assert cap == other_cap
    assert ceiling != other_ceiling
    assert set(keys()).isdisjoint(keys(recipient="user:u-2"))


def test_i18_a_key_does_not_say_whose_it_is():
    assert all("u-1" not in key and key.split(":")[0] in {"frequency_cap", "ceiling"} for key in keys())


def test_what_is_counted_by_the_day_counts_for_nothing_in_a_week():
    assert keys(frequency_cap=FrequencyCap(2, WEEK))[0] != keys()[0]


@pytest.mark.parametrize(
    ("window", "since"),
    [
        (timedelta(hours=1), MONDAY + timedelta(hours=12)),
        (timedelta(hours=6), MONDAY + timedelta(hours=12)),
        (DAY, MONDAY),
        (WEEK, MONDAY),
    ],
)
def test_windows_begin_at_full_hours_at_midnight_and_on_mondays_in_utc(window: timedelta, since: datetime):
    cap, _ = limits(frequency_cap=FrequencyCap(1, window))
    assert cap.take.window_start == since
    assert limits(since + window, frequency_cap=FrequencyCap(1, window))[0].take.window_start == since + window


def test_who_is_refused_is_told_what_was_counted_and_until_when():
    cap, _ = limits()
    assert cap.refusal(Decimal(2)) == Suppress(
        "frequency_cap",
        {
            "category": "marketing",
            "used": "2",
            "limit": "2",
            "window": "1d",
            "since": MONDAY.isoformat(),
            "until": (MONDAY + DAY).isoformat(),
        },
    )


def test_only_a_first_attempt_takes_and_what_takes_anothers_place_does_not():
    assert COUNTED.takes(sending(), at(5)) == ()
    assert limits(fallback_of=UUID(int=1)) == []


def test_what_no_provider_has_taken_goes_back_to_the_window_of_its_first_attempt():
    refused = settled(sending(), Refused("invalid"))
    (taken,) = COUNTED.takes(given(requested()), at(0))
    (back,) = COUNTED.gives_back(refused)
    assert (back.key, back.window_start, back.amount) == (taken.key, taken.window_start, Decimal(-1))
    assert back.limit > 10**9


def test_what_may_have_been_taken_stays_counted():
    assert COUNTED.gives_back(settled(sending(), InDoubt("no_reply"))) == ()
    assert COUNTED.gives_back(sending()) == ()


def test_what_takes_anothers_place_gives_nothing_back():
    refused = settled(sending(fallback_of=UUID(int=1)), Postponed("throttled"))
    assert COUNTED.gives_back(refused) == ()
