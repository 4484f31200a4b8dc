"""A bucket tells a duration to 5 %, and never puts a longer one before a shorter one."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from projections.durations import bucket_of, middle_of

durations = st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=400))


@given(durations)
def test_what_stands_for_a_duration_is_within_5_percent_or_a_millisecond(duration: timedelta):
    near = abs(middle_of(bucket_of(duration)) - max(duration, timedelta()))
    assert near <= max(duration * 0.05, timedelta(milliseconds=1))


@given(durations, durations)
def test_buckets_are_in_the_order_of_durations(one: timedelta, other: timedelta):
    assert (bucket_of(one) <= bucket_of(other)) or one > other
