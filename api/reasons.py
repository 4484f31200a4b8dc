"""Why somebody decides: the body {"reason": "…"} of every command."""

from typing import Any

from api.bodies import object_in
from api.problems import malformed
from templates.envelope import Fault, is_identifier


def reason_in(body: bytes, *, required: bool) -> str:
    """Return why somebody decides; the body is {"reason": "…"}, and may be absent where no reason is required."""
    if not body and not required:
        return ""
    raw, faults = object_in(body)
    faults += [Fault("", "holds more than a reason")] if set(raw) - {"reason"} else []
    reason: Any = raw.get("reason")
    if not is_identifier(reason) if reason is not None else required:
        faults.append(Fault("reason", "is required" if reason is None else "must be 1 to 200 printable characters"))
    if faults:
        raise malformed(*faults)
    return reason or ""
