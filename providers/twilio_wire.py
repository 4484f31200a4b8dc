"""How a call of Twilio's SDK reaches Twilio: one request per call, in bounded time, over a bounded pool."""

import base64
import logging
import ssl
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from twilio.http import AsyncHttpClient
from twilio.http.response import Response

from providers.http_line import LINE, LineConnector

# Well below the minute for which load balancers hold an idle connection: no request meets a closing one.
KEEP_ALIVE = timedelta(seconds=30)


class Wire(AsyncHttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's HTTP client, ours: the one that it ships ignores its timeout, and its errors have lost `Retry-After`.

    Errors of aiohttp pass as they are: they tell a connection that was never made from one that broke. `url` is where
    all requests go; whether a proxy stands before it is asked of the environment once and not for each.
    """

    def __init__(self, context: ssl.SSLContext, url: str, *, connect: timedelta, read: timedelta, limit: int) -> None:
        super().__init__(logging.getLogger(__name__), is_async=True)
        self._proxy = proxy_of(url)
        reach = connect.total_seconds()
        self._session = ClientSession(
            connector=LineConnector(limit=limit, ssl=context, keepalive_timeout=KEEP_ALIVE.total_seconds()),
            timeout=ClientTimeout(total=None, connect=reach, sock_connect=reach, sock_read=read.total_seconds()),
            cookie_jar=DummyCookieJar(),
        )

    async def request(
        self,
        method: str,
        uri: str,
        *,
        params: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        **_: Any,
    ) -> Response:
        """Make one request and read the whole reply; a redirect is a reply like any other."""
        async with self._session.request(
            method,
            uri,
            params=params,
            # aiohttp's own form costs as much as a fifth of the call.
            data=urlencode(data).encode() if data is not None else None,
            proxy=self._proxy,
            headers={**(headers or {}), "Authorization": basic(auth or ("", ""))},
            allow_redirects=False,
        ) as reply:
            line = LINE.get()
            line.status = reply.status
            line.headers = {name.lower(): value for name, value in reply.headers.items()}
            return Response(reply.status, await reply.text(errors="replace"), reply.headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL (HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


@lru_cache(maxsize=8)
def basic(auth: tuple[str, str]) -> str:
    """Return the header of HTTP's Basic authentication (RFC 7617)."""
    return f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"
