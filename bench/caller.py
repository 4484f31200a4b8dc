"""The caller's side of HTTP: a process that sends prepared requests over kept connections, and times each."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httptools
import msgspec
import uvloop

from bench.processes import answer, receive, wait_for_go


class Calling(msgspec.Struct):
    """A job: the requests of a file (msgpack, each whole as it goes over the wire), over so many connections."""

    host: str
    port: int
    requests: str
    connections: int


class Called(msgspec.Struct):
    """Seconds from the first request to the last answer, seconds of each, and how often each status came."""

    took: float
    seconds: list[float]
    statuses: dict[int, int]


def http(
    method: str, path: str, *, token: str = "", body: bytes = b"", kind: str = "application/json", cookie: str = ""
) -> bytes:
    """Return a whole request; with a cookie, that of a browser at a page of ours."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}\r\n"
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    session = f"Cookie: {cookie}\r\nOrigin: http://bench\r\n" if cookie else ""
    return f"{head}{authorization}{session}\r\n".encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], called: Called) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._called = called
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a client's stream is a Transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the service closed a connection"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._called.seconds.append(time.monotonic() - self._sent_at)
        status = self._parser.get_status_code()
        self._called.statuses[status] = self._called.statuses.get(status, 0) + 1
        self.send()

    def send(self) -> None:
        """Send the next request, or end."""
        request = next(self._requests, None)
        if request is None or self._transport is None:
            self.ended.set_result(None)
            return
        self._sent_at = time.monotonic()
        self._transport.write(request)


async def _work(job: Calling, requests: Iterator[bytes]) -> None:
    called, loop = Called(0.0, [], {}), asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(requests, called), job.host, job.port))[1]
        for _ in range(job.connections)
    ]
    wait_for_go()
    began = time.monotonic()
    for connection in connections:
        connection.send()
    await asyncio.gather(*(connection.ended for connection in connections))
    called.took = time.monotonic() - began
    answer(called)


if __name__ == "__main__":
    given = receive(Calling)
    uvloop.run(_work(given, iter(msgspec.msgpack.decode(Path(given.requests).read_bytes(), type=list[bytes]))))
