"""How a call of the AWS SDK reaches SES: one request per call, and it knows whether that request began."""

import asyncio
import ssl
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
from botocore.awsrequest import AWSRequest, create_request_object
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser

from providers.http_line import LineConnector

# SES closes idle connections after 20 s; ours are gone well before, so that no request meets a closing one.
KEEP_ALIVE = timedelta(seconds=12)
# The protocol of SES v2.
_PARSER = create_parser("rest-json")


class Reply(NamedTuple):
    """What came back; header names in lower case, as the SDK looks them up."""

    status_code: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """Makes the requests of an SDK client, in place of the SDK's own sending loop.

    It is the client's `http_session_cls`, so the SDK settles timeouts, proxies and trust; and it answers the client's
    `before-call` event (as botocore's Stubber does), so that of the SDK's loop over retries, events and redirects
    nothing is left to go around (a 307 would send the mail again; measured: a third of the CPU of a call). The SDK
    still builds, signs and reads. Errors of aiohttp pass as they are: they tell a connection that was never made from
    one that broke.
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
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, *, model: Any, params: dict[str, Any], request_signer: Any, **_: Any) -> tuple[Reply, Any]:
        """Sign and make the request of a `before-call` event; returns what the SDK takes as its outcome."""
        request = create_request_object(params)
        signature = await request_signer.get_auth_instance(
            request_signer.signing_name, request_signer.region_name, request_signer.signature_version
        )
        signature.add_auth(request)
        reply = await self.send(request)
        response = {"status_code": reply.status_code, "headers": reply.headers, "body": reply.body, "context": {}}
        return reply, _PARSER.parse(response, model.output_shape)

    async def send(self, request: AWSRequest) -> Reply:
        """Make one request and read the whole reply."""
        async with self._session.request(
            request.method,
            request.url,
            data=request.data,
            headers={
                name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
            },
            proxy=self._proxies.get(urlsplit(request.url).scheme),
            allow_redirects=False,
        ) as reply:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return Reply(reply.status, headers, await reply.read())


def trust(verify: bool | str) -> ssl.SSLContext | bool:  # noqa: FBT001 - the SDK's own type for it
    """Return the TLS settings for the SDK's `verify`: a path to a bundle, or True for the bundle it ships."""
    if verify is False:
        return False
    return ssl.create_default_context(cafile=get_cert_path(verify))
