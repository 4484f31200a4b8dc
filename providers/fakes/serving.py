"""How a fake over HTTP listens; and how one is run by itself: it says where, and ends by a signal."""

import asyncio
import signal
import sys

from aiohttp import web


async def listen(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, str]:
    """Serve an application; returns what it is ended by, and its address. A client that goes away ends its handler:
    those that are never answered would pile up.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"


async def until_asked_to_end(url: str) -> None:
    """Print the address, and wait for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    await stopped.wait()
