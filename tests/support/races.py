"""Two that want to be first: on any machine each is met at every step of the other."""

import asyncio
import random
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")
# So much more of a start, in seconds, has for the next round who was second in this one.
_STEP = 0.01


class Race:
    """Lets two run against each other, round by round, and gives who is second more of a start."""

    def __init__(self) -> None:
        self._lead = 0.0

    async def run(self, one: Awaitable[T], other: Awaitable[object]) -> T:
        """Run both; a little by chance, and by the lead that `one` has, or its want of it."""
        lead = self._lead + (random.random() - 0.5) * _STEP
        result, _ = await asyncio.gather(_after(max(0.0, -lead), one), _after(max(0.0, lead), other))
        return result

    def tell(self, *, one_was_first: bool) -> None:
        """Take note of who was first in a round."""
        self._lead += -_STEP if one_was_first else _STEP


async def _after(seconds: float, what: Awaitable[T]) -> T:
    await asyncio.sleep(seconds)
    return await what
