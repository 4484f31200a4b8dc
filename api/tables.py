"""What is counted, as it is asked for and answered: whole hours or days, groups, filters; as JSON, or as CSV."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
from litestar import Response

from api.parameters import Parameters
from api.services import Call
from ledger import follower
from ledger.clock import Clock
from ledger.follower import View
from ledger.store import Store

CSV = "text/csv"
LONGEST = timedelta(days=400)
DEFAULT = timedelta(days=1)
# Texts that begin so are taken for formulas by programs that open tables (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_EARLIEST, _LATEST = 2000, 2200
_By = TypeVar("_By", bound=StrEnum)
Cell = str | int | float | Decimal | datetime | None


class Format(StrEnum):
    """How it is answered."""

    JSON = "json"
    CSV = "csv"


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the log is not counted yet: so many facts, the oldest of them so old; `parked` are left out."""

    events: int
    seconds: float
    parked: int


async def lag_of(store: Store, view: View) -> Lag:
    """Say how far what is counted is behind the log."""
    async with store.connection() as connection:
        lag = await follower.lag(connection, view)
    return Lag(events=lag.events, seconds=round(lag.age.total_seconds(), 3), parked=lag.parked)


def stretch(asked: Parameters, clock: Clock, *, unit: timedelta) -> tuple[datetime, datetime]:
    """Return the stretch of time `from` … `to` in whole units, counted from midnight UTC; the last day if unnamed.

    Notes a fault where it is none, or longer than what is answered.
    """
    since, until = _time(asked, "from"), _time(asked, "to")
    upto = until or clock.now()
    end, start = _ends(upto, unit), _begins(upto - DEFAULT if since is None else since, unit)
    if start >= end:
        asked.refuse("from", "must lie before the end")
    elif end - start > LONGEST:
        asked.refuse("from", f"must lie at most {LONGEST.days} days before the end")
    return start, end


def _time(asked: Parameters, name: str) -> datetime | None:
    at = asked.time(name)
    if at is None or _EARLIEST <= at.year < _LATEST:
        return at
    asked.refuse(name, f"must lie between the years {_EARLIEST} and {_LATEST}")
    return None


def _begins(at: datetime, unit: timedelta) -> datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // unit * unit


def _ends(at: datetime, unit: timedelta) -> datetime:
    begins = _begins(at, unit)
    return begins if begins == at else begins + unit


def groups(asked: Parameters, words: type[_By], *, not_both: Collection[_By] = ()) -> tuple[_By, ...]:
    """Return what `by` names, separated by commas, in its order."""
    named = asked.text("by")
    parts = [part.strip() for part in named.split(",")] if named else []
    known = [words(part) for part in parts if part in set(words)]
    if len(known) < len(parts):
        asked.refuse("by", f"must be, separated by commas, of {', '.join(words)}")
    elif len(set(known)) < len(known):
        asked.refuse("by", "must name each once")
    elif not_both and set(not_both) <= set(known):
        asked.refuse("by", f"must name {' or '.join(not_both)}, not both")
    return tuple(known)


def filters(asked: Parameters, words: Mapping[_By, type[StrEnum] | None]) -> dict[_By, str]:
    """Return what is asked for alone; each name is read by its list of words, or is any text."""
    given = {name: asked.text(name) if kind is None else asked.word(name, kind) for name, kind in words.items()}
    return {name: str(value) for name, value in given.items() if value is not None}


def wants_csv(request: Call, asked: Parameters) -> bool:
    """Whether the answer is to be CSV: by the parameter `format`, else by what is accepted most."""
    named = asked.word("format", Format)
    if named is not None:
        return named is Format.CSV
    try:
        return request.accept.best_match(["application/json", CSV], default="application/json") == CSV
    except OverflowError:
        # A weight is a number from 0 to 1 (RFC 9110, section 12.4.2), and Litestar falls over an endless one.
        return False


def csv_answer(text: str, name: str) -> Response[str]:
    """Answer a table as a file."""
    disposition = f'attachment; filename="{name}.csv"'
    headers = {"Content-Disposition": disposition, "Vary": "Accept"}
    return Response(text, media_type=f"{CSV}; header=present", headers=headers)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Write a table (RFC 4180): a row of names, then the rows; times as ISO 8601, and no text is a formula."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(columns)
    table.writerows([_written(cell) for cell in row] for row in rows)
    return out.getvalue()


def _written(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case datetime():
            return time_of(cell)
        case Decimal():
            return f"{cell:f}"
        case str() if cell.startswith(_FORMULA):
            return f"'{cell}"
        case _:
            return str(cell)


def time_of(at: datetime) -> str:
    """Write a time as JSON has it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
