"""GET /v1/costs: what attempts are estimated to cost; as JSON or CSV."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec
from litestar import Response, get

from api import tables
from api.auth import Scope
from api.parameters import Parameters
from api.problems import MALFORMED, malformed
from api.schemas import CostFilters
from api.services import Call, services_of
from api.tables import Cell, Lag
from ledger.clock import Clock
from ledger.store import Store
from ledger.values import Category, Channel
from projections.costs import MOST, Asked, By, Costs, Sum, TooManySumsError
from projections.costs import costs as counted
from templates.envelope import Fault

DAY: Final = timedelta(days=1)
ONLY = {
    By.CHANNEL: Channel,
    By.PROVIDER: None,
    By.COUNTRY: None,
    By.TYPE: None,
    By.CATEGORY: Category,
    By.CURRENCY: None,
}
_KNOWN = frozenset(CostFilters.__struct_encode_fields__)
_SUMS = ("currency", "attempts", "not_taken", "units", "amount")


class EstimatedCost(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts are estimated to cost; `group` says what they have in common, by the words of `by`.

    `currency` (ISO 4217) is null for attempts without an estimate. `not_taken` are those of the `attempts` that cost
    nothing, for the provider has certainly not taken them; `units` (segments of an SMS, else one each) and `amount` (a
    text, exact) are of the rest.
    """

    group: dict[str, str | None]
    currency: str | None
    attempts: int
    not_taken: int
    units: int
    amount: Decimal


class EstimatedCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempts that began on the days (UTC) from `from` to `to` are estimated to cost, by the price list of
    the moment of each; the bill itself comes from the vendor. Currencies are never added up.
    """

    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    by: list[str]
    costs: list[EstimatedCost]
    lag: Lag


@get(
    "/v1/costs",
    scopes=[Scope.READ],
    tags=["statistics"],
    summary="What attempts are estimated to cost",
    query=CostFilters,
    problems=[MALFORMED],
    also=tables.CSV,
)
async def get_costs(request: Call) -> Response[EstimatedCosts]:
    services, given = services_of(request), Parameters.of_query(request.scope, known=_KNOWN)
    asked, as_table = asked_in(given, services.ledger.clock), tables.wants_csv(request, given)
    given.done()
    told = await costs(services.ledger.store, asked)
    if as_table:
        return tables.csv_answer(table_of(told), "costs")  # type: ignore[return-value] # the other media type
    return Response(told)


def asked_in(given: Parameters, clock: Clock) -> Asked:
    """Read what is asked for; notes what is wrong with it."""
    since, until = tables.stretch(given, clock, unit=DAY)
    by, only = tables.groups(given, By), tables.filters(given, ONLY)
    return Asked(since=since, until=until, by=by, only=only)


async def costs(store: Store, asked: Asked) -> EstimatedCosts:
    """Return what was counted, and how far that is behind. Raises ProblemError for more sums than MOST."""
    async with store.connection() as connection:
        try:
            found = await counted(connection, asked)
        except TooManySumsError:
            raise malformed(Fault("by", f"gives more than {MOST} sums: ask for less at once")) from None
    lag = await tables.lag_of(store, Costs())
    by = [name.value for name in asked.by if name is not By.CURRENCY]
    return EstimatedCosts(
        since=asked.since, until=asked.until, by=by, costs=[_cost(one, asked.by) for one in found], lag=lag
    )


def table_of(told: EstimatedCosts) -> str:
    """Write it as CSV: a column for each group, the currency, and each number."""
    return tables.as_csv([*told.by, *_SUMS], (list(_row(one, told.by)) for one in told.costs))


def _row(one: EstimatedCost, by: Sequence[str]) -> Iterator[Cell]:
    yield from (one.group[name] for name in by)
    yield from (getattr(one, name) for name in _SUMS)


def _cost(one: Sum, by: Sequence[By]) -> EstimatedCost:
    day = tables.time_of(one.day) if one.day else None
    return EstimatedCost(
        group={name.value: day if name is By.DAY else one.names[name] for name in by if name is not By.CURRENCY},
        **{name: getattr(one, name) for name in _SUMS},
    )
