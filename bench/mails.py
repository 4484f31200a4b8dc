"""The bench's mails: templates of a known size, and the messages that ask for them."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec

CATALOGUE = Path(__file__).parent / "catalogue.yaml"
SMALL, LARGE, CODE, NEWSLETTER = "SmallMailEvent", "LargeMailEvent", "CodeEvent", "NewsletterEvent"
TEXT, PUSH, DEVICE = "TextEvent", "PushEvent", "DeviceRegisteredEvent"
# Codes come the way of what must not wait.
EXCHANGES = {
    SMALL: "order.events",
    LARGE: "order.events",
    CODE: "user.events",
    NEWSLETTER: "marketing.events",
    TEXT: "order.events",
    PUSH: "order.events",
    DEVICE: "user.events",
}
ROUTING_KEY = "platform"
# Bytes of HTML; the text part has a quarter of it.
SIZES = {"small": 1_000, "large": 20_000}
# Some people are written to for the first time, most are known, as in a shop that has been open for a while.
PEOPLE = 5_000

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu", "ster", "lin")
_HEAD = '<!DOCTYPE html><html lang="{{ lang }}"><body style="margin:0;font-family:Arial,sans-serif;font-size:16px">'
_PARAGRAPH = '<p style="margin:0 0 16px;line-height:1.5">{}</p>\n'


def write_templates(folder: Path) -> None:
    """Write the templates: `small` and `large` mails of made-up words, which compress about as prose does; `short`."""
    for name, size in SIZES.items():
        language = folder / name / "en"
        language.mkdir(parents=True)
        (language / "subject.txt").write_text("Your order {{ orderId }} is on its way")
        (language / "body.html").write_text(_HEAD + "".join(_filled(_paragraphs(name, _PARAGRAPH), size)))
        (language / "body.txt").write_text("".join(_filled(_paragraphs(name, "{}\n\n"), size // 4)))
    short = folder / "short" / "en"
    short.mkdir(parents=True)
    for file in ("sms.txt", "push_title.txt", "push_body.txt"):
        (short / file).write_text("Your order {{ orderId }} is on its way")


def message(kind: str, number: int) -> bytes:
    """Return a message of the platform that asks for one notification of the person of this number."""
    person = number % PEOPLE
    body = {
        "messageId": str(uuid4()),
        "messageType": f"{kind}.v1",
        "timestamp": datetime.now(UTC).isoformat(),
        "sourceService": "bench",
        "correlationId": str(uuid4()),
        "payload": {
            "userId": f"user-{person}",
            "emailAddress": f"person-{person}@bench.example",
            "phoneNumber": f"+4479460{person:05}",
            "firstName": "Ada",
            "orderId": f"order-{number}",
            "fid": f"device-{person}",
            "platform": "android",
        },
    }
    return msgspec.json.encode(body)


def _paragraphs(name: str, form: str) -> Iterator[str]:
    drawn = random.Random(name)
    vocabulary = ["".join(drawn.choices(_SYLLABLES, k=drawn.randint(1, 4))) for _ in range(600)]
    yield form.format("Hello {{ name }}, your order {{ orderId }} has left our house.")
    while True:
        words = " ".join(drawn.choices(vocabulary, k=40))
        yield form.format(f"{words} {{{{ orderId }}}}.")


def _filled(paragraphs: Iterator[str], size: int) -> Iterator[str]:
    """Take paragraphs until they have the size, the last one cut to it between words."""
    for paragraph in paragraphs:
        if len(paragraph) >= size:
            if size > len(_PARAGRAPH):
                yield _PARAGRAPH.format(" ".join(["until", "soon"] * (size // 11)))
            return
        size -= len(paragraph)
        yield paragraph
