"""/console/statistics: how many were delivered, how fast, and why the others were not, as charts with their numbers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from litestar import Response, get
from markupsafe import Markup

from api.auth import Scope
from api.console import charts, figures
from api.console.asking import filled_in
from api.console.charts import Chart, Series
from api.console.figures import FUNNEL, Range
from api.console.rendering import page
from api.parameters import Parameters
from api.services import Call, services_of
from ledger.values import Category, Channel
from projections import costs
from projections.delivery_statistics import Asked, Bucket, By, TooManyBucketsError, statistics

LONGEST: Final = timedelta(days=400)
EARLIEST, LATEST = 2000, 2200
_HOUR = timedelta(hours=1)
_WORDS = {By.CHANNEL: Channel, By.CATEGORY: Category}
_TEXTS = (By.TYPE, By.TEMPLATE, By.TEMPLATE_VERSION, By.PROVIDER)
_ONLY = (*_WORDS, *_TEXTS)


class Last(StrEnum):
    """How far back from now."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


_BACK = {
    Last.DAY: timedelta(days=1),
    Last.WEEK: timedelta(days=7),
    Last.MONTH: timedelta(days=30),
    Last.QUARTER: timedelta(days=90),
}


class Drawn(msgspec.Struct, frozen=True):
    """A chart and its picture; `of` says what its labels are."""

    chart: Chart
    svg: Markup
    of: str = "Beginning (UTC)"

    def swatch(self, series: Series) -> Markup:
        """Return what a series looks like, for the legend."""
        return Markup(charts.swatch(series, is_line=self.chart.unit == "s"))  # noqa: S704 - our own numbers alone


class Step(msgspec.Struct, frozen=True):
    """How many got so far, and how many of a hundred that were asked for that is."""

    name: str
    number: int
    share: str


@get("/console/statistics", scopes=[Scope.READ], include_in_schema=False)
async def get_statistics(request: Call) -> Response[str]:
    services = services_of(request)
    asked = filled_in(request.scope, known={"last", "from", "to", *_ONLY})
    last = asked.word("last", Last) or Last.DAY
    within = _range(asked, last, now=services.ledger.clock.now())
    only = _only(asked)
    asked.done()
    begins, ends = asked.time("from"), asked.time("to")
    async with services.ledger.store.connection() as connection:

        async def counted(*by: By) -> list[Bucket]:
            return await statistics(connection, Asked(since=within.since, until=within.until, by=by, only=only))

        over_time, whole = await counted(within.by), await counted()
        spent = await _spent(connection, within, only)
        try:
            by_reason = await counted(By.STATUS, By.REASON)
        except TooManyBucketsError:
            by_reason = None
    return page(
        request,
        "statistics.html",
        within=within,
        last=last,
        begins=begins,
        ends=ends,
        ranges=list(Last),
        channels=list(Channel),
        categories=list(Category),
        only={str(name): only.get(name, "") for name in _ONLY},
        texts=[str(name) for name in _TEXTS],
        funnel=_funnel(whole),
        spent=spent,
        drawn=_charts(over_time, by_reason, within),
    )


async def _spent(connection: Any, within: Range, only: Mapping[By, str]) -> list[costs.Sum] | None:
    """Return what the attempts of these days cost; None where that is not counted by what is asked for."""
    known = {name: value for name, value in only.items() if name.value in {str(each) for each in costs.By}}
    if len(known) < len(only):
        return None
    asked = costs.Asked(
        since=within.since.replace(hour=0),
        until=within.until,
        by=(costs.By.CHANNEL, costs.By.PROVIDER),
        only={costs.By(name): value for name, value in known.items()},
    )
    return await costs.costs(connection, asked)


def _only(asked: Parameters) -> dict[By, str]:
    given: dict[By, Any] = {name: asked.word(name, words) for name, words in _WORDS.items()}
    given |= {name: asked.text(name) for name in _TEXTS}
    return {name: str(value) for name, value in given.items() if value is not None}


def _range(asked: Parameters, last: Last, *, now: datetime) -> Range:
    """Return the hours that are asked for, whole: up to the one that has begun unless another is named."""
    since, until = _time(asked, "from"), _time(asked, "to")
    until = _begun(until or now) + (_HOUR if until is None or until != _begun(until) else timedelta())
    since = _begun(since) if since is not None else until - _BACK[last]
    if since >= until:
        asked.refuse("from", "must lie before the end")
    elif until - since > LONGEST:
        asked.refuse("from", f"must lie at most {LONGEST.days} days before the end")
    else:
        return Range(since, until)
    return Range(until - _HOUR, until)


def _time(asked: Parameters, name: str) -> datetime | None:
    """Return a time that a range can be counted from."""
    at = asked.time(name)
    if at is None or EARLIEST <= at.year < LATEST:
        return at
    asked.refuse(name, f"must lie between the years {EARLIEST} and {LATEST}")
    return None


def _begun(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _funnel(whole: Sequence[Bucket]) -> list[Step]:
    if not whole:
        return []
    requested = whole[0].requested
    numbers = ((words, getattr(whole[0], name)) for name, words in FUNNEL)
    return [Step(words, number, f"{100 * number / requested:.1f} %") for words, number in numbers]


def _charts(over_time: Sequence[Bucket], by_reason: Sequence[Bucket] | None, within: Range) -> list[Drawn]:
    drawn = [_drawn(figures.over_time(over_time, within), charts.stacked)]
    if by_reason is not None:
        drawn.append(_drawn(figures.failures(by_reason), charts.bars, of="Reason"))
    to_provider = figures.latency(
        over_time, within, name="to-provider", title="From due to the first try", of=lambda each: each.to_provider
    )
    to_recipient = figures.latency(
        over_time, within, name="to-recipient", title="From the provider to delivery", of=lambda each: each.to_recipient
    )
    return [*drawn, _drawn(to_provider, charts.lines), _drawn(to_recipient, charts.lines)]


def _drawn(chart: Chart, draw: Callable[[Chart], str], **more: str) -> Drawn:
    return Drawn(chart, Markup(draw(chart)), **more)  # noqa: S704 - the drawing escapes each name
