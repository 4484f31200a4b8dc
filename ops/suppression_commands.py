"""The commands that look after the suppression list."""

from collections.abc import Iterable
from datetime import datetime
from typing import TextIO
from uuid import UUID

import click

from handlers.suppressions import list_by_hand, release
from ledger.follower import prepare
from ledger.suppression import Grounds, Reason
from ledger.values import Category, Channel
from ops.errors import OperationError
from ops.terminal import print_answer, with_parts
from ops.wiring import Parts
from projections.suppressions import Filters, Page, Row, Suppressions, search
from templates.addresses import is_email, read_phone

_MOST = 1_000
_TOLD_AT_MOST = 20
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"])
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WHY = click.option("--reason", "why", required=True, help="Why; it is recorded.")
_CATEGORY = click.option(
    "--category", type=click.Choice([category.value for category in Category]), help="For this category; else for all."
)
_CHANNELS = click.Choice([Channel.EMAIL.value, Channel.SMS.value])


@click.group()
def suppressions() -> None:
    """The suppression list: who must not be contacted."""


@suppressions.command("list")
@click.option("--channel", type=_CHANNELS, help="Only this channel.")
@click.option("--for", "listed_for", type=click.Choice([reason.value for reason in Reason]), help="Only this reason.")
@_CATEGORY
@click.option("--limit", type=click.IntRange(1, _MOST), default=100, show_default=True)
@_JSON
def list_(channel: str | None, listed_for: str | None, category: str | None, limit: int, *, as_json: bool) -> None:
    """List what is listed now, the newest entry first; no address is shown."""
    filters = Filters(
        channel=Channel(channel) if channel else None,
        reason=Reason(listed_for) if listed_for else None,
        category=Category(category) if category else None,
    )

    async def found(given: Parts) -> Page:
        async with given.ledger.store.connection() as connection:
            await prepare(connection, Suppressions())
            return await search(connection, filters, limit=limit)

    rows = with_parts(found).rows
    print_answer(rows, [_line(row) for row in rows], as_json=as_json)


def _line(row: Row) -> str:
    until = f" until {row.expires_at.isoformat()}" if row.expires_at else ""
    return f"{row.stream} {row.channel} {row.reason} {row.category or 'all'} since {row.since.isoformat()}{until}"


@suppressions.command()
@click.argument("addresses", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--channel", type=_CHANNELS, required=True)
@click.option("--legal", is_flag=True, help="With the reason `legal`; else it is `manual`.")
@_CATEGORY
@click.option(
    "--expires-at", type=_TIME, metavar="TIME", help="It holds until then, such as 2027-07-01T00:00:00+00:00."
)
@_WHY
@_JSON
def add(
    addresses: TextIO,
    channel: str,
    category: str | None,
    expires_at: datetime | None,
    why: str,
    *,
    legal: bool,
    as_json: bool,
) -> None:
    """List the addresses of a file, one a line; standard input by default. Again is the same as once."""
    wanted = _read(addresses, Channel(channel))
    grounds = Grounds(
        reason=Reason.LEGAL if legal else Reason.MANUAL,
        category=Category(category) if category else None,
        expires_at=expires_at,
        note=why,
    )

    async def listed(given: Parts) -> int:
        if expires_at is not None and expires_at <= given.ledger.clock.now():
            raise OperationError("--expires-at has passed")
        done = [await list_by_hand(given.ledger, Channel(channel), one, grounds, by="cli") for one in wanted]
        return sum(each.is_new for each in done)

    new = with_parts(listed)
    answer = {"listed": new, "known": len(wanted) - new}
    print_answer(answer, [f"{name}: {count}" for name, count in answer.items()], as_json=as_json)


def _read(lines: Iterable[str], channel: Channel) -> list[str]:
    """Return the addresses; OperationError names every line that holds none, and never what it says."""
    read: dict[str, None] = {}
    wrong = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        address = read_phone(text) if channel is Channel.SMS else text if is_email(text) else None
        if address is not None:
            read[address] = None
        elif text:
            wrong.append(str(number))
    if wrong:
        more = f" and {len(wrong) - _TOLD_AT_MOST} more" if len(wrong) > _TOLD_AT_MOST else ""
        raise OperationError(f"nothing was listed: no address in line {', '.join(wrong[:_TOLD_AT_MOST])}{more}")
    return list(read)


@suppressions.command("release")
@click.argument("suppression", type=click.UUID)
@click.option("--for", "listed_for", type=click.Choice([reason.value for reason in Reason]), help="Only this entry.")
@_CATEGORY
@_WHY
def release_(suppression: UUID, listed_for: str | None, category: str | None, why: str) -> None:
    """Let an address be used again: whatever it was listed for, or in one respect."""
    if category and not listed_for:
        raise OperationError("--category goes with --for: give both")
    names = [(Reason(listed_for), Category(category) if category else None)] if listed_for else None
    known = with_parts(lambda given: release(given.ledger, suppression, names, by="cli", note=why))
    click.echo(f"entries left: {len(known.entries)}")
