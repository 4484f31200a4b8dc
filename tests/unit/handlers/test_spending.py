"""Costs and caps: given a price list and caps, when an attempt is made, then what it costs and what it takes."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from handlers.spending import Cap, CapsError, Spending, caps_in, day_of, describe, faults_of
from ledger.values import Channel, Content, Mail, PushMessage, TextMessage
from providers.pricing import Price, Prices

PRICES = Prices(
    "USD",
    {
        "ses": Price(Decimal("0.0001")),
        "twilio": Price(Decimal("0.35"), {"US": Decimal("0.0083"), "GB": Decimal("0.05")}),
        "fcm": Price(Decimal(0)),
    },
)
NOON = datetime(2031, 5, 4, 12, tzinfo=UTC)
MAIL, PUSH = Mail("a@shop.example", "s", "h", "t"), PushMessage("t", "b")
US, GB, DE = "+12025550123", "+447400123456", "+4915112345678"


def spending(caps: str, channel: Channel = Channel.SMS) -> Spending:
    return Spending(PRICES, caps_in(caps), channel)


def sms(length: int) -> TextMessage:
    return TextMessage("Shop", "a" * length)


@pytest.mark.parametrize(
    ("provider", "address", "content", "amount", "country"),
    [
        ("ses", "ada@example.com", MAIL, "0.0001", None),
        ("fcm", "f" * 22, PUSH, "0", None),
        ("twilio", US, sms(160), "0.0083", "US"),
        ("twilio", GB, sms(161), "0.10", "GB"),
        ("twilio", DE, sms(320), "1.05", "DE"),
        ("twilio", "+882160000000", sms(1), "0.35", None),
    ],
)
def test_an_attempt_costs_what_its_units_cost_in_its_country(
    provider: str, address: str, content: Content, amount: str, country: str | None
):
    priced = spending("").price(provider, address, content)
    assert (priced.cost.amount, priced.cost.currency, priced.country) == (Decimal(amount), "USD", country)


@pytest.mark.parametrize(
    ("address", "keys"),
    [(US, ["spend:USD:sms"]), (GB, ["spend:USD:sms", "spend:USD:sms:GB"]), ("+882160000000", ["spend:USD:sms"])],
)
def test_an_attempt_takes_from_every_cap_that_it_falls_under(address: str, keys: list[str]):
    money = spending("sms=100 USD, sms:GB=50.5 USD, email=1 USD")
    priced = money.price("twilio", address, sms(10))
    takes = money.takes(priced, NOON)
    assert [take.key for take in takes] == keys
    assert {take.amount for take in takes} == {priced.cost.amount}
    assert [take.limit for take in takes] == [Decimal(100), Decimal("50.5")][: len(keys)]
    assert {take.window_start for take in takes} == {datetime(2031, 5, 4, tzinfo=UTC)}


def test_what_is_free_takes_nothing_and_a_cap_of_nothing_stops_the_rest():
    money = spending("push=0 USD", Channel.PUSH)
    assert money.takes(money.price("fcm", "f" * 22, PUSH), NOON) == ()
    (take,) = spending("sms=0 USD").takes(money.price("twilio", US, sms(1)), NOON)
    assert take.amount > take.limit


def test_what_goes_back_goes_to_the_day_that_it_was_taken_from_whatever_the_cap_is_by_then():
    money = spending("sms=100 USD")
    priced = money.price("twilio", GB, sms(1))
    taken_at = datetime(2031, 5, 3, 23, 59, 59, tzinfo=UTC)
    (taken,), (back,) = money.takes(priced, taken_at), money.gives_back(priced, taken_at)
    assert (back.key, back.window_start, back.amount) == (taken.key, taken.window_start, -taken.amount)
    assert back.limit > 10**20


def test_a_day_is_a_day_of_utc():
    at = datetime(2031, 5, 5, 1, tzinfo=timezone(timedelta(hours=2)))
    assert day_of(at) == datetime(2031, 5, 4, tzinfo=UTC)


def test_caps_are_read():
    assert caps_in("") == ()
    assert caps_in(" sms=100 USD,sms:GB=0.5 USD ") == (
        Cap(channel=Channel.SMS, country=None, limit=Decimal(100), currency="USD"),
        Cap(channel=Channel.SMS, country="GB", limit=Decimal("0.5"), currency="USD"),
    )


def test_the_caps_in_force_are_told_one_by_one():
    assert describe(()) == ["no cap"]
    assert describe(caps_in("sms:GB=0.5 USD, sms=100 USD")) == [
        "cap: sms, 100 USD a day",
        "cap: sms to GB, 0.5 USD a day",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "sms",
        "sms=100",
        "sms=100 usd",
        "fax=1 USD",
        "sms:gb=1 USD",
        "email:GB=1 USD",
        "sms=-1 USD",
        "sms=1 USD, sms=2 USD",
    ],
)
def test_what_is_no_cap_is_refused(text: str):
    with pytest.raises(CapsError):
        caps_in(text)


def test_a_cap_in_another_currency_than_the_price_list_is_named():
    wrong: list[Any] = faults_of(PRICES, caps_in("sms=1 EUR, email=1 USD"))
    assert wrong == ["SPEND_CAPS: sms is capped in EUR, and the price list is in USD"]
