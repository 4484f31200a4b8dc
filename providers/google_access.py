"""Google's access tokens: kept ahead of need, fetched in a thread of their own, so that no send waits for one twice."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import cast

import msgspec
import structlog
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials as ServiceAccount

# What a push needs and no more (FCM: "Authorize send requests").
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
FETCH_TIMEOUT = timedelta(seconds=4)
# While the old token is still good, a fetch that failed is tried again after this.
TRY_AGAIN = timedelta(seconds=5)

_log = structlog.get_logger("providers.google_access")


class CredentialsError(Exception):
    """The text is not the JSON key of a Google service account, with its project. Holds nothing of the key."""


class AccessError(Exception):
    """There is no access token. `code` says why; `ours` = asking again will not help, an operator must."""

    def __init__(self, code: str, *, ours: bool) -> None:
        super().__init__(code)
        self.code = code
        self.ours = ours


class _Key(msgspec.Struct):
    """Of a service account's key what everybody must have; the rest is google-auth's to read."""

    type: str
    project_id: str
    client_email: str
    private_key: str
    token_uri: str


def service_account(text: str) -> tuple[ServiceAccount, str]:
    """Read the JSON key of a service account and return its credentials and its project. Raises CredentialsError."""
    try:
        key = msgspec.json.decode(text, type=_Key)
        if key.type != "service_account" or not key.project_id:
            raise CredentialsError("not the key of a service account")
        given = ServiceAccount.from_service_account_info(msgspec.json.decode(text), scopes=[SCOPE])  # type: ignore[no-untyped-call]  # google-auth types its results only
    except (msgspec.DecodeError, ValueError):
        raise CredentialsError("not the JSON key of a service account") from None
    return cast("ServiceAccount", given), key.project_id


class AccessTokens:
    """Hands out the token of some credentials. In its last minutes a new one is fetched while the old one still serves.

    Only `refresh` is called: what google-auth does around a request of its own (a look-up of regional boundaries in a
    further thread, fetches inside the request) does not happen.
    """

    def __init__(self, credentials: Credentials, *, timeout: timedelta = FETCH_TIMEOUT) -> None:
        self._credentials = credentials
        self._fetch = partial(Request(), timeout=timeout.total_seconds())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="google-access")
        self._fetching: asyncio.Task[None] | None = None
        self._not_before = 0.0

    def use_credentials(self, credentials: Credentials) -> None:
        """Fetch by these from now on; who waits for a token of the old ones still gets it."""
        self._credentials = credentials
        self._fetching = None
        self._not_before = 0.0

    async def token(self) -> str:
        """Return a token that is good now; waits only where there is none. Raises AccessError."""
        credentials = self._credentials
        state = credentials.token_state
        if state is TokenState.INVALID:
            await asyncio.shield(self._fetch_once())
        elif state is TokenState.STALE and time.monotonic() >= self._not_before:
            self._fetch_once()
        return str(credentials.token)

    def reject(self, token: str) -> None:
        """Use this token no more: the other side does not take it."""
        if self._credentials.token == token:
            self._credentials.token = None

    async def aclose(self) -> None:
        """End what is being fetched; its thread ends by its own timeout."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fetch_once(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._refresh(self._credentials))
            self._fetching.add_done_callback(self._postpone)
        return self._fetching

    async def _refresh(self, credentials: Credentials) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, credentials.refresh, self._fetch)
        except Exception as error:  # noqa: BLE001 - whatever a bad key makes of it, an attempt has an outcome
            theirs = isinstance(error, TransportError) or (isinstance(error, GoogleAuthError) and error.retryable)
            # Not its text: that repeats what the other side said.
            _log.warning("access_token_not_fetched", error=type(error).__name__, ours=not theirs)
            raise AccessError("access_token" if theirs else "credentials", ours=not theirs) from None

    def _postpone(self, fetching: asyncio.Task[None]) -> None:
        if not fetching.cancelled() and fetching.exception() is not None:
            self._not_before = time.monotonic() + TRY_AGAIN.total_seconds()
