import pytest

from templates.formats import LANGUAGES, UnsafeLinkError, language_of, link

ENGLISH, FRENCH = LANGUAGES["en"], LANGUAGES["fr"]


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (27, "GBP", "£27.00"),
        (7.5, "EUR", "€7.50"),
        ("1234567.891", "USD", "$1,234,567.89"),
        (-12.0, "GBP", "-£12.00"),
        ("27.00", "CHF", "27.00 CHF"),
        (1200, "JPY", "1,200 JPY"),
        ("1.2345", "KWD", "1.235 KWD"),
        (0.1 + 0.2, "EUR", "€0.30"),
        (999999999999.99, "GBP", "£999,999,999,999.99"),
        ("2.675", "GBP", "£2.68"),
        (0, "GBP", "£0.00"),
    ],
)
def test_money_is_written_to_the_minor_unit(amount: float | str, currency: str, written: str):
    assert ENGLISH.money(amount, currency) == written


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "ten", ""])
def test_what_is_no_amount_is_refused(amount: str):
    with pytest.raises(ValueError, match="not an amount"):
        ENGLISH.money(amount, "GBP")


def test_a_day_is_written_out():
    assert ENGLISH.day("2026-11-24") == "24 November 2026"
    assert ENGLISH.day("2028-02-29") == "29 February 2028"


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [(27, "EUR", "27,00_€"), ("-1234567.891", "GBP", "-1_234_567,89_£"), (1200, "JPY", "1_200_JPY")],
)
def test_french_holds_an_amount_and_its_currency_together(amount: float | str, currency: str, written: str):
    assert FRENCH.money(amount, currency) == written.replace("_", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("value", "english", "french"),
    [
        (20, "20", "20"),
        (12.5, "12.5", "12,5"),
        ("1234.50", "1,234.5", "1_234,5"),
        (1e15, "1,000,000,000,000,000", None),
    ],
)
def test_a_number_has_as_many_places_as_it_was_given(value: float | str, english: str, french: str | None):
    assert ENGLISH.number(value) == english
    assert ENGLISH.percent(value) == f"{english}%"
    if french is not None:
        assert FRENCH.percent(value) == f"{french}_%".replace("_", "\N{NO-BREAK SPACE}")


def test_french_counts_the_first_of_a_month():
    assert FRENCH.day("2026-11-24") == "24 novembre 2026"
    assert FRENCH.day("2026-08-01") == "1er août 2026"
    assert (
        FRENCH.moment("2026-11-24T23:05:00+02:00").replace("\N{NO-BREAK SPACE}", " ")
        == "24 novembre 2026 à 21 h 05 UTC"
    )


@pytest.mark.parametrize(
    ("locale", "language"), [("fr-CH", FRENCH), ("FR", FRENCH), ("en-GB", ENGLISH), ("pt", ENGLISH)]
)
def test_a_locale_writes_as_its_language_does(locale: str, language: object):
    assert language_of(locale) is language


@pytest.mark.parametrize(
    "target",
    [
        "https://shop.example/reset?token=1&x=%20#top",
        "http://127.0.0.1:8080/",
        "HTTPS://shop.example",
        "https://[::1]:8080/x",
        "https://例え.jp/道",
    ],
)
def test_a_web_address_is_a_link(target: str):
    assert link(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        " https://shop.example",
        "https://shop.example/a b",
        "https://shop.example\n",
        "java\nscript:alert(1)",
        "data:text/html,hello",
        "//shop.example",
        "/path",
        "https://",
        "https:shop.example",
        "https://user:pw@shop.example",
        "https://shop.example\\@evil.example",
        'https://"onclick="x.example',
        "ftp://shop.example",
        "https://shop.example/" + "x" * 2000,
        None,
        7,
    ],
)
def test_everything_else_is_none(target: object):
    with pytest.raises(UnsafeLinkError):
        link(target)
