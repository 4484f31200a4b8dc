"""The commands that act on notifications: call off, send again and let go, one of them or what a search finds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import click
import msgspec

from api.bulk_actions import SEARCHED_BY, found_by, told_of
from api.dry_runs import would_be
from api.problems import ProblemError
from api.search import filters_in, filters_of
from handlers.bulk import MOST, Bulk, Plan, Progress
from handlers.by_hand import cancel, release
from handlers.resending import resend, would_resend
from ledger.bulk import Action
from ledger.follower import prepare
from ops.errors import OperationError
from ops.terminal import print_answer, with_parts
from ops.wiring import Parts, bulk_of, dry_run_of
from projections.notification_log import NotificationLog
from projections.notification_search import Filters
from templates.envelope import is_identifier

_BY = "cli"
_LOOK_EVERY = 0.5
# So many looks without news make somebody wonder.
_PATIENCE = 40
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WHY = click.option("--reason", required=True, help="Why; it is recorded.")
_OPTIONS = (
    click.argument("notification", type=click.UUID, required=False),
    click.option(
        "--search",
        "searched",
        multiple=True,
        metavar="NAME=VALUE",
        help=f"All that have this: {', '.join(SEARCHED_BY)}. May be given several times; all must hold."
        f" At most {MOST} are found.",
    ),
    _WHY,
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
    click.option("--yes", is_flag=True, help="With --search: do not ask whether what was found is meant."),
    _JSON,
)


def _acting(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("cancel")
@_acting
def cancel_(notification: UUID | None, reason: str, **how: Any) -> None:
    """Call off what is still to come of a notification, or of all that a search finds; what has left may arrive."""

    async def one(given: Parts, stream: UUID) -> tuple[Any, list[str]]:
        called = await cancel(given.ledger, stream, by=_BY, reason=reason)
        status = called.after.state.status
        told = {"notification": stream, "is_new": called.is_new, "status": status}
        return told, [f"{'cancelled' if called.is_new else 'cancelled already'}; it is {status}"]

    _act(Action.CANCEL, one, notification, reason, **how)


@click.command("release")
@_acting
def release_(notification: UUID | None, reason: str, **how: Any) -> None:
    """Let a held notification be sent again, or all of those that a search finds."""

    async def one(given: Parts, stream: UUID) -> tuple[Any, list[str]]:
        after = await release(given.ledger, stream, by=_BY, reason=reason)
        return {"notification": stream, "status": after.state.status}, ["released"]

    _act(Action.RELEASE, one, notification, reason, **how)


@click.command("resend")
@_acting
def resend_(notification: UUID | None, reason: str, **how: Any) -> None:
    """Say once more what a notification said, in the same words, by a new one; or do so for all that a search finds.

    Twice within a minute is the same as once. What a search finds is sent again only where it was not before, so that
    the whole command may be repeated.
    """

    async def one(given: Parts, stream: UUID) -> tuple[Any, list[str]]:
        made = await resend(given.ledger, given.archive, stream, by=_BY, reason=reason)
        return made, [f"{'sent again' if made.is_new else 'sent again already'} as {made.notification}"]

    _act(Action.RESEND, one, notification, reason, **how)


_One = Callable[[Parts, UUID], Awaitable[tuple[Any, list[str]]]]


def _act(
    action: Action,
    one: _One,
    notification: UUID | None,
    reason: str,
    *,
    searched: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    if (notification is None) != bool(searched):
        raise click.UsageError("name a NOTIFICATION, or else say by --search which ones")
    if not is_identifier(reason):
        raise OperationError("--reason must be 1 to 200 printable characters")
    if notification is None:
        told, lines = with_parts(lambda given: _many(given, action, searched, reason, dry_run=dry_run, yes=yes))
    elif dry_run:
        told, lines = with_parts(lambda given: _tried(given, action, notification))
    else:
        told, lines = with_parts(lambda given: one(given, notification))
    print_answer(told, lines, as_json=as_json)


async def _tried(given: Parts, action: Action, notification: UUID) -> tuple[Any, list[str]]:
    if action is not Action.RESEND:
        raise OperationError("--dry-run of a single one is for `resend`; see `explain` for how it stands")
    tried = await would_resend(given.ledger, given.archive, dry_run_of(given), notification)
    would = would_be(tried, unmasked=False)
    cost = f", for {would.cost.amount} {would.cost.currency}" if would.cost is not None else ""
    whom = would.recipient.address or would.recipient.user_id or "nobody"
    by_rule = [would.words] if would.words else []
    fault = [f"it cannot be said: {would.fault}"] if would.fault else []
    paused = ["it would wait: sending of it is paused"] if would.paused else []
    return would, [f"would be asked for: {would.type} by {would.channel} to {whom}{cost}", *by_rule, *fault, *paused]


async def _many(
    given: Parts, action: Action, searched: tuple[str, ...], reason: str, *, dry_run: bool, yes: bool
) -> tuple[Any, list[str]]:
    """Show what would be done; unless that was all that was wanted, have it done, and tell how far it is."""
    bulk, filters = bulk_of(given), _filters(given, searched)
    async with given.ledger.store.connection() as connection:
        await prepare(connection, NotificationLog())
    plan = await bulk.show(action, await found_by(given.ledger.store, filters), told_of(filters), by=_BY)
    if dry_run or not plan.count:
        return plan, _plan_lines(plan)
    for line in _plan_lines(plan):
        click.echo(line, err=True)
    if not yes:
        click.confirm(f"{action} these {plan.count}?", abort=True, err=True)
    going = await bulk.begin(plan.id, by=_BY, reason=reason)
    click.echo(f"begun as {plan.id}: it goes on without this command, see `bulk-actions show {plan.id}`", err=True)
    ended = await _followed(bulk, going)
    return ended, _lines(ended)


async def _followed(bulk: Bulk, going: Progress) -> Progress:
    """Tell how far it is until it has ended."""
    looks = 0
    while going.ended_at is None:
        await asyncio.sleep(_LOOK_EVERY)
        before, going, looks = going, await bulk.progress(going.id), looks + 1
        if going.left != before.left:
            looks = 0
            click.echo(_going(going), err=True)
        elif looks == _PATIENCE:
            click.echo("nothing has happened for a while: does any process run the role maintain?", err=True)
    return going


def _filters(given: Parts, searched: tuple[str, ...]) -> Filters:
    pairs = [one.partition("=") for one in searched]
    raw = {name: value for name, _, value in pairs}
    if len(raw) < len(pairs) or not all(is_given for _, is_given, _ in pairs):
        raise OperationError("--search takes NAME=VALUE, and each name once")
    asked = filters_in(raw, known=SEARCHED_BY, faults=[])
    filters = filters_of(given.ledger.identity, asked)
    try:
        asked.done()
    except ProblemError as exc:
        raise OperationError("; ".join(f"--search {fault}" for fault in exc.faults)) from None
    return filters


def _plan_lines(plan: Plan) -> list[str]:
    sample = plan.sample
    of = f" of {sample.looked_at} that were looked at" if sample.looked_at < plan.count else ""
    return [
        f"{plan.action}: {plan.count} found",
        *(f"  {name}: {count}" for by in (plan.by_status, plan.by_type, plan.by_channel) for name, count in by.items()),
        *(f"  would be refused{of} ({why}): {count}" for why, count in sample.refused.items()),
        *(f"  would be kept back{of} by the rule {rule}: {count}" for rule, count in sample.ruled_out.items()),
    ]


def _going(going: Progress) -> str:
    eta = f", until {going.ends_at:%H:%M:%S} UTC" if going.ends_at is not None and going.left else ""
    refused = sum(one.count for one in going.refused.values())
    return f"done {going.done}, refused {refused}, left {going.left}{eta}"


def _lines(going: Progress) -> list[str]:
    refused = [
        f"  refused ({why}): {one.count}, such as {', '.join(map(str, one.examples))}"
        for why, one in going.refused.items()
    ]
    stopped = ["  stopped"] if going.stopped_at is not None else []
    return [f"{going.action} by {going.by}: {going.reason}", f"  {_going(going)}", *refused, *stopped]


@click.group("bulk-actions")
def bulk_actions() -> None:
    """What was done to many at once: list it, see how far it is, stop it."""


@bulk_actions.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_JSON
def list_(limit: int, *, as_json: bool) -> None:
    """List them, the newest first."""
    found = with_parts(lambda given: bulk_of(given).listed(limit=limit))
    lines = [f"{one.id}  {one.begun_at:%Y-%m-%d %H:%M:%S}  {one.action} by {one.by}: {_going(one)}" for one in found]
    print_answer([msgspec.to_builtins(one) for one in found], lines, as_json=as_json)


@bulk_actions.command()
@click.argument("action", type=click.UUID)
@_JSON
def show(action: UUID, *, as_json: bool) -> None:
    """Say how far one is."""
    going = with_parts(lambda given: bulk_of(given).progress(action))
    print_answer(going, _lines(going), as_json=as_json)


@bulk_actions.command()
@click.argument("action", type=click.UUID)
@_WHY
@_JSON
def stop(action: UUID, reason: str, *, as_json: bool) -> None:
    """Let the rest of one be; what was done stays so."""
    going = with_parts(lambda given: bulk_of(given).stop(action, by=_BY, reason=reason))
    print_answer(going, _lines(going), as_json=as_json)
