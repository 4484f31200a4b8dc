"""Ports for servers that bind them only when they have started.

None of them is one that the kernel gives to an outgoing connection. A port that it chose itself (port 0) is: it may be
gone when the server comes for it, and a client that asks for it before may even meet itself there (simultaneous open,
RFC 9293, 3.5).
"""

import contextlib
import secrets
import socket
from pathlib import Path

LOWEST = 15_000
# What Linux gives to clients begins here, unless it is told otherwise.
_USUAL_FIRST = 32_768


def free() -> int:
    """Return a port that is free now."""
    return free_in_a_row(1)


def free_in_a_row(count: int) -> int:
    """Return the first of so many ports that are free together."""
    while True:
        port = LOWEST + secrets.randbelow(_first_of_clients() - LOWEST - count)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for number in range(port, port + count):
                held.enter_context(socket.create_server(("127.0.0.1", number)))
            return port


def _first_of_clients() -> int:
    """The first port of those that outgoing connections get (ip(7))."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return first if first > LOWEST + 1_000 else _USUAL_FIRST
