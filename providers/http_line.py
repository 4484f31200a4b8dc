"""What the vendors over HTTP share: whether a request may have left, what a break means then, how long to wait."""

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp import ClientTimeout, TCPConnector
from aiohttp.client import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from ledger.values import InDoubt, Postponed

# A vendor that asks for more is asked again after this.
LONGEST_RETRY_AFTER = timedelta(days=1)


class Line:
    """Says of one call whether a connection was in its hand: from then on its bytes may have left.

    `status` and `headers` (names in lower case) are the reply's, for an SDK whose errors have lost them.
    """

    __slots__ = ("headers", "held", "status")

    def __init__(self) -> None:
        self.held = False
        self.status = 0
        self.headers: Mapping[str, str] = {}


LINE: ContextVar[Line] = ContextVar("line")


class LineConnector(TCPConnector):
    """A connector that marks the call's line when it hands out a connection."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        LINE.get().held = True
        return connection


def not_sent(error: Exception) -> Postponed:
    """Return the outcome of a call that broke before it had a connection: the vendor knows nothing of it."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Postponed("name_not_resolved")
        case aiohttp.ClientSSLError():
            return Postponed("tls_failed", ours=True)
        case TimeoutError():
            return Postponed("connect_timeout")
        case aiohttp.ClientConnectionError() | aiohttp.ClientHttpProxyError():
            return Postponed("connect_failed")
        case _:
            return Postponed(type(error).__name__, ours=True)


def broken(error: Exception) -> InDoubt:
    """Return the outcome of a call that broke without a reply when its request may have left."""
    match error:
        case TimeoutError():
            return InDoubt("timeout")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return InDoubt("connection_lost")
        case _:
            return InDoubt(type(error).__name__)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long the vendor asks us to wait (RFC 9110, 10.2.3: seconds or a date), None when it does not say.

    Header names are in lower case.
    """
    value = headers.get("retry-after", "").strip()
    try:
        wait = timedelta(seconds=int(value)) if value.isdecimal() else parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, OverflowError, TypeError):
        return LONGEST_RETRY_AFTER if value.isdecimal() else None
    return min(wait, LONGEST_RETRY_AFTER) if wait > timedelta(0) else None
