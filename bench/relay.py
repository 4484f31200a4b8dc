"""The second provider of e-mail: a relay that takes every mail.

Usage: python -m bench.relay PORT
"""

import asyncio
import sys

import uvloop

from providers.fakes.smtp import FakeSmtp


async def _serve(port: int) -> None:
    await FakeSmtp.start("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
