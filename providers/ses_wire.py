"""How a mail reaches SES: one request per call, and it knows whether that request began."""

import asyncio
import ssl
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from botocore.httpsession import get_cert_path

from providers.http_line import LineConnector

# SES closes idle connections after 20 s; ours are gone well before, so that no request meets a closing one.
KEEP_ALIVE = timedelta(seconds=12)


class Reply(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """Makes requests as the SDK would, without what the SDK does around each.

    It is the `http_session_cls` of an SDK client, so the SDK settles timeouts, proxies and trust. Its loop over
    retries, events and redirects is not gone around (a 307 would send the mail again). Errors of aiohttp pass as they
    are: they tell a connection that was never made from one that broke.
    """

    _session: ClientSession

    def session(
        self,
        *,
        timeout: tuple[float, float],
        proxies: dict[str, str] | None,
        verify: bool | str | None,
        max_pool_connections: int,
        **_: Any,
    ) -> Self:
        """Take the settings that the SDK gives to its `http_session_cls`."""
        connect, read = timeout
        self._timeout = ClientTimeout(total=None, connect=connect, sock_connect=connect, sock_read=read)
        self._proxies = proxies or {}
        self._verify = True if verify is None else verify
        self._limit = max_pool_connections
        return self

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
            headers={"Accept-Encoding": "identity", "User-Agent": "notification-ledger"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        """Make one request and read the whole reply."""
        proxy = self._proxies.get(urlsplit(url).scheme)
        async with self._session.post(url, data=body, headers=headers, proxy=proxy, allow_redirects=False) as reply:
            lower = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, lower, await reply.read())


def trust(verify: bool | str) -> ssl.SSLContext | bool:  # noqa: FBT001 - the SDK's own type for it
    """Return the TLS settings for the SDK's `verify`: a path to a bundle, or True for the bundle it ships."""
    if verify is False:
        return False
    return ssl.create_default_context(cafile=get_cert_path(verify))
