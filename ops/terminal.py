"""What the commands share: the settings that were named, the parts built by them, and how an answer is printed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ops.logs import configure
from ops.settings import Settings, load, require
from ops.wiring import Parts, parts

T = TypeVar("T")


def settings_named() -> Settings:
    """Read the settings from the environment and the file that was named."""
    return load(dotenv=click.get_current_context().find_object(Path))


def with_parts(work: Callable[[Parts], Awaitable[T]]) -> T:
    """Do something with the parts that the service is made of, and return what comes of it."""
    given = settings_named()
    require(given, ["read"])
    configure("error")

    async def run() -> T:
        async with parts(given) as opened:
            return await work(opened)

    return asyncio.run(run())


def print_answer(value: Any, lines: list[str], *, as_json: bool) -> None:
    """Print an answer: its lines for people, or all of it for programs."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
    else:
        for line in lines:
            click.echo(line)
        if not lines:
            # Beside the output, which stays empty for programs: a person would not know whether it had worked.
            click.echo("nothing", err=True)
