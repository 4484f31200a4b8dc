"""What an attempt costs by the price list: an estimate, for the bill itself comes from the vendor."""

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ledger.values import Cost

PRICES = Path(__file__).with_name("prices.yaml")

_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_AMOUNT_EXPECTED = 'must be an amount in quotes, such as "0.0083"'


class PriceListError(Exception):
    """The price list cannot be used: nothing is sent by it. Each fault names its place and what was expected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Price(msgspec.Struct, frozen=True):
    """What a unit costs at one provider, by the country of the number, or everywhere else."""

    each: Decimal
    countries: Mapping[str, Decimal] = {}


class Prices(msgspec.Struct, frozen=True):
    """The price list: one price for each provider, all in one currency (ISO 4217)."""

    currency: str
    providers: Mapping[str, Price]

    def estimate(self, provider: str, *, units: int, country: str | None = None) -> Cost:
        """Return what so many units (mails, segments, pushes) cost at a provider, to a number of this country."""
        price = self.providers[provider]
        unit = price.each if country is None else price.countries.get(country, price.each)
        return Cost(amount=unit * units, currency=self.currency, units=units, country=country)


def load(path: Path | None = None, *, providers: Collection[str]) -> Prices:
    """Load a price list, ours by default, that must have a price for exactly these providers.

    Raises PriceListError with every fault.
    """
    raw, faults = _read(path or PRICES)
    faults += [f"{name}: is not a part of a price list" for name in sorted(raw.keys() - {"currency", "providers"})]
    currency = raw.get("currency")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        faults.append("currency: must be an ISO 4217 code, such as USD")
    written = _mapping(raw.get("providers"), "providers", faults)
    faults += [f"providers.{name}: is missing" for name in sorted(set(providers) - written.keys())]
    faults += [f"providers.{name}: is no provider" for name in sorted(written.keys() - set(providers))]
    prices = {name: _price(value, f"providers.{name}", faults) for name, value in written.items()}
    if faults:
        raise PriceListError(faults)
    return Prices(str(currency), prices)


def describe(prices: Prices) -> list[str]:
    """Return one line for each price."""
    return [
        f"{name}: {amount:f} {prices.currency} each{where}"
        for name, price in sorted(prices.providers.items())
        for amount, where in [
            *((amount, f" to {country}") for country, amount in sorted(price.countries.items())),
            (price.each, " elsewhere" if price.countries else ""),
        ]
    ]


def _price(raw: object, place: str, faults: list[str]) -> Price:
    fields = _mapping(raw, place, faults)
    faults += [f"{place}.{name}: is not a part of a price" for name in sorted(fields.keys() - {"each", "countries"})]
    countries = _mapping(fields.get("countries", {}), f"{place}.countries", faults)
    faults += [
        f"{place}.countries.{name}: must be an ISO 3166 code, such as US"
        for name in sorted(countries)
        if not _COUNTRY.fullmatch(name)
    ]
    return Price(
        _amount(fields.get("each"), f"{place}.each", faults),
        {name: _amount(value, f"{place}.countries.{name}", faults) for name, value in countries.items()},
    )


def _amount(raw: object, place: str, faults: list[str]) -> Decimal:
    if not isinstance(raw, str) or not _AMOUNT.fullmatch(raw):
        faults.append(f"{place}: {_AMOUNT_EXPECTED}")
        return Decimal(0)
    return Decimal(raw)


def _mapping(raw: object, place: str, faults: list[str]) -> dict[str, Any]:
    if isinstance(raw, dict) and all(isinstance(name, str) for name in raw):
        return raw
    # YAML reads NO, the code of Norway, as false.
    faults.append(f"{place}: must be a mapping of names (NO stands in quotes)")
    return {}


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PriceListError([f"cannot be read ({type(error).__name__})"]) from error
    if not isinstance(raw, dict):
        raise PriceListError(["a price list is a YAML mapping"])
    return raw, [f"{place}: is written twice" for place in _twice(node, "")]


def _twice(node: Any, place: str) -> Iterator[str]:
    """Name what stands twice, of which YAML would keep the last in silence."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        here = f"{place}{key.value}"
        if here in seen:
            yield here
        seen.add(here)
        yield from _twice(value, f"{here}.")
