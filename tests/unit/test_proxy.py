import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.proxy import Proxy, Towards, forwarding

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def test_it_forwards_both_ways():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


async def test_it_cuts_behind_the_nth_pattern_even_when_that_comes_in_pieces():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        fired = proxy.trap(b"COMMIT", towards=Towards.CLIENT, nth=2)
        for piece in (b"COMMIT;COM", b"MIT;more"):
            writer.write(piece)
            await writer.drain()
        assert await _all_of(reader) == b"COMMIT;COMMIT"
        assert fired.is_set()


async def test_it_cuts_before_a_pattern_so_that_the_server_never_sees_it():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        proxy.trap(b"ack", towards=Towards.SERVER, forward=False)
        writer.write(b"before ack")
        assert await _all_of(reader) in {b"before ", b""}


async def test_it_does_what_the_test_wants_done_at_that_point():
    done = asyncio.Event()
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        proxy.trap(b"now", towards=Towards.SERVER, act=done.set)
        writer.write(b"now")
        await done.wait()
        assert await reader.readexactly(3) == b"now"


async def test_stalled_it_holds_everything_back_and_resumed_it_loses_nothing():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        proxy.stall()
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(4), 0.1)
        proxy.resume()
        assert await reader.readexactly(4) == b"late"


async def test_it_stalls_at_a_pattern_and_resumed_it_loses_nothing():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        fired = proxy.stall_at(b"now", towards=Towards.SERVER)
        writer.write(b"before now and after")
        await fired.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        proxy.resume()
        assert await reader.readexactly(20) == b"before now and after"


async def test_refusing_it_answers_nobody_and_accepting_it_answers_again():
    async with _echo() as proxy:
        proxy.refuse()
        async with _client(proxy) as (reader, _):
            assert await _all_of(reader) == b""
        proxy.accept()
        async with _client(proxy) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_it_lets_a_client_hear_other_words_for_a_while():
    async with _echo() as proxy, _client(proxy) as (reader, writer):
        with proxy.swapped(b"yes", b"no!"):
            writer.write(b"yes")
            assert await reader.readexactly(3) == b"no!"
        writer.write(b"yes")
        assert await reader.readexactly(3) == b"yes"


@asynccontextmanager
async def _echo() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, forwarding("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


@asynccontextmanager
async def _client(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.close()


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    """Everything that came before the connection ended, by whatever end."""
    taken = b""
    try:
        while chunk := await reader.read(1000):
            taken += chunk
    except ConnectionError:
        pass
    return taken
