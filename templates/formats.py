"""How each language writes money, numbers, days and moments, and which links are let through."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType

import msgspec

from templates.envelope import read_time
from templates.shapes import decimal_of, is_link

_SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "$"}
# ISO 4217 minor units; every other currency has two.
_MINOR_UNITS = dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0) | dict.fromkeys(
    ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3
)


class UnsafeLinkError(ValueError):
    """A link is not an http or https URL: it is not put into a mail."""


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """How one language writes.

    `thousands` and `point` stand in numbers; `amount` is how a number and a currency's symbol go together; `first` is
    how the first of a month is counted; `at` joins a day and a time; `short` is a day in little room, without letters
    that SMS lack.
    """

    thousands: str
    point: str
    amount: str
    code: str
    percentage: str
    months: tuple[str, ...]
    first: str
    at: str
    short: str

    def money(self, amount: float | str, currency: str) -> str:
        """Write an amount with its symbol, else its ISO 4217 code: `£27.00`, `27.00 CHF`. Raises ValueError."""
        value = decimal_of(amount)
        places = Decimal(1).scaleb(-_MINOR_UNITS.get(currency, 2))
        digits = self._digits(abs(value).quantize(places, rounding=ROUND_HALF_UP))
        symbol = _SYMBOLS.get(currency)
        written = (self.amount if symbol else self.code).format(digits, symbol or currency)
        return f"-{written}" if value < 0 else written

    def number(self, value: float | str) -> str:
        """Write a number with as many places as it has: `1,234.5`. Raises ValueError."""
        if type(value) is int:
            return f"{value:,}".replace(",", self.thousands)
        read = decimal_of(value)
        return self._digits(read.quantize(Decimal(1)) if read == read.to_integral_value() else read.normalize())

    def percent(self, value: float | str) -> str:
        """Write a share of a hundred: `20%`. Raises ValueError."""
        return self.percentage.format(self.number(value))

    def day(self, value: str) -> str:
        """Write an ISO 8601 date as `24 November 2026`. Raises ValueError."""
        return self._day(date.fromisoformat(value))

    def short_day(self, value: str) -> str:
        """Write an ISO 8601 date as `24 Nov 2026`. Raises ValueError."""
        return self.short.format(date.fromisoformat(value))

    def moment(self, value: str) -> str:
        """Write an ISO 8601 time with an offset as `24 November 2026, 23:59 UTC`. Raises ValueError."""
        read = read_time(value)
        if read is None:
            raise ValueError("not a time with an offset")
        return self._moment(read)

    @property
    def filters(self) -> dict[str, Callable[..., str]]:
        """Its ways of writing by the names that templates know them by."""
        return {
            "money": self.money,
            "number": self.number,
            "percent": self.percent,
            "day": self.day,
            "short_day": self.short_day,
            "moment": self.moment,
            "link": link,
        }

    def _digits(self, value: Decimal) -> str:
        whole, _, places = f"{value:,f}".partition(".")
        return whole.replace(",", self.thousands) + (self.point + places if places else "")

    def _day(self, value: date) -> str:
        return f"{self.first if value.day == 1 else value.day} {self.months[value.month - 1]} {value.year}"

    def _moment(self, value: datetime) -> str:
        return f"{self._day(value)}{self.at.format(value)}"


# What must not be parted at the end of a line is held together by a no-break space; where no mail is written, it
# becomes a plain one.
LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        "en": Language(
            thousands=",",
            point=".",
            amount="{1}{0}",
            code="{0} {1}",
            percentage="{0}%",
            months=(
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
            ),
            first="1",
            at=", {0:%H:%M} UTC",
            short="{0.day} {0:%b} {0.year}",
        ),
        "fr": Language(
            thousands="\N{NO-BREAK SPACE}",
            point=",",
            amount="{0}\N{NO-BREAK SPACE}{1}",
            code="{0}\N{NO-BREAK SPACE}{1}",
            percentage="{0}\N{NO-BREAK SPACE}%",
            months=(
                "janvier",
                "février",
                "mars",
                "avril",
                "mai",
                "juin",
                "juillet",
                "août",
                "septembre",
                "octobre",
                "novembre",
                "décembre",
            ),
            first="1er",
            at=" à {0:%H}\N{NO-BREAK SPACE}h\N{NO-BREAK SPACE}{0:%M} UTC",
            short="{0:%d/%m/%Y}",
        ),
    }
)


def language_of(locale: str) -> Language:
    """Return how a locale writes: by its language, else as English does."""
    return LANGUAGES.get(locale.partition("-")[0].lower(), LANGUAGES["en"])


def nearest(locale: str) -> list[str]:
    """Return a locale and what it is a kind of, in the usual case (RFC 5646, 2.1.1): `fr-ca` is `fr-CA`, `fr`."""
    language, *others = locale.split("-")
    cased = {2: str.upper, 4: str.title}
    parts = [language.lower(), *(cased.get(len(part), str.lower)(part) for part in others)]
    return ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]


def link(value: object) -> str:
    """Return an http or https URL as it is; a `javascript:` one must never stand in a mail. Raises UnsafeLinkError."""
    if not is_link(value):
        raise UnsafeLinkError
    return str(value)
