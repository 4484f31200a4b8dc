"""How a fake is run by itself: it says where it listens, and ends by a signal."""

import asyncio
import signal
import sys


async def until_asked_to_end(url: str) -> None:
    """Print the address, and wait for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    await stopped.wait()
