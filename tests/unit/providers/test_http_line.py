from datetime import timedelta

import pytest

from providers.http_line import retry_after


@pytest.mark.parametrize(
    ("value", "wait"),
    [("120", 120), (" 5 ", 5), ("86401", 86400)],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(value: str, wait: int):
    assert retry_after({"retry-after": value}) == timedelta(seconds=wait)


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_is_over_is_none(value: str):
    assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize("value", ["", "-5", "soon", "1.5", "Wed, 99 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_none(value: str):
    assert retry_after({"retry-after": value}) is None
