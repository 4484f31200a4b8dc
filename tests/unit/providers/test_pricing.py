from decimal import Decimal
from pathlib import Path

import pytest

from providers.pricing import PriceListError, describe, load

PROVIDERS = {"ses", "twilio"}
LIST = """
currency: EUR
providers:
  ses: {each: "0.0001"}
  twilio: {each: "0.20", countries: {US: "0.0083", "NO": "0.07"}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.yaml"


def faults(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(PriceListError) as caught:
        load(file, providers=PROVIDERS)
    return caught.value.faults


@pytest.mark.parametrize(
    ("provider", "units", "country", "amount"),
    [
        ("ses", 1, None, "0.0001"),
        ("twilio", 3, "US", "0.0249"),
        ("twilio", 1, "NO", "0.07"),
        ("twilio", 2, "FR", "0.40"),
        ("twilio", 1, None, "0.20"),
    ],
)
def test_a_cost_is_exact_in_units_of_its_country(
    file: Path, provider: str, units: int, country: str | None, amount: str
):
    file.write_text(LIST)
    cost = load(file, providers=PROVIDERS).estimate(provider, units=units, country=country)
    assert (cost.amount, cost.currency, cost.units) == (Decimal(amount), "EUR", units)


def test_the_list_that_is_shipped_has_a_price_for_every_provider():
    shipped = load(providers={"ses", "smtp", "twilio", "fcm"})
    assert "twilio: 0.0083 USD each to US" in describe(shipped)
    assert shipped.estimate("ses", units=1).amount * 1000 == Decimal("0.1")


def test_a_list_names_all_its_faults_at_once(file: Path):
    text = """
currency: euro
discount: 5
providers:
  ses: {each: 0.0001, per: "mail"}
  twilio: {each: "-1", countries: {Norway: "0.1", US: 1}}
  pigeon: {each: "1"}
"""
    assert faults(file, text) == [
        "discount: is not a part of a price list",
        "currency: must be an ISO 4217 code, such as USD",
        "providers.pigeon: is no provider",
        "providers.ses.per: is not a part of a price",
        'providers.ses.each: must be an amount in quotes, such as "0.0083"',
        "providers.twilio.countries.Norway: must be an ISO 3166 code, such as US",
        'providers.twilio.each: must be an amount in quotes, such as "0.0083"',
        'providers.twilio.countries.US: must be an amount in quotes, such as "0.0083"',
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('  ses: {each: "0.0001"}\n', "", "providers.ses: is missing"),
        ('"NO": "0.07"', 'US: "0.07"', "providers.twilio.countries.US: is written twice"),
        ('"NO"', "NO", "providers.twilio.countries: must be a mapping of names (NO stands in quotes)"),
        ("currency: EUR", "currency: EUR\ncurrency: USD", "currency: is written twice"),
        ('{each: "0.0001"}', '"0.0001"', "providers.ses: must be a mapping of names (NO stands in quotes)"),
    ],
)
def test_what_yaml_would_pass_over_in_silence_is_a_fault(file: Path, old: str, new: str, fault: str):
    assert fault in faults(file, LIST.replace(old, new))


@pytest.mark.parametrize("text", ["- 1", "", "a: [", "\x00"])
def test_what_is_no_list_is_one_fault(file: Path, text: str):
    assert len(faults(file, text)) == 1
