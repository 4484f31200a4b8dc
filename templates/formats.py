"""How money, days, moments and links are written: the filters of the templates."""

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from templates.envelope import read_time
from templates.shapes import decimal_of, is_link

_SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "$"}
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
# ISO 4217 minor units; every other currency has two.
_MINOR_UNITS = dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0) | dict.fromkeys(
    ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3
)


class UnsafeLinkError(ValueError):
    """A link is not an http or https URL: it is not put into a mail."""


def money(amount: float | str, currency: str) -> str:
    """Write an amount with its ISO 4217 code: `£27.00`, `-€1,234.50`, `27.00 CHF`. Raises ValueError."""
    value = decimal_of(amount)
    places = _MINOR_UNITS.get(currency, 2)
    digits = f"{abs(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP):,f}"
    sign = "-" if value < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency}"


def day(value: str) -> str:
    """Write an ISO 8601 date as `24 November 2026`. Raises ValueError."""
    return _day(date.fromisoformat(value))


def moment(value: str) -> str:
    """Write an ISO 8601 time with an offset as `24 November 2026, 23:59 UTC`. Raises ValueError."""
    read = read_time(value)
    if read is None:
        raise ValueError("not a time with an offset")
    return f"{_day(read)}, {read:%H:%M} UTC"


def _day(value: date) -> str:
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def link(value: object) -> str:
    """Return an http or https URL as it is; a `javascript:` one must never stand in a mail. Raises UnsafeLinkError."""
    if not is_link(value):
        raise UnsafeLinkError
    return str(value)
