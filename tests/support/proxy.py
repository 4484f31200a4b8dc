"""A TCP proxy that breaks a connection where a test wants it broken: at the n-th COMMIT, ack or byte of an answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum

import msgspec

CHUNK = 65536


class Towards(Enum):
    SERVER = "server"
    CLIENT = "client"


class Trap(msgspec.Struct):
    """Fires when `pattern` passes for the n-th time, counted over all connections."""

    pattern: bytes
    towards: Towards
    left: int
    forward: bool
    act: Callable[[], None] | None
    fired: asyncio.Event


class Proxy:
    """Forwards `127.0.0.1:port` to a target until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._target = (host, port)
        self._traps: list[Trap] = []
        self._swaps: dict[bytes, bytes] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    def trap(
        self,
        pattern: bytes,
        *,
        towards: Towards,
        nth: int = 1,
        forward: bool = True,
        act: Callable[[], None] | None = None,
    ) -> asyncio.Event:
        """At the n-th `pattern`, cut all connections (or `act`): behind it if `forward`, else before it.

        Returns the event that is set then. What follows the pattern in the same chunk is lost.
        """
        return self._set(Trap(pattern, towards, nth, forward, act or self.cut, asyncio.Event()))

    def stall_at(self, pattern: bytes, *, towards: Towards, nth: int = 1) -> asyncio.Event:
        """Stall at once at the n-th `pattern`: it is held back with its whole chunk, and nothing is lost.

        Returns the event that is set then.
        """
        return self._set(Trap(pattern, towards, nth, forward=True, act=None, fired=asyncio.Event()))

    @contextlib.contextmanager
    def swapped(self, said: bytes, heard: bytes) -> Iterator[None]:
        """Let clients hear other words, as many bytes long, than a server says, while the block runs."""
        self._swaps[said] = heard
        try:
            yield
        finally:
            del self._swaps[said]

    def cut(self) -> None:
        """End every open connection by a reset; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Keep connections open and forward nothing more, as a frozen server would."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        """Cut every connection, and each new one at once."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def _set(self, trap: Trap) -> asyncio.Event:
        self._traps.append(trap)
        return trap.fired

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._refusing:
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            to_client.transport.abort()
            return
        self._writers |= {to_client, to_server}
        pumps = (self._pump(client, to_server, Towards.SERVER), self._pump(server, to_client, Towards.CLIENT))
        await asyncio.gather(*pumps)
        self._writers -= {to_client, to_server}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, towards: Towards) -> None:
        overlap: dict[int, bytes] = {}
        with contextlib.suppress(ConnectionError):
            while chunk := await source.read(CHUNK):
                await self._flowing.wait()
                passing = self._sift(chunk, towards, overlap)
                # A trap may have stalled us just now.
                await self._flowing.wait()
                sink.write(passing)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.close()

    def _sift(self, chunk: bytes, towards: Towards, overlap: dict[int, bytes]) -> bytes:
        """Return what of this chunk passes; `overlap` holds, per trap, what of a pattern may have begun before."""
        for trap in self._traps:
            if trap.towards is towards and not trap.fired.is_set():
                chunk = self._spring(trap, chunk, overlap)
        for said, heard in self._swaps.items() if towards is Towards.CLIENT else ():
            chunk = chunk.replace(said, heard)
        return chunk

    def _spring(self, trap: Trap, chunk: bytes, overlap: dict[int, bytes]) -> bytes:
        before = overlap.get(id(trap), b"")
        seen, found = before + chunk, -1
        while trap.left and (found := seen.find(trap.pattern, found + 1)) >= 0:
            trap.left -= 1
        if trap.left:
            overlap[id(trap)] = seen[len(seen) - len(trap.pattern) + 1 :] if len(trap.pattern) > 1 else b""
            return chunk
        trap.fired.set()
        if trap.act is None:
            self.stall()
            return chunk
        end = found + (len(trap.pattern) if trap.forward else 0)
        # The part that passes leaves first: an abort would throw it away with the connection.
        asyncio.get_running_loop().call_later(0.01, trap.act)
        return chunk[: max(end - len(before), 0)]


@contextlib.asynccontextmanager
async def forwarding(host: str, port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.resume()
        proxy.refuse()
        await server.wait_closed()
