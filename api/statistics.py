"""GET /v1/statistics: how many notifications became what, and how late; as JSON or CSV."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from litestar import Response, get

from api import tables
from api.auth import Scope
from api.parameters import Parameters
from api.problems import MALFORMED, malformed
from api.schemas import StatisticsFilters
from api.services import Call, services_of
from api.tables import Cell, Lag
from ledger.clock import Clock
from ledger.status import Status
from ledger.store import Store
from ledger.values import Category, Channel
from projections.delivery_statistics import MOST, Asked, Bucket, By, DeliveryStatistics, Latency, TooManyBucketsError
from projections.delivery_statistics import statistics as counted
from templates.envelope import Fault

HOUR: Final = timedelta(hours=1)
TIMES = (By.HOUR, By.DAY)
ONLY = {
    By.CHANNEL: Channel,
    By.TYPE: None,
    By.CATEGORY: Category,
    By.TEMPLATE: None,
    By.TEMPLATE_VERSION: None,
    By.PROVIDER: None,
    By.STATUS: Status,
    By.REASON: None,
}
_KNOWN = frozenset(StatisticsFilters.__struct_encode_fields__)
COUNTS = tuple(name for name in Bucket.__struct_fields__ if name not in {"at", "names", "to_provider", "to_recipient"})
_SECONDS = ("p50_seconds", "p90_seconds", "p99_seconds")


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took for so many notifications: half of them, 90 and 99 of 100 no longer than this, within 5 %."""

    notifications: int
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of notifications; `group` says what they have in common, by the words of `by` (null = there is none).

    How they stand now, each in one of: `under_way`, `in_doubt`, `suppressed`, `failed`, `expired`, `cancelled`, or (the
    rest of `requested`) sent. What has ever happened to them, each in any number of: `attempted`, `doubted`,
    `dispatched`, `delivered`, `bounced`, `opened`, `clicked`, `complained`. `attempts`, `opens` and `clicks` count
    those themselves; of an attempt's opens and clicks the first 20 are known.

    `to_provider`: from when it was to be sent to its first attempt. `to_recipient`: from when a provider took it to its
    delivery.
    """

    group: dict[str, str | None]
    requested: int
    under_way: int
    in_doubt: int
    suppressed: int
    failed: int
    expired: int
    cancelled: int
    attempted: int
    doubted: int
    dispatched: int
    delivered: int
    bounced: int
    opened: int
    clicked: int
    complained: int
    attempts: int
    opens: int
    clicks: int
    to_provider: Took | None
    to_recipient: Took | None


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the notifications that were requested in the hours from `from` to `to`, in the order of `by`."""

    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    by: list[str]
    buckets: list[Counts]
    lag: Lag


@get(
    "/v1/statistics",
    scopes=[Scope.READ],
    tags=["statistics"],
    summary="How many notifications became what, and how late",
    query=StatisticsFilters,
    problems=[MALFORMED],
    also=tables.CSV,
)
async def get_statistics(request: Call) -> Response[Statistics]:
    services, given = services_of(request), Parameters.of_query(request.scope, known=_KNOWN)
    asked, as_table = asked_in(given, services.ledger.clock), tables.wants_csv(request, given)
    given.done()
    told = await statistics(services.ledger.store, asked)
    if as_table:
        return tables.csv_answer(table_of(told), "statistics")  # type: ignore[return-value] # the other media type
    return Response(told)


def asked_in(given: Parameters, clock: Clock) -> Asked:
    """Read what is asked for; notes what is wrong with it."""
    since, until = tables.stretch(given, clock, unit=HOUR)
    by, only = tables.groups(given, By, not_both=TIMES), tables.filters(given, ONLY)
    return Asked(since=since, until=until, by=by, only=only)


async def statistics(store: Store, asked: Asked) -> Statistics:
    """Return what was counted, and how far that is behind. Raises ProblemError for more buckets than MOST."""
    async with store.connection() as connection:
        try:
            found = await counted(connection, asked)
        except TooManyBucketsError:
            raise malformed(Fault("by", f"gives more than {MOST} buckets: ask for less at once")) from None
    lag = await tables.lag_of(store, DeliveryStatistics())
    return Statistics(
        since=asked.since,
        until=asked.until,
        by=[*asked.by],
        buckets=[_counts(bucket, asked.by) for bucket in found],
        lag=lag,
    )


def table_of(told: Statistics) -> str:
    """Write it as CSV: a column for each group, each count, and each duration in seconds."""
    durations = [f"{name}_{part}" for name in ("to_provider", "to_recipient") for part in ("notifications", *_SECONDS)]
    return tables.as_csv([*told.by, *COUNTS, *durations], (list(_row(one, told.by)) for one in told.buckets))


def _row(one: Counts, by: Sequence[str]) -> Iterator[Cell]:
    yield from (one.group[name] for name in by)
    yield from (getattr(one, name) for name in COUNTS)
    for took in (one.to_provider, one.to_recipient):
        yield took.notifications if took else 0
        yield from (getattr(took, name) if took else None for name in _SECONDS)


def _counts(bucket: Bucket, by: Sequence[By]) -> Counts:
    at = tables.time_of(bucket.at) if bucket.at else None
    return Counts(
        group={name.value: at if name in TIMES else bucket.names[name] for name in by},
        **{name: getattr(bucket, name) for name in COUNTS},
        to_provider=_took(bucket.to_provider),
        to_recipient=_took(bucket.to_recipient),
    )


def _took(latency: Latency | None) -> Took | None:
    if latency is None:
        return None
    p50, p90, p99 = (round(each.total_seconds(), 3) for each in (latency.p50, latency.p90, latency.p99))
    return Took(notifications=latency.notifications, p50_seconds=p50, p90_seconds=p90, p99_seconds=p99)
