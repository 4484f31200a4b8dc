"""Correlation ids: taken from the caller or made here, in every log line and every answer."""

import re
from typing import Any
from uuid import uuid4

import structlog
from litestar.types import Message, Scope

HEADER = "X-Correlation-Id"
_HEADER = HEADER.lower().encode()
_STATE = "correlation_id"
# No @ and no space: an id goes to the logs, and nobody's address shall go with it (promise I18).
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def correlation_of(scope: Scope) -> str:
    """Return the id of a request: the caller's where it is a plain one, else a new one; from then on it is in logs."""
    state: dict[str, Any] = scope["state"]
    known: str | None = state.get(_STATE)
    if known is None:
        known = state[_STATE] = _given(scope) or uuid4().hex
        structlog.contextvars.bind_contextvars(correlation_id=known)
    return known


async def send_back(message: Message, scope: Scope) -> None:
    """Add the id to an answer's headers (a `before_send` hook, so that an error's answer has it too)."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (_HEADER, correlation_of(scope).encode())]


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER and _SANE.fullmatch(text := value.decode("latin-1")):
            return text
    return None
