"""What an address of each channel looks like, and which country a phone number belongs to."""

import re
from email.utils import parseaddr

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

MAX_EMAIL = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets

# What nearly every address looks like: 1 µs, where the library needs 40 to 230. Dots stand anywhere in the local part,
# as some carriers hand such addresses out; in all else the library takes whatever this takes.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NOWHERE = "|".join(map(re.escape, SPECIAL_USE_DOMAIN_NAMES))
_PLAIN_EMAIL = re.compile(
    rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?!(?i:(?:.*\.)?(?:{_NOWHERE}))\Z)(?:{_LABEL}\.)+[A-Za-z]{{2,63}}"
)
# What people put between digits. The library reads much more (letters, extensions, `tel:`), which is a mistake here.
PHONE_PATTERN = r"\+[0-9 ()./-]{6,30}"
_PHONE = re.compile(PHONE_PATTERN, re.ASCII)
# The countries that country_of can tell.
COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)
# Firebase makes them 22 characters long and does not promise it; a registration token has a colon, and over 100.
FID_PATTERN = r"[A-Za-z0-9_-]{1,64}"
_FID = re.compile(FID_PATTERN)


def is_email(value: object) -> bool:
    """Tell whether a value can be an e-mail address: RFC 5321 without quoting, internationalised names allowed.

    Nobody is asked: neither a name server nor a mail server.
    """
    if not isinstance(value, str) or len(value) > MAX_EMAIL:
        return False
    if _PLAIN_EMAIL.fullmatch(value):
        return True
    try:
        validate_email(value, check_deliverability=False, strict=True)
    except EmailNotValidError:
        return False
    return True


def is_sender(value: object) -> bool:
    """Tell whether a value can be a From header: an address, or a display name with one behind it (RFC 5322)."""
    return isinstance(value, str) and value.isprintable() and is_email(parseaddr(value)[1])


def read_phone(value: object) -> str | None:
    """Return an international number in E.164 form, None for what is none; spaces and the like may part its digits.

    Its country and its length are looked at, not whether its range is in use yet: such tables are always behind, and
    a code that goes to a new number must not be refused.
    """
    if not isinstance(value, str) or not _PHONE.fullmatch(value):
        return None
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_phone(value: object) -> bool:
    return read_phone(value) is not None


def country_of(number: str) -> str | None:
    """Return the ISO 3166 code of an E.164 number's country; None for those of no country, such as satellites.

    Where countries share a code (+1, +44, +7) and the range is unknown, it is the one that the code is named after.
    """
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None
    country = phonenumbers.region_code_for_number(parsed)
    if country is None:
        country = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    # 001 and ZZ stand for the world and for nowhere.
    return country if country.isalpha() and country != "ZZ" else None


def is_fid(value: object) -> bool:
    """Tell whether a value can be a Firebase installation id, which is no registration token."""
    return isinstance(value, str) and _FID.fullmatch(value) is not None
