"""The issuer's keys by its JWKS (RFC 7517): refreshed in the background, kept while the issuer does not answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from api.tokens import Key, KeysUnavailableError, by_id, choose

# Gets the JWKS document; whatever it raises means that it cannot be had just now.
Fetch = Callable[[], Awaitable[bytes]]

REFRESH = timedelta(minutes=5)
# An unknown key id asks the issuer at most this often, whatever callers send.
PAUSE = timedelta(seconds=10)
DEADLINE = timedelta(seconds=5)
LARGEST = 256 * 1024

_log = structlog.get_logger("api.jwks")


class JwksKeys:
    """The keys as last fetched (api.tokens.KeySource)."""

    def __init__(self, fetch: Fetch, *, refresh: timedelta = REFRESH, pause: timedelta = PAUSE) -> None:
        self._fetch = fetch
        self._refresh = refresh.total_seconds()
        self._pause = pause.total_seconds()
        self._keys: dict[str | None, Key] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fetch the keys now, and again and again."""
        self._refreshing = asyncio.create_task(self._refresh_for_ever(), name="jwks-refresh")

    async def stop(self) -> None:
        """End the refreshing."""
        tasks = [task for task in (self._refreshing, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def find(self, kid: str | None) -> Key | None:
        """Return the key of an id; an unknown one may be new, so the issuer is asked, but not for every token."""
        key = choose(self._keys, kid)
        if key is None and time.monotonic() >= self._asked_at + self._pause:
            await self._ask()
            key = choose(self._keys, kid)
        elif key is None and self._asking is not None:
            await asyncio.shield(self._asking)
            key = choose(self._keys, kid)
        if not self._keys:
            raise KeysUnavailableError("the issuer's keys have not been had yet")
        return key

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(self._refresh if self._keys else self._pause)

    async def _ask(self) -> None:
        """Fetch once, for all who want it at this moment; a failure leaves the keys as they are."""
        if self._asking is None:
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._replace(), name="jwks-fetch")
            self._asking.add_done_callback(self._asked)
        # Waited for, not awaited: a cancelled fetch (we are stopping) must not look like our own cancellation.
        await asyncio.wait({self._asking})

    def _asked(self, _task: asyncio.Task[None]) -> None:
        self._asking = None

    async def _replace(self) -> None:
        try:
            keys = by_id(read(await self._fetch()))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the keys that we have still hold
            _log.warning("jwks_unavailable", error=type(exc).__name__, known=len(self._keys))
            return
        if keys:
            self._keys = keys
        else:
            _log.warning("jwks_without_usable_keys", known=len(self._keys))


def read(document: bytes) -> KeySet:
    """Return the keys of a JWKS document; one that cannot be read is left out, the others hold (RFC 7517, 5)."""
    keys: list[Any] = []
    for each in msgspec.json.decode(document, type=_Document).keys:
        try:
            keys.append(JWKRegistry.import_key(each))
        except (JoseError, ValueError, TypeError, KeyError):
            _log.warning("jwks_key_left_out")
    return KeySet(keys)


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def fetch_from(url: str, session: aiohttp.ClientSession) -> Fetch:
    """Return what gets the document from an https:, http: or file: URL."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return lambda: asyncio.to_thread(path.read_bytes)
    return lambda: _fetch(url, session)


async def _fetch(url: str, session: aiohttp.ClientSession) -> bytes:
    """Get a small document: no redirects, one deadline, a bounded body."""
    async with asyncio.timeout(DEADLINE.total_seconds()), session.get(url, allow_redirects=False) as reply:
        if reply.status != HTTPStatus.OK:
            raise ValueError(f"answered {reply.status}")
        body = b""
        async for chunk in reply.content.iter_chunked(LARGEST):
            body += chunk
            if len(body) > LARGEST:
                raise ValueError("larger than a key set is")
        return body
