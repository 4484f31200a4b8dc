"""What the statistics page draws, of numbers that are given by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from api.console.charts import Series
from api.console.figures import Range, failures, latency, over_time
from projections.delivery_statistics import Bucket, By, Latency

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def bucket(at: datetime | None = None, names: dict[str, str | None] | None = None, **numbers: Any) -> Bucket:
    """Make a bucket in which everything that is not given is 0."""
    counts = dict.fromkeys(Bucket.__struct_fields__[2:-2], 0)
    latencies = {"to_provider": None, "to_recipient": None}
    return Bucket(at=at, names=names or {}, **{**counts, **latencies, **numbers})


def test_every_hour_of_the_range_has_its_column_and_what_is_not_anything_else_was_sent():
    within = Range(NOON, NOON + 3 * HOUR)

    chart = over_time([bucket(NOON + HOUR, requested=10, under_way=1, failed=2)], within)

    assert chart.labels == ["2026-11-20 12:00", "2026-11-20 13:00", "2026-11-20 14:00"]
    assert chart.series == [
        Series("Sent", [0, 7, 0]),
        Series("Under way", [0, 1, 0], 1),
        Series("Failed", [0, 2, 0], 4),
    ]


def test_a_long_range_has_a_column_for_each_day_and_no_more():
    within = Range(NOON, NOON + timedelta(days=30))

    assert within.by is By.DAY
    assert within.steps[0] == NOON.replace(hour=0)
    assert len(within.steps) == 31


def test_where_nothing_was_measured_no_latency_is_drawn():
    took = Latency(notifications=4, p50=HOUR / 3600, p90=HOUR / 60, p99=HOUR)
    within = Range(NOON, NOON + 2 * HOUR)

    chart = latency([bucket(NOON, to_provider=took)], within, name="n", title="t", of=lambda each: each.to_provider)

    assert [series.values for series in chart.series] == [[1.0, None], [60.0, None], [3600.0, None]]


def test_reasons_are_ranked_what_has_none_goes_by_its_status_and_the_rare_ones_are_one():
    rare = [bucket(names={"reason": f"rare {at:02}"}, failed=1) for at in range(14)]
    common = bucket(names={"status": "expired", "reason": None}, expired=7)

    chart = failures([*rare, common, bucket(names={"status": "delivered", "reason": None}, requested=9)])

    assert chart.labels[0] == "expired"
    assert chart.labels[-1] == "all other reasons"
    assert chart.series[0].values == [7, *[1] * 11, 3]
    assert chart.ranking.startswith("expired: 7; rare 00: 1;")
