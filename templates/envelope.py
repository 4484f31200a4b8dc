"""The platform's message envelope: read strictly, with every fault named at once and no value ever repeated."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

MAX_BODY = 512 * 1024
MAX_DEPTH = 32
MAX_IDENTIFIER = 200
MAX_FAULTS = 50
MAX_TIME = 40
OLDEST = timedelta(days=90)
AHEAD = timedelta(hours=1)
LARGEST_WHOLE = 2**53  # up to here a float holds every whole number (RFC 8259, section 6)

_MESSAGE_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,99}?)(?:\.v([1-9][0-9]{0,3}))?")
# Python 3.11 passes over any one character between date and time, and between time and offset: a NUL, too.
TIME_PATTERN = r"[0-9W-]+[Tt ][0-9:.,]+(?:Z|[+-][0-9:.]+)"
_TIME = re.compile(TIME_PATTERN)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (`payload.items[2].price`, empty = the whole) and what was expected.

    Neither holds a value of the message: both go to logs and answers (promise I18).
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} {self.message}" if self.path else f"the body {self.message}"


class MessageRejectedError(Exception):
    """The message cannot become notifications as it stands. It is kept as a dead letter: mend the faults, replay.

    `reason` is one of `too_large`, `not_json`, `envelope`, `payload`, `request`, `unstorable`, `key_unavailable`.
    `source`, `message_type` and `message_id` are what could be read, also of a broken envelope.
    """

    def __init__(
        self,
        reason: str,
        faults: Sequence[Fault],
        *,
        source: str | None = None,
        message_type: str | None = None,
        message_id: str | None = None,
    ) -> None:
        kept = list(faults[:MAX_FAULTS])
        if len(faults) > MAX_FAULTS:
            kept.append(Fault("", f"has {len(faults) - MAX_FAULTS} more faults"))
        super().__init__(f"{reason}: {'; '.join(map(str, kept))}")
        self.reason = reason
        self.faults = kept
        self.source = source
        self.message_type = message_type
        self.message_id = message_id


class UnknownMessageError(Exception):
    """The catalogue does not know this type: acked and counted over AMQP, 422 over HTTP."""

    def __init__(self, message_type: str) -> None:
        super().__init__(f"the catalogue does not know {message_type}")
        self.message_type = message_type


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the platform. `message_type` is without its `.v1`, which is `version`; times are UTC.

    `body_hash` is the 32-byte SHA-256 of type, version and canonical payload: the rest of the envelope may change
    when a message is published again.
    """

    message_id: str
    message_type: str
    version: int
    timestamp: datetime
    source: str
    correlation_id: str | None
    partition_key: str | None
    envelope_version: str | None
    payload: dict[str, Any]
    body_hash: bytes


def examine(body: bytes, *, now: datetime) -> tuple[Envelope, list[Fault]]:
    """Read a message body (JSON, RFC 8259) as far as it goes; what is at fault stands empty in the envelope.

    `now` is the database's time. Raises MessageRejectedError only when there is no JSON object to speak of.
    """
    raw, faults = read_object(body)
    message_type, version = _message_type(raw, faults)
    payload = raw.get("payload")
    if not isinstance(payload, dict):
        faults.append(Fault("payload", "is required" if payload is None else "must be an object"))
        payload = {}
    read = Envelope(
        message_id=identifier(raw, "messageId", faults) or "",
        message_type=message_type,
        version=version,
        timestamp=_timestamp(raw, faults, now=now),
        source=identifier(raw, _source_field(raw), faults) or "",
        correlation_id=identifier(raw, "correlationId", faults, required=False),
        partition_key=identifier(raw, "partitionKey", faults, required=False),
        envelope_version=_envelope_version(raw),
        payload=payload,
        body_hash=b"",
    )
    if faults:
        # What is at fault is never compared, and what is too deep could not be encoded.
        return read, faults
    return msgspec.structs.replace(read, body_hash=hash_of(f"{message_type}.v{version}", payload)), faults


def rejection(envelope: Envelope, reason: str, faults: Sequence[Fault]) -> MessageRejectedError:
    """Return the error for an envelope, with what could be read of it."""
    return MessageRejectedError(
        reason,
        faults,
        source=envelope.source or None,
        message_type=envelope.message_type or None,
        message_id=envelope.message_id or None,
    )


def hash_of(kind: str, value: Mapping[str, Any]) -> bytes:
    """Return the 32-byte SHA-256 of a kind and a JSON object with sorted keys."""
    return hashlib.sha256(kind.encode() + b"\0" + msgspec.json.encode(value, order="sorted")).digest()


def read_object(body: bytes) -> tuple[dict[str, Any], list[Fault]]:
    """Return a JSON object and, as faults, what in it the database cannot hold (NUL, too deep nesting).

    A whole number written as 27.0 is read as 27: they are one number (RFC 8785 writes both alike), and a publisher's
    other serialiser must not look like other content. Raises MessageRejectedError when there is no object.
    """
    if len(body) > MAX_BODY:
        raise MessageRejectedError("too_large", [Fault("", f"is {len(body)} bytes long; at most {MAX_BODY} are taken")])
    value, trouble = _decode(body)
    if trouble is None and not isinstance(value, dict):
        trouble = "must be a JSON object"
    if trouble is not None:
        raise MessageRejectedError("not_json", [Fault("", trouble)])
    return value, _unstorable(body, value)


def identifier(raw: Mapping[str, Any], name: str, faults: list[Fault], *, required: bool = True) -> str | None:
    """Return a short printable string of an object; None, and a fault where it is due, when it is not one."""
    value = raw.get(name)
    if value is None:
        if required:
            faults.append(Fault(name, "is required"))
        return None
    if is_identifier(value):
        return str(value)
    faults.append(Fault(name, f"must be a string of 1 to {MAX_IDENTIFIER} printable characters"))
    return None


def is_identifier(value: object) -> bool:
    """Tell whether a value can be shown, stored and indexed as an id."""
    return isinstance(value, str) and 0 < len(value) <= MAX_IDENTIFIER and value.isprintable() and not value.isspace()


def read_time(value: object) -> datetime | None:
    """Return an ISO 8601 time with an offset as UTC; None for everything else."""
    if not isinstance(value, str) or len(value) > MAX_TIME or not _TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float:
    value = float(text)
    if value.is_integer() and abs(value) <= LARGEST_WHOLE:
        return int(value)
    if abs(value) == float("inf"):
        raise ValueError("out of range")
    return value


_DECODER = msgspec.json.Decoder(float_hook=_number)


def _decode(body: bytes) -> tuple[Any, str | None]:
    """Return the value, or None and what is wrong; the decoder's errors carry the bytes, so they stop here."""
    try:
        return _DECODER.decode(body), None
    except UnicodeDecodeError:
        return None, "is not UTF-8"
    except RecursionError:
        return None, f"is nested deeper than {MAX_DEPTH} levels"
    except msgspec.ValidationError:
        return None, "holds a number out of range"
    except msgspec.DecodeError:
        return None, "is not JSON (RFC 8259), or a string in it holds half a surrogate pair"


def _unstorable(body: bytes, value: dict[str, Any]) -> list[Fault]:
    # A raw NUL is no JSON, so only the escape can bring one: most bodies are cleared without a walk.
    if b"\\u0000" not in body and not _is_deep(body, value):
        return []
    faults: list[Fault] = []
    _walk(value, "", 1, faults)
    return faults


def _is_deep(body: bytes, value: object) -> bool:
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
    return bool(level)


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node


def _walk(value: object, path: str, depth: int, faults: list[Fault]) -> None:
    if isinstance(value, str):
        if "\0" in value:
            faults.append(Fault(path, "holds a NUL character"))
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            faults.append(Fault(path, f"is nested deeper than {MAX_DEPTH} levels"))
            return
        for step, child in _steps(value, path, faults):
            _walk(child, step, depth + 1, faults)


def _steps(value: dict[str, Any] | list[Any], path: str, faults: list[Fault]) -> list[tuple[str, Any]]:
    if isinstance(value, list):
        return [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    faults.extend(Fault(path, "has a key that holds a NUL character") for key in value if "\0" in key)
    return [(f"{path}.{shown(key)}".removeprefix("."), child) for key, child in value.items()]


def shown(key: str) -> str:
    """Return a key for a fault's path: a foreign one may be anything, an address too, so only plain names are shown."""
    return key if _PLAIN_KEY.fullmatch(key) else "?"


def _message_type(raw: Mapping[str, Any], faults: list[Fault]) -> tuple[str, int]:
    value = raw.get("messageType")
    match = _MESSAGE_TYPE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        expected = "is required" if value is None else "must be a name like OrderShippedEvent or OrderShippedEvent.v1"
        faults.append(Fault("messageType", expected))
        return "", 1
    return match[1], int(match[2] or 1)


def _source_field(raw: Mapping[str, Any]) -> str:
    return "source" if raw.get("sourceService") is None and raw.get("source") is not None else "sourceService"


def _timestamp(raw: Mapping[str, Any], faults: list[Fault], *, now: datetime) -> datetime:
    value = raw.get("timestamp")
    moment = read_time(value)
    if moment is None:
        expected = "is required" if value is None else "must be an ISO 8601 time with an offset"
        faults.append(Fault("timestamp", expected))
        return now
    if moment < now - OLDEST:
        faults.append(Fault("timestamp", "must be within the last 90 days"))
    elif moment > now + AHEAD:
        faults.append(Fault("timestamp", "must be at most 1 hour ahead"))
    return moment


def _envelope_version(raw: Mapping[str, Any]) -> str | None:
    # Recorded and ignored: whatever is wrong with it is no reason to lose a message.
    value = raw.get("envelopeVersion")
    return value if isinstance(value, str) and is_identifier(value) else None
