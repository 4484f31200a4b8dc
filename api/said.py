"""What a caller's words may mean: an address, an id, a number of the business; nothing is looked up here."""

import re
import unicodedata
from collections.abc import Iterator
from email.utils import parseaddr
from enum import StrEnum
from uuid import UUID

import msgspec

from templates.addresses import read_phone
from templates.envelope import is_identifier

# An address has at most 254 characters (RFC 5321), and a name may stand before it.
LONGEST = 320


class UnsearchableError(ValueError):
    """The text cannot be searched for; it says why."""


class Kind(StrEnum):
    """What a text may be, in the order in which it is told."""

    ADDRESS = "address"
    DEVICE = "device"
    NOTIFICATION = "notification"
    USER = "user_id"
    REFERENCE = "reference"
    MESSAGE = "message_id"
    CORRELATION = "correlation_id"
    PROVIDER = "provider_message_id"


class Meaning(msgspec.Struct, frozen=True):
    """One thing that a text may be. `name` is that of the business reference, where it was said."""

    kind: Kind
    value: str
    name: str | None = None


OF_ANY_TEXT = (Kind.USER, Kind.REFERENCE, Kind.MESSAGE, Kind.CORRELATION, Kind.PROVIDER)
_UUID = re.compile(r"(?:urn:uuid:)?\{?([0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12})\}?", re.IGNORECASE)
# Firebase makes installation ids of 22 characters and does not promise it; shorter words are said for other things.
_DEVICE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_ -]{0,39}?)(?:\s*[:=#]\s*|\s+)(\S.*)")
_NAMES = {
    "user": Kind.USER,
    "user_id": Kind.USER,
    "message": Kind.MESSAGE,
    "message_id": Kind.MESSAGE,
    "correlation": Kind.CORRELATION,
    "correlation_id": Kind.CORRELATION,
    "provider_message_id": Kind.PROVIDER,
    "notification": Kind.NOTIFICATION,
}
# Before an address in a link, and around what is copied.
_SCHEME = re.compile(r"(?:mailto|tel|sms):", re.IGNORECASE)
_AROUND = "\"'`<>()[]{},;.\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e"
_DIGITS = re.compile(r"[0-9][0-9 ()./-]{5,30}")
_DASHES = re.compile("[\u2010-\u2015\u2212]")


def meanings(text: str) -> tuple[Meaning, ...]:
    """Say what a text may mean, each once, in the order of Kind; UnsearchableError where it is none at all."""
    found = dict.fromkeys(each for word in _spellings(_cleaned(text)) for each in _of(word))
    order = list(Kind)
    return tuple(sorted(found, key=lambda each: order.index(each.kind)))


def _cleaned(text: str) -> str:
    """Return the text as it was meant: what is copied from a page or a letter brings signs that nobody sees."""
    if len(text) > 2 * LONGEST:
        raise UnsearchableError(f"must be at most {LONGEST} characters")
    seen = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in text.strip())
    seen = "".join(sign for sign in seen if unicodedata.category(sign) != "Cf").strip()
    if not seen.isprintable():
        raise UnsearchableError("must be one line of printable characters")
    if not 0 < len(seen) <= LONGEST:
        raise UnsearchableError(f"must be 1 to {LONGEST} characters")
    return seen


def _spellings(text: str) -> Iterator[str]:
    """Yield the text, and it without what stands around it."""
    yield text
    bare = _SCHEME.sub("", text, count=1).strip().strip(_AROUND).strip().removeprefix("#").strip()
    if bare and bare != text:
        yield bare


def _of(word: str) -> Iterator[Meaning]:
    for address in _addresses(word):
        yield Meaning(Kind.ADDRESS, address)
    if match := _UUID.fullmatch(word):
        canonical = str(UUID(match[1]))
        yield Meaning(Kind.NOTIFICATION, canonical)
        yield from (Meaning(kind, canonical) for kind in OF_ANY_TEXT)
    if is_identifier(word):
        yield from (Meaning(kind, word) for kind in OF_ANY_TEXT)
    if _DEVICE.fullmatch(word):
        yield Meaning(Kind.DEVICE, word)
    if match := _NAMED.fullmatch(word):
        yield from _named(match[1], match[2])


def _named(name: str, value: str) -> Iterator[Meaning]:
    """Yield what `order: 17` may mean; a name that is none of ours is that of a business reference."""
    kind = _NAMES.get(re.sub("[ -]", "_", name.lower()), Kind.REFERENCE)
    if not is_identifier(value):
        return
    if kind is Kind.REFERENCE:
        yield Meaning(kind, value, name)
    elif kind is not Kind.NOTIFICATION:
        yield Meaning(kind, value)
    elif match := _UUID.fullmatch(value):
        yield Meaning(kind, str(UUID(match[1])))


def _addresses(word: str) -> Iterator[str]:
    if "@" in word:
        yield word
        named = parseaddr(word)[1]
        if "@" in named and named != word:
            yield named
        return
    number = _DASHES.sub("-", word)
    if number.startswith("00"):
        number = f"+{number[2:].lstrip()}"
    read = read_phone(number) or (read_phone(f"+{number}") if _DIGITS.fullmatch(number) else None)
    if read is not None:
        yield read
