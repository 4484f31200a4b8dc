"""How a mail reaches a relay: a pool of connections, and of each mail it is known whether its final dot had left."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPResponse, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from providers.smtp_url import Relay, Security

# A relay closes what is idle after minutes; ours are gone well before, so that no mail meets a closing one.
KEEP_ALIVE = timedelta(seconds=12)
# Relays end a session after a number of mails of their own choice, most often with a 421 that costs an attempt.
MAILS_PER_CONNECTION = 100
# One try each: the library would try all that the relay offers, and three wrong passwords may lock an account.
LOGINS = {"plain": SMTP.auth_plain, "login": SMTP.auth_login, "cram-md5": SMTP.auth_crammd5}


class ExtensionMissingError(SMTPException):
    """The relay does not offer what SMTP_URL asks for: STARTTLS, or a way to log in."""


class AllBusyError(Exception):
    """All our connections to the relay stayed in use."""


class Line(SMTPProtocol):
    """The protocol of one connection: it sends a mail's lines and its final dot apart."""

    async def send_lines(self, lines: bytes) -> None:
        """Send a mail without its final dot; returns when no byte of it waits in this process.

        Below TLS some may still wait, behind which the dot will queue: then it may seem to have left and has not,
        never the other way round. Raises ConnectionError.
        """
        cast(asyncio.WriteTransport, self.transport).set_write_buffer_limits(high=1)
        self.write(lines)
        await self._drain_helper()

    def send_dot(self) -> None:
        """Send the final dot; when this raises ConnectionError, it has not left."""
        # Whatever the relay said before the end of the mail is not the answer to it.
        self._buffer.clear()
        self._response_pending = True
        self.write(b".\r\n")


class Connection:
    """A connection over which mails can be sent, one at a time: TLS is up and we are logged in."""

    def __init__(self, client: SMTP, line: Line) -> None:
        self.client = client
        self.line = line
        self.mails = 0
        self.expiry: asyncio.TimerHandle | None = None

    async def command(self, words: bytes) -> SMTPResponse:
        """Send one command and return the reply; raises SMTPException or ConnectionError."""
        return await self.client.execute_command(words)

    def offers(self, extension: str) -> bool:
        """Whether the relay offers an extension (by its EHLO keyword)."""
        return self.client.supports_extension(extension)

    def leave(self) -> None:
        """Say goodbye and close, without waiting for an answer."""
        with suppress(SMTPServerDisconnected):
            self.line.write(b"QUIT\r\n")
        self.client.close()

    def abort(self) -> None:
        """Drop the connection with all that still waits to be written, unless it was left already."""
        if self.client.transport is not None:
            cast(asyncio.WriteTransport, self.client.transport).abort()


class Connections:
    """At most `limit` connections to one relay. A connection that took its mail is kept for the next one.

    `queueing` is how long a caller waits for its turn while all are in use, which says nothing of the relay;
    `patience` is how long it then waits for a new connection, in all: for the network, TLS and the relay's greeting.
    Both leave the caller the rest of its deadline for the mail itself.
    """

    def __init__(
        self,
        relay: Relay,
        context: ssl.SSLContext | None,
        *,
        limit: int,
        queueing: timedelta,
        patience: timedelta,
        keep_alive: timedelta = KEEP_ALIVE,
    ) -> None:
        self._relay = relay
        self._queueing = queueing.total_seconds()
        self._patience = patience.total_seconds()
        self._keep_alive = keep_alive.total_seconds()
        self._places = asyncio.Semaphore(limit)
        self._context = context
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """Lend a connection; unless it is kept or left meanwhile, it is dropped at the end.

        Raises AllBusyError, TimeoutError, OSError or SMTPException when none can be had.
        """
        async with self._turn():
            async with asyncio.timeout(self._patience):
                connection = self._kept() or await connect(self._relay, self._context)
            try:
                yield connection
            finally:
                if connection not in self._idle:
                    connection.abort()

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose mail was taken for the next one, unless it has carried enough."""
        connection.mails += 1
        if connection.mails >= MAILS_PER_CONNECTION:
            connection.leave()
            return
        connection.expiry = asyncio.get_running_loop().call_later(self._keep_alive, self._expire, connection)
        self._idle.append(connection)

    def use_relay(self, relay: Relay, context: ssl.SSLContext | None) -> None:
        """Open all further connections to this relay; mails that are under way end where they are."""
        self._relay, self._context = relay, context
        self.close()

    def close(self) -> None:
        """Close all that are idle."""
        while connection := self._kept():
            connection.leave()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._queueing):
                await self._places.acquire()
        except TimeoutError:
            raise AllBusyError from None
        try:
            yield
        finally:
            self._places.release()

    def _kept(self) -> Connection | None:
        """Take the connection that was used last, so that what a burst has opened runs out."""
        while self._idle:
            connection = self._idle.pop()
            if connection.expiry is not None:
                connection.expiry.cancel()
            if connection.client.is_connected:
                return connection
        return None

    def _expire(self, connection: Connection) -> None:
        self._idle.remove(connection)
        connection.leave()


async def connect(relay: Relay, context: ssl.SSLContext | None) -> Connection:
    """Open a connection, make it a TLS one, and log in; raises OSError or SMTPException."""
    tls = context if relay.security is Security.TLS else None
    transport, line = await asyncio.get_running_loop().create_connection(Line, relay.host, relay.port, ssl=tls)
    client = SMTP(hostname=relay.host, local_hostname=own_name(), timeout=None, tls_context=context)
    client.transport, client.protocol = transport, line
    connection = Connection(client, line)
    try:
        await greeted(line)
        await client.ehlo()
        if relay.security is Security.STARTTLS:
            await start_tls(client)
        if relay.user:
            await log_in(client, relay)
    except BaseException:
        connection.abort()
        raise
    return connection


async def greeted(line: Line) -> None:
    """Wait for the relay's greeting; raises SMTPException for any but 220."""
    greeting = await line.read_response()
    if greeting.code != 220:
        raise SMTPResponseException(greeting.code, greeting.message)


async def start_tls(client: SMTP) -> None:
    """Make the connection a TLS one; raises SMTPException, also where the relay does not offer it."""
    if not client.supports_extension("starttls"):
        raise ExtensionMissingError("STARTTLS")
    await client.starttls()
    await client.ehlo()


async def log_in(client: SMTP, relay: Relay) -> None:
    """Log in by the first way that both sides know; raises SMTPException."""
    login = next((login for name, login in LOGINS.items() if name in client.server_auth_methods), None)
    if login is None:
        raise ExtensionMissingError("AUTH")
    await login(client, relay.user, relay.password)


def own_name() -> str:
    """Return what EHLO says of us: our name where it is a full one, else an address literal (RFC 5321, 4.1.4)."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
