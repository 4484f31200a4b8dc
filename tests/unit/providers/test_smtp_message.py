import email
import re
from email.header import decode_header
from email.message import EmailMessage
from email.policy import default
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.values import Mail
from providers.contract import Sending
from providers.smtp_message import Sender, compose, message_id, sender_of

NOTIFICATION = UUID("0198c0de-0000-7000-8000-000000000001")
ATTEMPT = UUID("0198c0de-0000-7000-8000-000000000002")
SENDER = Sender("Acme <no-reply@acme.example>", "no-reply@acme.example")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
# A line break or NUL in a subject is refused before a mail is made of it.
SUBJECTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))


def sending(*, subject: str = "Hi", html: str = "<p>Hi</p>", text: str = "Hi") -> Sending:
    content = Mail(sender=SENDER.header, subject=subject, html=html, text=text)
    return Sending(notification=NOTIFICATION, attempt=ATTEMPT, address="jane@acme.example", content=content)


def composed(given: Sending, *, recipient: str = "jane@acme.example") -> bytes:
    return compose(given, SENDER, recipient=recipient)


def read(wire: bytes) -> EmailMessage:
    """Read a mail as a relay and a reader do: doubled dots single again."""
    return email.message_from_bytes(re.sub(rb"(?m)^\.", b"", wire), policy=default)


def subject_of(wire: bytes) -> str:
    raw = email.message_from_bytes(wire)["Subject"]
    return "".join(
        part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in decode_header(raw)
    )


def lines(text: str) -> list[str]:
    """A text by its lines, whichever of the three ways ends them; what a mail carries always ends its last one."""
    parts = re.split(r"\r\n|\r|\n", text)
    return parts if parts[-1] else parts[:-1] or [""]


def test_i05_the_ids_of_notification_and_attempt_travel_in_the_headers():
    mail = read(composed(sending()))
    assert mail["X-Notification-Id"] == str(NOTIFICATION)
    assert mail["X-Attempt-Id"] == str(ATTEMPT)
    assert mail["Message-ID"] == message_id(sending(), SENDER) == f"<{ATTEMPT}@acme.example>"


def test_a_mail_that_may_be_unsubscribed_from_says_how_in_lines_that_a_relay_takes_as_they_are():
    url = f"https://notifications.acme.example/{'way/' * 20}unsubscribe/{'A' * 88}"
    wire = composed(msgspec.structs.replace(sending(), unsubscribe=url))
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in wire
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in wire
    assert b"List-" not in composed(sending())


def test_a_mail_says_from_whom_to_whom_and_when():
    mail = read(composed(sending()))
    assert (mail["From"], mail["To"], mail["Subject"]) == (SENDER.header, "jane@acme.example", "Hi")
    assert mail["Date"].datetime.tzinfo is not None
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@given(subject=SUBJECTS)
@example("Grüße")
@example("=?utf-8?q?x?=")
@example("a =?utf-8?q?x?= b")
@example(" \t led by a space")
@example("a\u2028b\x85c\x0bd")
@example("x" * 2000)
@example("🎉" * 500)
def test_i26_any_subject_arrives_as_it_was_given(subject: str):
    wire = composed(sending(subject=subject))
    assert subject_of(wire) == subject
    assert len(re.findall(rb"(?m)^[!-9;-~]+: ", wire.partition(b"\r\n\r\n")[0])) == 9


@given(text=TEXTS, html=TEXTS)
@example(".\n..\n.x\r\n.\r\n", "<p>.</p>\n.\n")
@example("\0", "\0")
@example("x" * 5000, "ü" * 5000)
@example("a\r\rb\rc", "From me\n\n")
def test_i26_any_content_arrives_line_by_line_as_it_was_given(text: str, html: str):
    plain, rich = read(composed(sending(text=text, html=html))).iter_parts()
    assert lines(plain.get_content()) == lines(text)
    assert lines(rich.get_content()) == lines(html)


@given(text=TEXTS, html=TEXTS, subject=SUBJECTS)
@example(".\r\n.\r\nMAIL FROM:<x@acme.example>\r\n", "\n.\n", ".")
@example("a\r.\rb", "\n.\r", ".")
def test_no_content_can_end_the_mail_before_its_end(text: str, html: str, subject: str):
    wire = composed(sending(text=text, html=html, subject=subject))
    assert wire.isascii()
    assert b"\0" not in wire
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", wire) is None
    assert re.search(rb"(?m)^\.(?!\.)", wire) is None
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    assert wire.endswith(b"\r\n")


def test_only_a_recipient_beyond_ascii_makes_a_mail_go_beyond_it():
    assert b"\r\nTo: jan\xc3\xa9@acme.example\r\n" in composed(sending(), recipient="jané@acme.example")


@pytest.mark.parametrize(
    ("text", "header", "address"),
    [
        ("no-reply@acme.example", "no-reply@acme.example", "no-reply@acme.example"),
        ("Acme <no-reply@acme.example>", "Acme <no-reply@acme.example>", "no-reply@acme.example"),
        ('"Acme, Inc." <a@acme.example>', '"Acme, Inc." <a@acme.example>', "a@acme.example"),
        ("Grüße <a@acme.example>", "=?utf-8?b?R3LDvMOfZQ==?= <a@acme.example>", "a@acme.example"),
        ("Bücher <a@bücher.example>", "=?utf-8?b?QsO8Y2hlcg==?= <a@xn--bcher-kva.example>", "a@xn--bcher-kva.example"),
    ],
)
def test_a_sender_goes_out_by_header_and_by_envelope(text: str, header: str, address: str):
    assert sender_of(text) == Sender(header, address)


@pytest.mark.parametrize(
    "text",
    ["", "Acme", "a@b", "jané@acme.example", "a@acme.example, b@acme.example", "Acme, Inc. <a@acme.example>"],
)
def test_what_is_no_sender_is_none(text: str):
    assert sender_of(text) is None
