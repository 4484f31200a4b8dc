"""What the statistics page draws: numbers of a view become charts, with every hour or day of the range in them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from api.console.charts import Chart, Series
from projections.delivery_statistics import Bucket, By, Latency

# A column for each hour is read up to here; of a longer range there is one for each day.
BY_HOUR: Final = timedelta(days=3)
# So many reasons are named; the others are one bar.
_REASONS: Final = 12


def _sent(bucket: Bucket) -> int:
    not_sent = (
        bucket.under_way + bucket.in_doubt + bucket.suppressed + bucket.failed + bucket.expired + bucket.cancelled
    )
    return bucket.requested - not_sent


_OUTCOMES: Sequence[tuple[str, Callable[[Bucket], int]]] = (
    ("Sent", _sent),
    ("Under way", lambda bucket: bucket.under_way),
    ("In doubt", lambda bucket: bucket.in_doubt),
    ("Suppressed", lambda bucket: bucket.suppressed),
    ("Failed", lambda bucket: bucket.failed),
    ("Expired", lambda bucket: bucket.expired),
    ("Cancelled", lambda bucket: bucket.cancelled),
)
FUNNEL: Sequence[tuple[str, str]] = (
    ("requested", "Asked for"),
    ("attempted", "Tried"),
    ("dispatched", "Taken by a provider"),
    ("delivered", "Delivered"),
    ("opened", "Opened"),
    ("clicked", "Clicked"),
    ("bounced", "Given back"),
    ("complained", "Marked as spam"),
)


class Range(msgspec.Struct, frozen=True):
    """The hours that are looked at: from the beginning of one to that of another."""

    since: datetime
    until: datetime

    @property
    def by(self) -> By:
        """What a column of a chart is."""
        return By.HOUR if self.until - self.since <= BY_HOUR else By.DAY

    @property
    def steps(self) -> list[datetime]:
        """The beginning of each column."""
        return list(self._steps())

    def _steps(self) -> Iterator[datetime]:
        step, at = timedelta(hours=1), self.since
        if self.by is By.DAY:
            step, at = timedelta(days=1), at.replace(hour=0)
        while at < self.until:
            yield at
            at += step


def over_time(buckets: Sequence[Bucket], within: Range) -> Chart:
    """Show how the notifications of each hour or day stand now."""
    known = {bucket.at: bucket for bucket in buckets}
    steps = within.steps
    series = [
        Series(name, [number(known[at]) if at in known else 0 for at in steps], look)
        for look, (name, number) in enumerate(_OUTCOMES)
    ]
    shown = [each for each in series if any(each.values)] or series[:1]
    return Chart(name="over-time", title="Notifications by outcome", labels=_labels(within), series=shown)


def latency(
    buckets: Sequence[Bucket], within: Range, *, name: str, title: str, of: Callable[[Bucket], Latency | None]
) -> Chart:
    """Show how long it took: half of the notifications, 90 and 99 of 100 no longer than this, in seconds."""
    took = {bucket.at: found for bucket in buckets if (found := of(bucket)) is not None}
    percentiles: Sequence[tuple[str, Callable[[Latency], timedelta]]] = (
        ("Half", lambda found: found.p50),
        ("90 of 100", lambda found: found.p90),
        ("99 of 100", lambda found: found.p99),
    )
    series = [
        Series(each, [percentile(took[at]).total_seconds() if at in took else None for at in within.steps], look)
        for look, (each, percentile) in enumerate(percentiles)
    ]
    return Chart(name=name, title=title, labels=_labels(within), series=series, unit="s")


def failures(buckets: Sequence[Bucket]) -> Chart:
    """Show why notifications were not sent or not delivered, the commonest reason first."""
    numbers: dict[str, int] = {}
    for bucket in buckets:
        lost = bucket.suppressed + bucket.failed + bucket.expired + bucket.cancelled
        if lost:
            reason = bucket.names.get(By.REASON) or bucket.names.get(By.STATUS) or "no reason given"
            numbers[reason] = numbers.get(reason, 0) + lost
    ranked = sorted(numbers.items(), key=lambda each: (-each[1], each[0]))
    named, others = ranked[:_REASONS], sum(number for _, number in ranked[_REASONS:])
    named += [("all other reasons", others)] if others else []
    return Chart(
        name="failures",
        title="Not sent, or given up, by reason",
        labels=[reason for reason, _ in named],
        series=[Series("Notifications", [number for _, number in named])],
    )


def _labels(within: Range) -> list[str]:
    form = "%Y-%m-%d %H:%M" if within.by is By.HOUR else "%Y-%m-%d"
    return [f"{at:{form}}" for at in within.steps]
