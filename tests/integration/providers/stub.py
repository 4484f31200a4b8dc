"""A raw HTTP server that counts requests at the socket and misbehaves as it is told."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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


class Stub:
    def __init__(self, conduct: Conduct, *, reads_body: bool) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.url = ""
        self.asked = asyncio.Event()
        self._conduct = conduct
        self._reads_body = reads_body
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks[task] = writer
        self.connections += 1
        number = 0
        try:
            while not writer.is_closing() and (first := await reader.read(1)):
                number += 1
                self.heads.append(first)
                if self._reads_body:
                    await self._read(reader, first)
                self.asked.set()
                await self._conduct(Exchange(reader, writer, number=number, head=self.heads[-1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            del self._tasks[task]

    async def close(self) -> None:
        for writer in self._tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    async def _read(self, reader: asyncio.StreamReader, first: bytes) -> None:
        self.heads[-1] = first + await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in self.heads[-1].split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        self.bodies.append(await reader.readexactly(length))


@asynccontextmanager
async def stub(conduct: Conduct, *, reads_body: bool = True) -> AsyncIterator[Stub]:
    """Run a server; without `reads_body` it acts on the first byte of a request."""
    server = Stub(conduct, reads_body=reads_body)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
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


async def drips(exchange: Exchange) -> None:
    """Answer without an end, a header every 20 ms: no single read takes long."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\n")
    number = 0
    while not exchange.writer.is_closing():
        number += 1
        exchange.writer.write(b"X-%d: y\r\n" % number)
        await asyncio.sleep(0.02)
