"""Why somebody decides: the `reason` in the body of every command."""

from collections.abc import Collection
from typing import Any

from api.bodies import object_in
from api.problems import malformed
from templates.envelope import Fault, is_identifier


def reason_in(body: bytes, *, required: bool) -> str:
    """Return why somebody decides; the body is {"reason": "…"}, and may be absent where no reason is required."""
    if not body and not required:
        return ""
    _, reason, faults = reason_among(body, beside=(), required=required)
    if faults:
        raise malformed(*faults)
    return reason


def reason_among(
    body: bytes, *, beside: Collection[str], required: bool = True
) -> tuple[dict[str, Any], str, list[Fault]]:
    """Return a body, the reason in it, and its faults: it holds the reason and no more than may stand beside it.

    What stands beside it is still to be looked at.
    """
    raw, faults = object_in(body)
    if set(raw) - {"reason", *beside}:
        faults.append(Fault("", f"holds more than {' and '.join(['a reason', *beside])}"))
    reason: Any = raw.get("reason")
    faults += fault_of_reason(reason, required=required)
    return raw, reason or "", faults


def fault_of_reason(reason: object, *, required: bool = True) -> list[Fault]:
    """Return what is wrong with a reason, None = none was given."""
    if reason is None:
        return [Fault("reason", "is required")] if required else []
    return [] if is_identifier(reason) else [Fault("reason", "must be 1 to 200 printable characters")]
