"""The commands that tell what is counted: `statistics` and `costs`."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import click

from api import costs as of_costs
from api import statistics as of_statistics
from api.costs import EstimatedCost
from api.parameters import Parameters
from api.problems import ProblemError
from api.statistics import COUNTS, Counts, Took
from api.tables import Lag
from ledger.clock import Clock
from ledger.follower import View, prepare
from ledger.status import Status
from ledger.store import Store
from ledger.values import Category, Channel
from ops.errors import OperationError
from ops.terminal import print_answer, with_parts
from ops.wiring import Parts
from projections import costs, delivery_statistics
from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics

Asked = TypeVar("Asked")
Told = TypeVar("Told")
# What the API calls by other names.
_OPTION_OF = {"from": "since", "to": "until"}
_SHARED = (
    click.option("--since", "from", metavar="TIME", help="The beginning; by default 24 hours before the end."),
    click.option("--until", "to", metavar="TIME", help="The end, such as 2026-11-23T02:15:00+00:00; by default now."),
    click.option("--channel", type=click.Choice([channel.value for channel in Channel])),
    click.option("--type", help="Of the catalogue."),
    click.option("--category", type=click.Choice([category.value for category in Category])),
    click.option("--provider", help="That of the last attempt."),
)
_ANSWERED = (
    click.option("--csv", "as_csv", is_flag=True, help="Print CSV."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def _asking(*own: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed((*_SHARED, *own, *_ANSWERED)):
            command = option(command)
        return command

    return decorated


@click.command("statistics")
@_asking(
    click.option("--template", help="What is said."),
    click.option("--template-version", help="Which version of it."),
    click.option("--status", type=click.Choice([status.value for status in Status])),
    click.option("--reason", help="The rule that suppressed it, or why it failed."),
    click.option("--by", help="What to tell apart, separated by commas: " + ", ".join(delivery_statistics.By) + "."),
)
def statistics_(*, as_csv: bool, as_json: bool, **given: str | None) -> None:
    """Tell how many notifications of whole hours became what, and how late."""
    told = _told(given, DeliveryStatistics(), of_statistics.asked_in, of_statistics.statistics)
    if as_csv:
        click.echo(of_statistics.table_of(told), nl=False)
    else:
        print_answer(told, [*map(_counts, told.buckets), *_behind(told.lag)], as_json=as_json)


@click.command("costs")
@_asking(
    click.option("--country", help="Of a number, such as GB."),
    click.option("--currency", help="Such as USD."),
    click.option("--by", help="What to tell apart, separated by commas: " + ", ".join(costs.By) + "."),
)
def costs_(*, as_csv: bool, as_json: bool, **given: str | None) -> None:
    """Tell what the attempts of whole days are estimated to cost, by the price list."""
    told = _told(given, Costs(), of_costs.asked_in, of_costs.costs)
    if as_csv:
        click.echo(of_costs.table_of(told), nl=False)
    else:
        print_answer(told, [*map(_cost, told.costs), *_behind(told.lag)], as_json=as_json)


def _told(
    given: Mapping[str, str | None],
    view: View,
    asked_in: Callable[[Parameters, Clock], Asked],
    answer: Callable[[Store, Asked], Awaitable[Told]],
) -> Told:
    """Ask as over HTTP; what is wrong is told by the names of the options."""

    async def counted(parts: Parts) -> Told:
        read = Parameters({name: value for name, value in given.items() if value is not None}, known=given)
        asked = asked_in(read, parts.ledger.clock)
        read.done()
        async with parts.ledger.store.connection() as connection:
            await prepare(connection, view)
        return await answer(parts.ledger.store, asked)

    try:
        return with_parts(counted)
    except ProblemError as exc:
        raise _refused(exc) from None


def _refused(problem: ProblemError) -> OperationError:
    words = (
        f"--{_OPTION_OF.get(fault.path, fault.path).replace('_', '-')} {fault.message}" for fault in problem.faults
    )
    return OperationError("; ".join(words))


def _counts(one: Counts) -> str:
    counts = [f"{number} {name.replace('_', ' ')}" for name in COUNTS if (number := getattr(one, name))]
    durations = [
        *_took("to the provider", one.to_provider),
        *_took("from there to the person", one.to_recipient),
    ]
    return _named(one.group, [*counts, *durations])


def _took(way: str, took: Took | None) -> Iterator[str]:
    if took is not None:
        yield f"{way} p50 {took.p50_seconds:g} s, p90 {took.p90_seconds:g} s, p99 {took.p99_seconds:g} s"


def _cost(one: EstimatedCost) -> str:
    not_taken = [f"{one.not_taken} not taken"] if one.not_taken else []
    amount = f"about {one.amount:f} {one.currency}" if one.currency else "without an estimate"
    return _named(one.group, [f"{one.attempts} attempts", *not_taken, f"{one.units} units", amount])


def _named(group: Mapping[str, str | None], told: Iterable[str]) -> str:
    names = "  ".join(value or "none" for value in group.values())
    return f"{names + ': ' if names else ''}{', '.join(told)}"


def _behind(lag: Lag) -> Iterator[str]:
    if lag.events:
        yield f"{lag.events} facts are not counted yet, the oldest of them {lag.seconds:g} s old"
    if lag.parked:
        yield f"{lag.parked} notifications are not counted: `project` could not read them"
