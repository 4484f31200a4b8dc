"""What an attempt costs, and what may be spent in a day: taken from the day's caps with each intent, in its commit."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from ledger.decision import Take
from ledger.values import Channel, Content, Cost, TextMessage, utc
from providers.pricing import Prices
from templates.addresses import country_of
from templates.segments import segments_of

DAY = timedelta(days=1)
_CAP = re.compile(
    r"(?P<channel>[a-z]+)(?::(?P<country>[A-Z]{2}))?=(?P<limit>[0-9]{1,9}(?:\.[0-9]{1,9})?) (?P<currency>[A-Z]{3})"
)


class CapsError(ValueError):
    """SPEND_CAPS cannot be read."""


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent in a UTC day on a channel, or on a channel to one country (ISO 3166)."""

    channel: Channel
    country: str | None
    limit: Decimal
    currency: str

    @property
    def key(self) -> str:
        """The name of its quota. With the currency: what was spent in another one does not count."""
        return f"spend:{self.currency}:{self.channel}{':' if self.country else ''}{self.country or ''}"


class Priced(msgspec.Struct, frozen=True):
    """What an attempt costs, and the country of its number, for caps that name one."""

    cost: Cost
    country: str | None = None


class Spending:
    """Prices and caps of one channel's attempts."""

    def __init__(self, prices: Prices, caps: Collection[Cap], channel: Channel) -> None:
        self._prices = prices
        self._caps = [cap for cap in caps if cap.channel is channel]

    def price(self, provider: str, address: str, content: Content) -> Priced:
        """Return what an attempt by this provider costs, by the price list."""
        if not isinstance(content, TextMessage):
            return Priced(self._prices.estimate(provider, units=1))
        country = country_of(address)
        return Priced(self._prices.estimate(provider, units=segments_of(content.text), country=country), country)

    def takes(self, priced: Priced, now: datetime) -> tuple[Take, ...]:
        """Return what an attempt takes from the caps of its day; what is free takes nothing."""
        if not priced.cost.amount:
            return ()
        return tuple(
            Take(key=cap.key, window_start=day_of(now), amount=priced.cost.amount, limit=cap.limit)
            for cap in self._caps
            if cap.country in (None, priced.country)
        )

    def gives_back(self, priced: Priced, taken_at: datetime) -> tuple[Take, ...]:
        """Return what goes back when the provider certainly has not taken it: to the day that it was taken from."""
        return tuple(take.returned() for take in self.takes(priced, taken_at))


def caps_in(text: str) -> tuple[Cap, ...]:
    """Read `sms=100 USD, sms:GB=50 USD`. Raises CapsError."""
    found = [_CAP.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    caps = tuple(_cap(match) for match in found)
    if len({cap.key for cap in caps}) < len(caps):
        raise CapsError("the same cap stands there twice")
    return caps


def describe(caps: Sequence[Cap]) -> list[str]:
    """Return one line for each cap in force."""
    lines = [
        f"cap: {cap.channel}{f' to {cap.country}' if cap.country else ''}, {cap.limit:f} {cap.currency} a day"
        for cap in sorted(caps, key=lambda cap: cap.key)
    ]
    return lines or ["no cap"]


def _cap(match: re.Match[str] | None) -> Cap:
    if match is None or match["channel"] not in set(Channel):
        raise CapsError("a cap reads sms=100 USD, or sms:GB=50 USD for one country")
    if match["country"] and match["channel"] != Channel.SMS:
        raise CapsError("only a number has a country")
    return Cap(
        channel=Channel(match["channel"]),
        country=match["country"],
        limit=Decimal(match["limit"]),
        currency=match["currency"],
    )


def faults_of(prices: Prices, caps: Sequence[Cap]) -> list[str]:
    """Name the caps that cannot be counted in the currency of the price list."""
    return [
        f"SPEND_CAPS: {cap.channel} is capped in {cap.currency}, and the price list is in {prices.currency}"
        for cap in caps
        if cap.currency != prices.currency
    ]


def day_of(at: datetime) -> datetime:
    """Return the beginning of the UTC day that a moment lies in: the window of a cap."""
    return utc(at).replace(hour=0, minute=0, second=0, microsecond=0)
