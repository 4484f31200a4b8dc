"""What is sent over SMTP: one mail as the bytes of a DATA command."""

import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, formataddr, getaddresses
from functools import lru_cache

import msgspec

from ledger.values import Mail
from providers.contract import Sending
from providers.mail_address import wire_address

# What a header carries as it is: one line, no space at either end.
PLAIN = re.compile(r"(?![^ ]*=\?)[!-~](?:(?! =\?)[ -~]{0,198}[!-~])?")
# An encoded word is at most 75 characters long (RFC 2047, 2), of which 12 are its frame.
WORD_OCTETS = 45
LINE_START_DOT = re.compile(rb"^\.", re.MULTILINE)


class Prepared(EmailPolicy):
    """Headers go out as they were made here.

    The library's own would parse every header to fold it again (measured: four fifths of the CPU of a small mail),
    would not take a subject that holds U+2028, and would read a subject that looks like an encoded word as one.
    """

    def header_store_parse(self, name: str, value: str) -> tuple[str, str]:
        return name, value

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 - the library's signature
        return value

    def fold_binary(self, name: str, value: str) -> bytes:
        return f"{name}: {value}\r\n".encode()


# 7bit: a mail in it needs no extension of the server's.
POLICY = Prepared(linesep="\r\n", cte_type="7bit")


class Sender(msgspec.Struct, frozen=True):
    """A sender as the header and as the envelope say it."""

    header: str
    address: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


@lru_cache(maxsize=256)
def sender_of(text: str) -> Sender | None:
    """Return the sender of "Name <address>" or an address alone, None when mail cannot be sent from it."""
    (name, spec), *others = getaddresses([text]) or [("", "")]
    address = wire_address(spec)
    if address is None or others:
        return None
    header = formataddr((name, address)) if PLAIN.fullmatch(name) or not name else f"{encoded(name)} <{address}>"
    return Sender(header, address)


def message_id(sending: Sending, sender: Sender) -> str:
    """Return the Message-ID of an attempt: the same attempt always has the same (RFC 5322, 3.6.4)."""
    return f"<{sending.attempt}@{sender.domain}>"


def compose(sending: Sending, sender: Sender, *, recipient: str) -> bytes:
    """Return the mail as lines that end in CRLF, dots doubled (RFC 5321, 4.5.2), without the final dot.

    `recipient` is the address as the envelope has it; beyond ASCII it makes this a mail for SMTPUTF8 (RFC 6532).
    """
    mail = EmailMessage(policy=POLICY)
    mail["From"] = sender.header
    mail["To"] = recipient
    mail["Subject"] = unstructured(sending.mail.subject)
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = message_id(sending, sender)
    mail["X-Notification-Id"] = str(sending.notification)
    mail["X-Attempt-Id"] = str(sending.attempt)
    for name, value in sending.mail_headers.items():
        mail[name] = value
    add_content(mail, sending.mail)
    return LINE_START_DOT.sub(b"..", mail.as_bytes())


def add_content(mail: EmailMessage, content: Mail) -> None:
    """Add both parts, the HTML last: of alternatives the last is the best (RFC 2046, 5.1.4)."""
    mail.set_content(content.text, cte=transfer_encoding(content.text))
    mail.add_alternative(content.html, subtype="html", cte=transfer_encoding(content.html))


def transfer_encoding(text: str) -> str | None:
    """Return how a part is encoded, None where the library may choose; NUL is allowed in no other (RFC 5321, 4.5.2)."""
    return "base64" if "\0" in text else None


def unstructured(text: str) -> str:
    """Return a header's text, encoded where it would not come back as it is."""
    return text if PLAIN.fullmatch(text) or not text else encoded(text)


def encoded(text: str) -> str:
    """Return a text as encoded words (RFC 2047), each on a line of its own."""
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word.encode()).decode()}?=" for word in words(text))


def words(text: str) -> Iterator[str]:
    """Cut a text between characters into pieces of at most WORD_OCTETS octets."""
    word, size = "", 0
    for letter in text:
        octets = len(letter.encode())
        if size + octets > WORD_OCTETS:
            yield word
            word, size = "", 0
        word, size = word + letter, size + octets
    yield word
