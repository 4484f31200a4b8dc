"""Bodies that are JSON objects, read with their faults."""

from collections.abc import Collection
from typing import Any

from api.problems import TOO_LARGE, ProblemError, malformed
from templates.envelope import Fault, MessageRejectedError, read_object, shown


def object_in(body: bytes) -> tuple[dict[str, Any], list[Fault]]:
    """Return the object of a body (an empty one stands for {}) and what in it cannot be stored.

    Raises ProblemError when there is no object.
    """
    try:
        return read_object(body or b"{}")
    except MessageRejectedError as exc:
        raise (ProblemError(TOO_LARGE) if exc.reason == "too_large" else malformed(*exc.faults)) from None


def members_in(body: bytes, known: Collection[str]) -> tuple[dict[str, Any], list[Fault]]:
    """Return the object of a body as `object_in` does; a member that is not known is a fault."""
    raw, faults = object_in(body)
    message = f"is not known; known are {', '.join(sorted(known))}"
    return raw, [*faults, *(Fault(shown(name), message) for name in raw if name not in known)]
