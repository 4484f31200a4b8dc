"""A platform that goes on publishing over HTTP and RabbitMQ, whatever happens to the service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx

from tests.acceptance.traffic import Message, publish, restamped, shipped

AT_A_TIME = 10
POSTERS = 4
AGAIN_AFTER = 0.2


class Platform:
    """What it has published stands in `messages`; each insists until the service has taken it."""

    def __init__(self, broker_url: str, ports: Sequence[int], token: str, *, rate: float) -> None:
        self.messages: list[Message] = []
        self._broker_url = broker_url
        self._ports = ports
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pause = 2 * AT_A_TIME / rate
        self._queued: asyncio.Queue[Message] = asyncio.Queue()
        self._posted: asyncio.Queue[Message] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish while the block runs: half over HTTP, half over RabbitMQ. Behind it all was taken."""
        async with httpx.AsyncClient(headers=self._headers, timeout=10) as client, asyncio.TaskGroup() as group:
            pace = group.create_task(self._pace())
            others = [
                group.create_task(self._publish()),
                *(group.create_task(self._post(client)) for _ in range(POSTERS)),
            ]
            yield
            pace.cancel()
            await asyncio.gather(self._queued.join(), self._posted.join())
            for other in others:
                other.cancel()

    async def _pace(self) -> None:
        while True:
            new = shipped(2 * AT_A_TIME)
            self.messages += new
            for queued, posted in zip(new[::2], new[1::2], strict=True):
                self._queued.put_nowait(queued)
                self._posted.put_nowait(posted)
            await asyncio.sleep(self._pause)

    async def _publish(self) -> None:
        while True:
            batch = [await self._queued.get()]
            while not self._queued.empty():
                batch.append(self._queued.get_nowait())
            await publish(self._broker_url, batch)
            for _ in batch:
                self._queued.task_done()

    async def _post(self, client: httpx.AsyncClient) -> None:
        while True:
            message = await self._posted.get()
            while not await self._taken(client, message):
                await asyncio.sleep(AGAIN_AFTER)
                message = restamped(message)
            self._posted.task_done()

    async def _taken(self, client: httpx.AsyncClient, message: Message) -> bool:
        """Ask one replica after the other, as a load balancer does; a lost reply is asked for again."""
        for port in self._ports:
            with contextlib.suppress(httpx.TransportError):
                reply = await client.post(f"http://127.0.0.1:{port}/v1/messages", json=message)
                if reply.is_success:
                    return True
                assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE, reply.text
        return False
