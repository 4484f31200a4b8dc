"""Lookups that share a query: whoever asks while one is under way goes with the next."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lookup(Generic[K, V]):
    """Finds values by key, up to `most` keys by one call of `fetch`.

    `fetch` returns what it found; a value that is an exception is raised to those who asked for that key.
    """

    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]], *, most: int) -> None:
        self._fetch = fetch
        self._most = most
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: K) -> V | None:
        """Return the value of a key as it is now or later, None when there is none."""
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="lookup")
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._asked:
            asked = {key: self._asked.pop(key) for key in list(self._asked)[: self._most]}
            found: Mapping[K, V | Exception]
            try:
                found = await self._fetch(list(asked))
            except Exception as exc:  # noqa: BLE001 - handed to those who asked
                found = dict.fromkeys(asked, exc)
            for key, future in asked.items():
                _answer(future, found.get(key))


def _answer(future: asyncio.Future[V | None], found: V | Exception | None) -> None:
    if isinstance(found, Exception):
        future.set_exception(found)
        future.exception()  # seen, should all who asked have gone
    else:
        future.set_result(found)
