"""A raw server, of HTTP or SMTP, that counts requests at the socket and misbehaves as it is told."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

# What the server does with one request, whole or from its first byte on.
Conduct = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request on one connection; `number` counts the requests of that connection from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, number: int, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.head = head

    def reset(self) -> None:
        """Drop the connection by RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Talk:
    """One connection. `early` are replies, by what they answer, that are given instead of the usual ones; one that is
    no success ends the request. `said` gathers the words that came before any request.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, early: Mapping[str, bytes], said: list[str]
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.early = early
        self.said = said


class Speaker(Protocol):
    """What is said on a connection before a request, and where a request begins and ends."""

    async def greet(self, talk: Talk) -> None: ...

    async def begin(self, talk: Talk) -> bytes | None:
        """Read up to the first bytes of the next request and return them; None = there is none."""
        ...

    async def read(self, talk: Talk, first: bytes) -> tuple[bytes, bytes] | None:
        """Read the rest and return head and body; None = it was refused on the way."""
        ...


class Stub:
    def __init__(self, conduct: Conduct, speaker: Speaker, *, reads_body: bool) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.asked = asyncio.Event()
        self.conduct = conduct
        self.early: Mapping[str, bytes] = {}
        self.said: list[str] = []
        self._speaker = speaker
        self._reads_body = reads_body
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks[task] = writer
        self.connections += 1
        number = 0
        talk = Talk(reader, writer, early=self.early, said=self.said)
        try:
            await self._speaker.greet(talk)
            while not writer.is_closing() and (first := await self._speaker.begin(talk)):
                number += 1
                self.heads.append(first)
                if not self._reads_body or await self._read(talk):
                    self.asked.set()
                    await self.conduct(Exchange(reader, writer, number=number, head=self.heads[-1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except RuntimeError:
            # How uvloop says that the client has left meanwhile.
            if not writer.is_closing():
                raise
        finally:
            writer.close()
            del self._tasks[task]

    async def close(self) -> None:
        for writer in self._tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    async def _read(self, talk: Talk) -> bool:
        request = await self._speaker.read(talk, self.heads[-1])
        if request is not None:
            self.heads[-1], body = request
            self.bodies.append(body)
        return request is not None


class Http:
    async def greet(self, talk: Talk) -> None:
        """Say nothing: it is the client's turn."""

    async def begin(self, talk: Talk) -> bytes | None:
        return await talk.reader.read(1) or None

    async def read(self, talk: Talk, first: bytes) -> tuple[bytes, bytes] | None:
        head = first + await talk.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0].partition(b":")[2]) if lengths else 0
        return head, await talk.reader.readexactly(length)


class Smtp:
    """A request is a transaction: it begins with MAIL and ends with the final dot, whose answer is the conduct's."""

    async def greet(self, talk: Talk) -> None:
        talk.writer.write(talk.early.get("CONNECT", b"220 stub ESMTP\r\n"))

    async def begin(self, talk: Talk) -> bytes | None:
        while (line := await talk.reader.readline()) and not talk.writer.is_closing():
            verb = line[:4].decode("ascii", "replace").upper()
            if verb == "MAIL":
                return line
            talk.said.append(verb)
            talk.writer.write(talk.early.get(verb, b"250 Ok\r\n"))
        return None

    async def read(self, talk: Talk, first: bytes) -> tuple[bytes, bytes] | None:
        head = first
        for verb, reply in (("MAIL", b"250 Ok\r\n"), ("RCPT", b"250 Ok\r\n"), ("DATA", b"354 Go on\r\n")):
            given = talk.early.get(verb, reply)
            talk.writer.write(given)
            if given[:1] != reply[:1]:
                return None
            head += await (talk.reader.readuntil(b"\r\n.\r\n") if verb == "DATA" else talk.reader.readline())
        commands, _, mail = head.partition(b"DATA\r\n")
        return commands, mail


HTTP, SMTP = Http(), Smtp()


@asynccontextmanager
async def stub(conduct: Conduct, speaker: Speaker = HTTP, *, reads_body: bool = True) -> AsyncIterator[Stub]:
    """Run a server; without `reads_body` it acts on the first byte of a request."""
    server = Stub(conduct, speaker, reads_body=reads_body)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.close()


def http(status: int, body: object = None, **headers: str) -> bytes:
    """Return a whole HTTP reply with a JSON body, or with the bytes that are given as they are."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def answers(reply: bytes) -> Conduct:
    """Return a conduct that gives every request the same bytes for an answer."""

    async def conduct(exchange: Exchange) -> None:
        exchange.writer.write(reply)
        await exchange.writer.drain()

    return conduct


def then_closes(reply: bytes) -> Conduct:
    """Return a conduct that writes these bytes and closes the connection."""

    async def conduct(exchange: Exchange) -> None:
        exchange.writer.write(reply)
        await exchange.writer.drain()
        exchange.writer.close()

    return conduct


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def never_answers(exchange: Exchange) -> None:
    await exchange.reader.read()


def drips(opening: bytes, line: bytes) -> Conduct:
    """Return a conduct that answers without an end, a line every 200 ms: no single read takes long."""

    async def conduct(exchange: Exchange) -> None:
        exchange.writer.write(opening)
        while not exchange.writer.is_closing():
            exchange.writer.write(line)
            await asyncio.sleep(0.2)

    return conduct
