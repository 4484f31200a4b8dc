"""The HTTP session that the AWS SDK is given for SES: one request per call, and it knows whether that request began."""

import asyncio
import ssl
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from botocore.httpsession import get_cert_path

# SES closes idle connections after 20 s; ours are gone well before, so that no request meets a closing one.
KEEP_ALIVE = timedelta(seconds=12)


class Line:
    """Says of one call whether a connection was in its hand: from then on its bytes may have left."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = False


LINE: ContextVar[Line] = ContextVar("line")


class LineConnector(TCPConnector):
    """A connector that marks the call's line when it hands out a connection."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        LINE.get().held = True
        return connection


class Wire:
    """An HTTP session in the shape that the SDK asks of its `http_session_cls`.

    The SDK's own follows redirects (a 307 would send the mail again), and its errors do not tell a connection that
    was never made from one that broke. Errors of aiohttp pass as they are.
    """

    def __init__(
        self,
        *,
        timeout: tuple[float, float],
        proxies: dict[str, str] | None,
        verify: bool | str | None,
        max_pool_connections: int,
        **_: Any,
    ) -> None:
        connect, read = timeout
        self._timeout = ClientTimeout(total=None, connect=connect, sock_connect=connect, sock_read=read)
        self._proxies = proxies or {}
        self._verify = True if verify is None else verify
        self._limit = max_pool_connections
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = await asyncio.to_thread(trust, self._verify)
        connector = LineConnector(limit=self._limit, ssl=context, keepalive_timeout=KEEP_ALIVE.total_seconds())
        self._session = ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Content-Type"),
            # Nothing here unpacks a reply.
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Any) -> AioAWSResponse:
        """Make the SDK's prepared request and return its response with the body read."""
        if self._session is None:
            raise RuntimeError("the session is not open")
        async with self._session.request(
            request.method,
            request.url,
            data=request.body,
            headers={
                name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
            },
            proxy=self._proxies.get(urlsplit(request.url).scheme),
            allow_redirects=False,
        ) as reply:
            # The SDK looks headers up in lower case.
            headers = {name.lower(): value for name, value in reply.headers.items()}
            response = AioAWSResponse(request.url, reply.status, headers, reply)
            await response.content
            return response


def trust(verify: bool | str) -> ssl.SSLContext | bool:  # noqa: FBT001 - the SDK's own type for it
    """Return the TLS settings for the SDK's `verify`: a path to a bundle, or True for the bundle it ships."""
    if verify is False:
        return False
    return ssl.create_default_context(cafile=get_cert_path(verify))
