import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from ledger.keys import Identity
from providers.fakes.ses import FakeSes
from tests.acceptance.audit import all_sent_once, dead_letters
from tests.acceptance.traffic import Message, drained, message, publish, shipped
from tests.support.postgres import IDENTITY_KEY, Database
from tests.support.rabbitmq import Broker
from tests.support.service import Service, until

# Stands for everything personal: it is in every body, and must be nowhere else.
MARKER = "ada.lovelace.1815"
ADDRESS = f"{MARKER}@example.com"


async def test_i01_i18_every_bad_message_is_a_dead_letter_with_every_fault_and_without_a_word_of_the_person(
    service: Service, database: Database, broker: Broker, fake: FakeSes
):
    bad, healthy = bad_messages(), shipped(3)
    unknown = {**message("OrderShippedEvent", userEmail=ADDRESS), "messageType": "NobodyKnowsThisEvent"}
    ingest = await service.start("ingest")
    await service.start("deliver")
    await publish(broker.url, [healthy[0], *bad, healthy[1], unknown, healthy[2]])
    await until(lambda: len(dead_letters(database.url)) == len(bad), "all dead letters")
    await all_sent_once(database.url, fake, healthy)
    letters = {bytes(letter["key"]): letter for letter in dead_letters(database.url)}
    found = {name: told(letters[key_of(body)]) for body, name in bad.items()}
    # How deep is too deep for the JSON reader itself depends on the interpreter; the fault is the same.
    _, (depth,) = found.pop("depth 10,000")
    assert depth.endswith("is nested deeper than 32 levels")
    assert found == EXPECTED
    assert ingest.metric("notification_ingestion_messages_total", type="unknown", result="unknown") == 1
    assert ingest.lives()
    await service.stop_all()
    assert await drained(broker)
    assert "NobodyKnowsThisEvent" in service.logs()
    assert MARKER not in service.logs()
    assert MARKER not in str(list(letters.values()))
    assert not any(MARKER.encode() in bytes(letter["body"]) for letter in letters.values())


def bad_messages() -> dict[bytes, str]:
    """Every kind of bad message, by its body: its name in `EXPECTED`."""
    good = message("OrderShippedEvent", userEmail=ADDRESS, firstName=MARKER)
    now = datetime.now(UTC)
    deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    without_offset = now.replace(tzinfo=None).isoformat()
    by_name: dict[str, bytes] = {
        "empty": b"",
        "not JSON": f"Dear {ADDRESS}".encode(),
        "not an object": json.dumps([ADDRESS]).encode(),
        "no messageId": body({name: value for name, value in good.items() if name != "messageId"}),
        "nothing": body({ADDRESS: MARKER}),
        "wrong types": body(
            {"messageId": 7, "messageType": [ADDRESS], "timestamp": {}, "source": 1, "payload": ADDRESS}
        ),
        "payload without data": body({**good, "payload": {"userEmail": ADDRESS}}),
        "payload of wrong types": body(changed(good, userEmail=[ADDRESS], itemsShipped=MARKER, trackingLink=ADDRESS)),
        "too old": body({**good, "timestamp": (now - timedelta(days=91)).isoformat()}),
        "too far ahead": body({**good, "timestamp": (now + timedelta(hours=2)).isoformat()}),
        "without offset": body({**good, "timestamp": without_offset}),
        "1 MB": body(good).ljust(2**20),
        "depth 10,000": body(good).replace(b'"en-GB"', deep),
        "NUL": body(changed(good, firstName=f"{MARKER}\0")),
        "lone surrogate": json.dumps(changed(good, firstName=f"{MARKER}\ud800")).encode(),
        "invalid UTF-8": body(good).replace(MARKER.encode(), MARKER.encode() + b"\xff"),
    }
    return {raw: name for name, raw in by_name.items()}


NOT_JSON = ("not_json", ["is not JSON (RFC 8259), or a string in it holds half a surrogate pair"])
EXPECTED = {
    "empty": NOT_JSON,
    "not JSON": NOT_JSON,
    "not an object": ("not_json", ["must be a JSON object"]),
    "no messageId": ("envelope", ["messageId is required"]),
    "nothing": (
        "envelope",
        [
            "messageType is required",
            "payload is required",
            "messageId is required",
            "timestamp is required",
            "sourceService is required",
        ],
    ),
    "wrong types": (
        "envelope",
        [
            "messageType must be a name like OrderShippedEvent or OrderShippedEvent.v1",
            "payload must be an object",
            "messageId must be a string of 1 to 200 printable characters",
            "timestamp must be an ISO 8601 time with an offset",
            "source must be a string of 1 to 200 printable characters",
        ],
    ),
    "payload without data": (
        "payload",
        [
            "payload.userId is required",
            "payload.orderId is required",
            "payload.shippingCarrier is required",
            "payload.trackingLink is required",
            "payload.itemsShipped is required",
        ],
    ),
    "payload of wrong types": (
        "payload",
        [
            "payload.trackingLink must be an http or https URL",
            "payload.itemsShipped must be a list",
            "payload.userEmail must be an e-mail address: one @, a domain, at most 254 characters",
        ],
    ),
    "too old": ("envelope", ["timestamp must be within the last 90 days"]),
    "too far ahead": ("envelope", ["timestamp must be at most 1 hour ahead"]),
    "without offset": ("envelope", ["timestamp must be an ISO 8601 time with an offset"]),
    "1 MB": ("too_large", [f"is {2**20} bytes long; at most 524288 are taken"]),
    "NUL": (
        "envelope",
        [
            "payload.firstName holds a NUL character",
            "payload.firstName must be a string of at most 200 characters on one line",
        ],
    ),
    "lone surrogate": NOT_JSON,
    "invalid UTF-8": ("not_json", ["is not UTF-8"]),
}


def told(letter: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What a dead letter says: its reason, and each fault as `path message`."""
    return letter["reason"], [f"{fault['path']} {fault['message']}".strip() for fault in letter["faults"]]


def key_of(raw: bytes) -> bytes:
    return Identity(IDENTITY_KEY).intake_key("dead-letter", sha256(raw).hexdigest())


def body(value: object) -> bytes:
    return msgspec.json.encode(value)


def changed(good: Message, **payload: Any) -> Message:
    return {**good, "payload": {**good["payload"], **payload}}
