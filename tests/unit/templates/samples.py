"""The platform's sample messages, restamped so that they are news at `NOW`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)
STAMP = "2031-05-04T11:59:00.125Z"

_SAMPLES = json.loads((Path(__file__).parent / "platform_messages.json").read_text())
MEANINGS: dict[str, str] = _SAMPLES["notifications"]


def sample(message_type: str, **changes: Any) -> dict[str, Any]:
    """Return a fresh copy of a sample envelope; `changes` replace members of its payload, None removes them."""
    found = next(message for message in _SAMPLES["messages"] if message["messageType"] == message_type)
    copy: dict[str, Any] = json.loads(json.dumps({**found, "timestamp": STAMP}))
    copy["payload"].update(changes)
    copy["payload"] = {name: value for name, value in copy["payload"].items() if value is not None}
    return copy


def body(message: object) -> bytes:
    return json.dumps(message).encode()
