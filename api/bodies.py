"""Bodies that are JSON objects, read with their faults."""

from typing import Any

from api.problems import TOO_LARGE, ProblemError, malformed
from templates.envelope import Fault, MessageRejectedError, read_object


def object_in(body: bytes) -> tuple[dict[str, Any], list[Fault]]:
    """Return the object of a body (an empty one stands for {}) and what in it cannot be stored.

    Raises ProblemError when there is no object.
    """
    try:
        return read_object(body or b"{}")
    except MessageRejectedError as exc:
        raise (ProblemError(TOO_LARGE) if exc.reason == "too_large" else malformed(*exc.faults)) from None
