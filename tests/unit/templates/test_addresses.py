import phonenumbers
import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from templates.addresses import country_of, is_email, is_fid, is_phone, is_sender, read_phone
from templates.envelope import Fault
from templates.shapes import SCALARS


def taken_by_the_library(address: str) -> bool:
    try:
        validate_email(address, check_deliverability=False, strict=True)
    except EmailNotValidError:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "ada+orders@mail.example.co.uk",
        "o'brien@example.com",
        "ADA@EXAMPLE.COM",
        "1@2.example",
        "用户@例え.jp",
        "ada@xn--r8jz45g.jp",
        "jörg@example.com",
        f"{'a' * 64}@example.com",
        # RFC 5321 forbids dots at the ends and in a row; a Japanese carrier gave such addresses to its customers.
        "ada..lovelace.@docomo.ne.jp",
    ],
)
def test_an_address_that_can_be_written_to_is_taken(address: str):
    assert is_email(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "ada@localhost",
        "ada@printer.local",
        "ada@nowhere.INVALID",
        "ada@127.0.0.1",
        "ada@[127.0.0.1]",
        '"ada lovelace"@example.com',
        "Ada <ada@example.com>",
        "ada@-example.com",
        "ada@example-.com",
        "ada@exa_mple.com",
        "ada@xn--.com",
        "ada@example.com.",
        "ada@example..com",
        "ada@例え..jp",
        "ada\u202e@example.com",
        f"{'a' * 65}@example.com",
        f"ada@{'a' * 64}.com",
        f"ada@{'a.' * 130}com",
        "ada@\ud800.com",
        None,
        7,
    ],
)
def test_an_address_that_nobody_can_write_to_is_none(address: object):
    assert not is_email(address)


LABELS = st.text(alphabet="aZ0-_é", max_size=6)


@given(
    st.text(alphabet="aZ09+-_'", min_size=1, max_size=66),
    st.lists(LABELS, min_size=1, max_size=5).map(".".join),
    st.sampled_from(["com", "test", "LOCAL", "onion", "arpa", "c", "c0m", "xn--p1ai", "ab--cd", "中国"]),
)
@example("a", "ab--c", "com")
@example("a", "xn--a", "com")
@example("a" * 64, "a." * 92 + "a", "com")
@example("a" * 64, "a." * 93 + "a", "com")
def test_what_is_taken_by_the_short_way_is_what_the_library_takes(local: str, domain: str, top: str):
    address = f"{local}@{domain}.{top}"
    assert is_email(address) == taken_by_the_library(address)


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_none(text: str):
    for check in (is_email, is_phone, is_fid, is_sender):
        assert check(text) in (True, False)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+442071838750", "+442071838750"),
        ("+44 20 7183 8750", "+442071838750"),
        ("+44 (0)20 7183-8750", "+442071838750"),
        ("+1 (500) 555-0001", "+15005550001"),
        ("+1.212.555.2368", "+12125552368"),
        ("+39 06 698 12345", "+390669812345"),
        ("+881612345678", "+881612345678"),
    ],
)
def test_a_number_is_kept_in_e164_however_it_is_written(written: str, number: str):
    assert read_phone(written) == number


@pytest.mark.parametrize(
    "value",
    [
        "",
        "+",
        "020 7183 8750",
        "00442071838750",
        "442071838750",
        "+44",
        "+44 20 7183 8750 1234",
        "+1 555 0001",
        "+999 123456",
        "+1 800 FLOWERS",
        "+44 20 7183 8750 ext. 5",
        "tel:+442071838750",
        "+٤٤٢٠٧١٨٣٨٧٥٠",
        "+44\n2071838750",
        "+" + "4" * 4000,
        442071838750,
        None,
    ],
)
def test_what_is_no_international_number_is_none(value: object):
    assert not is_phone(value)


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+442071838750", "GB"),
        ("+15005550001", "US"),
        ("+16135550100", "CA"),
        ("+77011234567", "KZ"),
        ("+3906698123", "VA"),
        ("+447700900123", "GB"),
        ("+19999999999", "US"),
        ("+881612345678", None),
        ("+999123456", None),
        ("", None),
    ],
)
def test_a_number_belongs_to_a_country(number: str, country: str | None):
    assert country_of(number) == country


def test_the_numbers_of_every_country_are_taken_and_told():
    for region in phonenumbers.SUPPORTED_REGIONS:
        sample = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if sample is not None:
            number = phonenumbers.format_number(sample, phonenumbers.PhoneNumberFormat.E164)
            assert read_phone(number) == number
            assert country_of(number) in phonenumbers.region_codes_for_country_code(sample.country_code or 0)


@pytest.mark.parametrize("fid", ["cHJvYmFibHkgYW4gaWQgZ3", "dA-_56789012345678901f", "a" * 64])
def test_an_installation_id_is_some_base64url(fid: str):
    assert is_fid(fid)


@pytest.mark.parametrize(
    "value", ["", "a" * 65, "cHJvYmFibHkgYW4gaWQgZ3:APA91bH", "cHJvYmFibHk=", "cHJvYmFibHé", "a b", "a\n", 22, None]
)
def test_a_registration_token_is_no_installation_id(value: object):
    assert not is_fid(value)


@pytest.mark.parametrize(("shape", "value"), [("email", "Xylo@phone"), ("phone", "+1Xylophone"), ("fid", "Xylo phone")])
def test_i18_a_fault_says_what_is_expected_and_never_what_there_was(shape: str, value: str):
    faults: list[Fault] = []
    assert SCALARS[shape].read(value, "payload.to", faults) is None
    (fault,) = faults
    assert str(fault).startswith("payload.to must be a")
    assert "Xylo" not in str(fault)
