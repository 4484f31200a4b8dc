"""Whom bytes speak of that nobody could read as a message: found by what addresses and user ids look like."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec

from ledger.keys import Identity
from ledger.recipient import nobody_named, stream_of

# So many are looked for: a message for more people than this is no message of one of them.
MOST = 10_000
# Nobody looks for a longer one.
LONGEST = 200
# RFC 5321: 64 for the local part, 255 for the domain.
_LONGEST_MAIL_ADDRESS = 320
_BETWEEN_WORDS = re.compile(r"[\s\"'<>()\[\]{},;:\\\ufffd]+")
# A local part may hold these, and so may what stands before an address.
_MAYBE_BETWEEN = re.compile(r"[=&?/|]")
_NUMBER = re.compile(r"\+?[0-9](?:[ ()./-]{0,2}[0-9]){6,20}")
_USER_ID = frozenset({"userid", "user_id"})
_USER_ID_IN_TEXT = re.compile(r"\"user_?id\"\s*:\s*\"([^\"\\]{1,200})\"", re.IGNORECASE)


def people_in(body: bytes, identity: Identity) -> list[UUID]:
    """Return the streams (ledger.recipient) of the people whom a body names, by user id, mail address or phone number.

    There may be too many of them: a long number may be a phone's, or an order's. What is written in a code of its own
    (base64, say) is not seen.
    """
    found: set[UUID] = set()
    for user_id, text in _said(body):
        if user_id:
            found.add(stream_of(identity, text))
        found.update(nobody_named(identity, identity.recipient(None, one)).stream for one in _addresses(text))
        if len(found) >= MOST:
            break
    return sorted(found)[:MOST]


def texts_in(body: bytes, identity: Identity) -> list[UUID]:
    """Return what stands for each text of a body and each word of it: who knows one of them finds the body."""
    found: set[UUID] = set()
    for word in _words(body):
        if 0 < len(word) <= LONGEST:
            found.add(text(identity, word))
        if len(found) >= MOST:
            break
    return sorted(found)


def _words(body: bytes) -> Iterator[str]:
    for _, said in _said(body):
        yield said.strip()
        yield from _BETWEEN_WORDS.split(said)


def text(identity: Identity, said: str) -> UUID:
    """Return what stands for a text, without saying what it is."""
    return identity.standing_stream("said", said)


def _said(body: bytes) -> Iterator[tuple[bool, str]]:
    """Yield all texts of a body, each with whether it is a user's id."""
    try:
        waiting: list[tuple[bool, Any]] = [(False, msgspec.json.decode(body))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        yield from ((True, user_id) for user_id in _USER_ID_IN_TEXT.findall(text))
        yield False, text
        return
    while waiting:
        is_user_id, value = waiting.pop()
        match value:
            case dict():
                waiting += [(False, name) for name in value]
                waiting += [(name.lower() in _USER_ID, inner) for name, inner in value.items()]
            case list():
                waiting += [(False, inner) for inner in value]
            case str() | int() if not isinstance(value, bool):
                yield is_user_id, str(value)


def _addresses(text: str) -> Iterator[str]:
    if "@" in text:
        for word in filter(lambda word: "@" in word, _BETWEEN_WORDS.split(text)):
            candidates = {word, *_MAYBE_BETWEEN.split(word)}
            yield from (one for one in candidates if "@" in one and len(one) <= _LONGEST_MAIL_ADDRESS)
    for number in _NUMBER.findall(text):
        yield number
        if not number.startswith("+"):
            yield f"+{number}"
