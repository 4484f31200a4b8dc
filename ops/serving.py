"""An HTTP server inside our own event loop, whose start and end we decide."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import uvicorn

from ops.errors import OperationError

# How long requests that are under way may take once the end has been asked for.
GRACE = timedelta(seconds=10)


class _Server(uvicorn.Server):
    """uvicorn, without its own signal handlers: one place in the process decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: Any, *, host: str, port: int) -> AsyncIterator[None]:
    """Serve an ASGI app while the block runs; then answer what is under way, and close.

    Who connects before uvicorn has started waits in the listener's backlog.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_graceful_shutdown=int(GRACE.total_seconds()),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http-{port}")
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048, reuse_port=False)
    except OSError as exc:
        raise OperationError(f"port {port} on {host} cannot be used: {exc.strerror}") from exc
