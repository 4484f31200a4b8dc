"""A server that behaves like an SMTP relay: takes mails, keeps every one whole, plays the magic recipients."""

import argparse
import asyncio
import base64
import binascii
import email
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from typing import Self

import msgspec
import uvloop

from providers.fakes.request_log import RequestLog
from providers.fakes.serving import until_asked_to_end
from providers.fakes.ses import SANDBOX
from providers.fakes.ses_log import Body, Destination, Header, Message, Request, SendEmail, Simple, Text

NAME = "relay.sandbox.example"
LARGEST_MAIL = 40 * 1024 * 1024
EXTENSIONS = (f"SIZE {LARGEST_MAIL}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "PIPELINING")


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How a mail is answered: at its recipient, and after `delay` at its final dot. No `dot`: taken, never answered."""

    rcpt: str = "250 2.1.5 Ok"
    dot: str = "250 2.0.0 Ok: queued"
    delay: timedelta = timedelta(0)


class Magic(msgspec.Struct, frozen=True):
    """What befalls mails to a magic recipient, and how often it holds (None = always)."""

    answer: Behaviour
    times: int | None = None


OK = Behaviour()
PLAIN = Magic(OK)
# A relay reports nothing: what bounces at SES is refused here at once. A complaint never comes.
MAGIC = {
    "bounce": Magic(Behaviour(rcpt="550 5.1.1 Recipient address rejected: User unknown in virtual mailbox table")),
    "soft-bounce": Magic(Behaviour(rcpt="552 5.2.2 Mailbox is full")),
    "suppressed": Magic(Behaviour(rcpt="550 5.7.1 Recipient is on the suppression list")),
    "slow": Magic(Behaviour(delay=timedelta(seconds=3))),
    "timeout": Magic(Behaviour(dot="")),
    "throttled": Magic(Behaviour(rcpt="451 4.7.1 Try again later"), times=2),
    "refused": Magic(Behaviour(dot="554 5.7.1 Message content rejected")),
}


class FakeSmtp:
    """The server. `requests` has every mail in order, the refused ones too; `behaviour` overrules the magic recipients.

    `log` may be another fake's, so that one inbox shows both. With `tls` it offers STARTTLS; with a `login` (user,
    password) it takes mail only from who has logged in, below TLS.
    """

    def __init__(
        self,
        log: RequestLog[Request],
        *,
        tls: ssl.SSLContext | None,
        login: tuple[str, str] | None,
        behaviour: Behaviour | None,
    ) -> None:
        self.behaviour = behaviour
        self.tls = tls
        self.login = login
        self.port = 0
        self.url = ""
        self.sessions = 0
        self._log = log
        self._seen: Counter[str] = Counter()
        self._server: asyncio.Server
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @classmethod
    async def start(
        cls,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        log: RequestLog[Request] | None = None,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        behaviour: Behaviour | None = None,
    ) -> Self:
        fake = cls(log or RequestLog(Request), tls=tls, login=login, behaviour=behaviour)
        fake._server = await asyncio.start_server(fake._serve, host, port)
        fake.port = fake._server.sockets[0].getsockname()[1]
        fake.url = f"smtp://{host}:{fake.port}" + ("" if tls else "?starttls=off")
        return fake

    @property
    def requests(self) -> list[Request]:
        return self._log.requests

    async def stop(self) -> None:
        self._server.close()
        for task, writer in self._tasks.items():
            writer.transport.abort()
            # One that is in the middle of its TLS handshake would wait on.
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.create_task(self._talk(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            writer.transport.abort()
        finally:
            writer.close()

    def answer(self, to: str) -> Behaviour:
        """Return how a mail to this address is answered."""
        if self.behaviour is not None:
            return self.behaviour
        magic = magic_of(to)
        if magic.times is None:
            return magic.answer
        self._seen[to] += 1
        return magic.answer if self._seen[to] <= magic.times else OK

    def record(self, to: str, reply: str, mail: bytes, *, connection: str) -> None:
        """Keep one mail, or the refusal of one whose content never came."""
        number = len(self.requests) + 1
        parsed = email.message_from_bytes(mail, policy=default)
        tags = {"notification": parsed["X-Notification-Id"], "attempt": parsed["X-Attempt-Id"]}
        request = Request(
            number=number,
            at=datetime.now(UTC),
            connection=connection,
            to=to,
            tags={name: str(value) for name, value in tags.items() if value},
            status=int(reply[:3] or 0),
            code=reply[4:].partition(" ")[0],
            message_id=str(parsed["Message-ID"] or ""),
            headers={name: str(value) for name, value in parsed.items()},
            body=body_of(parsed, to) if mail else None,
            provider="smtp",
            mail=mail,
        )
        self._log.add(request)


class Session:
    """One connection: its commands in turn, and the mail that is being made of them."""

    def __init__(self, server: FakeSmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._connection = ":".join(map(str, writer.get_extra_info("peername")[:2]))
        self._secure = False
        self._trusted = server.login is None
        self._from: str | None = None
        self._to: str | None = None
        self._answer = OK
        self._commands: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
        }

    async def run(self) -> None:
        await self._say(f"220 {NAME} ESMTP")
        while line := await self._reader.readline():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if verb.upper() == "QUIT":
                await self._say("221 2.0.0 Bye")
                return
            command = self._commands.get(verb.upper())
            await (command(rest) if command else self._say("502 5.5.1 Command not implemented"))

    async def _say(self, *lines: str) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        *first, last = lines
        text = "".join(f"{line[:3]}-{line[4:]}\r\n" for line in first) + f"{last}\r\n"
        self._writer.write(text.encode())
        await self._writer.drain()

    async def _ehlo(self, _: str) -> None:
        extensions = list(EXTENSIONS)
        if self._server.tls is not None and not self._secure:
            extensions.append("STARTTLS")
        if self._server.login is not None and self._secure:
            extensions.append("AUTH PLAIN")
        await self._say(f"250 {NAME}", *(f"250 {extension}" for extension in extensions))

    async def _helo(self, _: str) -> None:
        await self._say(f"250 {NAME}")

    async def _starttls(self, _: str) -> None:
        if self._server.tls is None or self._secure:
            await self._say("502 5.5.1 Command not implemented")
            return
        await self._say("220 2.0.0 Ready to start TLS")
        await self._writer.start_tls(self._server.tls)
        self._secure = True

    async def _auth(self, words: str) -> None:
        """Take PLAIN with an initial response (RFC 4616), below TLS alone."""
        way, _, given = words.partition(" ")
        if not self._secure or way.upper() != "PLAIN":
            await self._say("538 5.7.11 Encryption required")
            return
        try:
            user, password = base64.b64decode(given, validate=True).decode().split("\0")[1:]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            await self._say("501 5.5.2 Cannot decode")
            return
        self._trusted = (user, password) == self._server.login
        await self._say("235 2.7.0 Ok" if self._trusted else "535 5.7.8 Authentication credentials invalid")

    async def _mail(self, words: str) -> None:
        if not self._trusted:
            await self._say("530 5.7.0 Authentication required")
        elif self._from is not None:
            await self._say("503 5.5.1 Nested MAIL command")
        else:
            self._from = path_of(words)
            await self._say("250 2.1.0 Ok")

    async def _rcpt(self, words: str) -> None:
        if self._from is None:
            await self._say("503 5.5.1 MAIL first")
        elif self._to is not None:
            await self._say("452 4.5.3 One recipient a mail")
        else:
            to = path_of(words)
            self._answer = self._server.answer(to)
            if self._answer.rcpt.startswith("2"):
                self._to = to
            else:
                self._server.record(to, self._answer.rcpt, b"", connection=self._connection)
            await self._say(self._answer.rcpt)

    async def _data(self, _: str) -> None:
        if self._to is None:
            await self._say("503 5.5.1 RCPT first")
            return
        await self._say("354 End data with <CR><LF>.<CR><LF>")
        mail, to, answer = await self._content(), self._to, self._answer
        self._from = self._to = None
        self._server.record(to, answer.dot, mail, connection=self._connection)
        if answer.delay:
            await asyncio.sleep(answer.delay.total_seconds())
        if answer.dot:
            await self._say(answer.dot)
        else:
            await self._reader.read()

    async def _content(self) -> bytes:
        """Return the lines up to the final dot, doubled dots made single (RFC 5321, 4.5.2)."""
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    async def _rset(self, _: str) -> None:
        self._from = self._to = None
        await self._say("250 2.0.0 Ok")

    async def _noop(self, _: str) -> None:
        await self._say("250 2.0.0 Ok")


def magic_of(to: str) -> Magic:
    """Return what befalls mails to this address; a +tag does not count, and only the sandbox's domain is magic."""
    local, _, domain = to.lower().rpartition("@")
    if domain != SANDBOX and not domain.endswith(f".{SANDBOX}"):
        return PLAIN
    return MAGIC.get(local.partition("+")[0], PLAIN)


def path_of(words: str) -> str:
    """Return the address of "FROM:<a@b> SIZE=1"."""
    return words.partition("<")[2].partition(">")[0]


def body_of(mail: EmailMessage, to: str) -> SendEmail:
    """Return a mail as the log and the inbox show mails."""
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    return SendEmail(
        destination=Destination([to]),
        content=Message(
            Simple(
                Text(str(mail["Subject"] or ""), "UTF-8"),
                Body(
                    text=Text(plain.get_content(), "UTF-8") if plain else None,
                    html=Text(html.get_content(), "UTF-8") if html else None,
                ),
                [Header(name, str(value)) for name, value in mail.items() if name.startswith("List-")],
            )
        ),
        sender=str(mail["From"] or ""),
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Run the server by itself until SIGTERM or SIGINT."""
    fake = await FakeSmtp.start(
        arguments.host,
        arguments.port,
        log=RequestLog(Request, keep=arguments.keep),
        behaviour=Behaviour(delay=timedelta(milliseconds=arguments.delay)) if arguments.delay else None,
    )
    await until_asked_to_end(fake.url)
    await fake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m providers.fakes.smtp", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--keep", type=int, help="how many mails are kept whole in memory (all)")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds before each answer")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
