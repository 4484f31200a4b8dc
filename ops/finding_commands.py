"""The command that finds whatever a caller says, and says how far its answer reaches."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec

from api.finding import Found, FoundLetter, Hit, Reach, find
from api.said import UnsearchableError
from ledger.follower import prepare
from ledger.queues import Queue
from ledger.status import Status
from ledger.values import Category, Channel
from ops.errors import OperationError
from ops.terminal import print_answer, with_parts
from ops.wiring import Parts
from projections.finding import Conflict
from projections.notification_log import NotificationLog
from projections.notification_search import CursorError, Filters

_MOST = 200
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"])


# By the names of Filters.
_FILTERS = (
    click.option("--notification", type=click.UUID, help="Its id."),
    click.option("--user", "user_id", help="The platform's id of the person."),
    click.option("--reference", help="An order or another number of the business."),
    click.option("--reference-name", help="What it is the number of, such as `order`; with --reference."),
    click.option("--message-id", help="The id of the message that asked for it."),
    click.option("--correlation-id", help="The id that its message shares with others."),
    click.option("--provider-message-id", help="The provider's id of any attempt."),
    click.option("--type", help="Of the catalogue."),
    click.option("--template", help="What is said."),
    click.option("--template-version", help="Which version of it."),
    click.option("--channel", type=click.Choice([channel.value for channel in Channel])),
    click.option("--category", type=click.Choice([category.value for category in Category])),
    click.option("--status", type=click.Choice([status.value for status in Status])),
    click.option("--since", type=_TIME, metavar="TIME", help="Created then or later: 2026-11-23T02:15:00+00:00."),
    click.option("--until", type=_TIME, metavar="TIME", help="Created before."),
)


def _filtering(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.command("find")
@click.argument("text", required=False)
@_filtering
@click.option("--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="So many a page.")
@click.option("--cursor", help="The page behind this one, as the page before has said.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def find_(text: str | None, *, limit: int, cursor: str | None, as_json: bool, **filters: Any) -> None:
    """Find what is known of TEXT, whatever it is: an address, a user, an order, the id of a message or of anything.

    Options narrow it; without TEXT they are all that is asked for. Nobody's address is shown.
    """
    narrowed = msgspec.convert({name: value for name, value in filters.items() if value is not None}, Filters)
    if narrowed.reference_name and not narrowed.reference:
        raise click.UsageError("--reference-name goes with --reference: give both")
    if text is None and narrowed == Filters():
        raise click.UsageError("say what is to be found: TEXT, or an option")

    async def found(given: Parts) -> Found:
        async with given.ledger.store.connection() as connection:
            await prepare(connection, NotificationLog())
        return await find(given, text, narrowed=narrowed, cursor=cursor, limit=limit)

    try:
        told = with_parts(found)
    except UnsearchableError as exc:
        raise OperationError(f"TEXT {exc}") from None
    except CursorError as exc:
        raise OperationError(str(exc)) from None
    print_answer(told, list(lines(told)), as_json=as_json)


def lines(told: Found) -> Iterator[str]:
    """Write what was found as lines for a terminal."""
    yield from map(_notification, told.notifications)
    if told.cursor is not None:
        yield f"more: --cursor {told.cursor}"
    yield from (f"{one}  is in no list: archived, or too new; `history {one}` shows it" for one in told.unlisted)
    yield from map(_letter, told.dead_letters)
    if told.more_dead_letters:
        yield "more messages were refused: look with `dead-letters list`"
    yield from map(_conflict, told.conflicts)
    for known in told.suppressions:
        for entry in known.entries:
            kind = f"{known.channel}, {entry.category or 'all'}"
            yield f"the address is listed ({entry.reason}; {kind}) since {_time(entry.since)}: {known.id}"
    if told.is_empty:
        yield "nothing found"
        yield "no refused message speaks of it, nothing of it is on the suppression list, no conflict is recorded"
    if told.is_empty or told.reach.view_events:
        yield from _reach(told.reach)


def _notification(hit: Hit) -> str:
    by = f"  by {', '.join(hit.matched_by)}" if hit.matched_by else ""
    to = hit.recipient.address or (f"user {hit.recipient.user_id}" if hit.recipient.user_id else "nobody")
    waits = "  HELD for a person" if hit.held else f"  next at {_time(hit.due_at)}" if hit.due_at else ""
    reason = f" ({hit.reason})" if hit.reason else ""
    return f"{hit.id}  {_time(hit.created_at)}  {hit.channel} {hit.type}: {hit.status}{reason} to {to}{waits}{by}"


def _letter(letter: FoundLetter) -> str:
    faults = "; ".join(f"{fault.get('path') or 'it'} {fault.get('message', '')}" for fault in letter.faults[:3])
    name = " ".join(filter(None, (letter.source, letter.type, letter.message_id)))
    return f"refused {_time(letter.received_at)}, {letter.state}: {letter.reason} {name} ({faults}): {letter.key}"


def _conflict(conflict: Conflict) -> str:
    times = "once" if conflict.times == 1 else f"{conflict.times} times"
    return (
        f"the message came again {times} with other content, last at {_time(conflict.last_at)}: "
        f"nothing was sent by that, what came first at {_time(conflict.taken_at)} holds"
    )


def _reach(reach: Reach) -> Iterator[str]:
    behind = f"{reach.view_events} facts ({reach.view_seconds:.1f} s) behind" if reach.view_events else "up to date"
    left_out = f"; {reach.parked} are left out" if reach.parked else ""
    yield f"searched: all since {_time(reach.since)}; the lists are {behind}{left_out}"
    yield from (_queue(queue, reach.asked_at) for queue in reach.queues)
    if not reach.queues:
        yield "no queue of a broker was ever read here"


def _queue(queue: Queue, now: datetime) -> str:
    seconds = max(0, round((now - queue.seen_at).total_seconds()))
    return f"queue {queue.name}: {queue.waiting} messages not taken in, as of {seconds} s ago"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
