"""A browser without a script: it keeps cookies, says where a form comes from, and proves whose form it is."""

import re
from html import unescape
from typing import Any

import httpx

from tests.integration.api.tokens import token

_CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class Browser:
    """Follows no redirect by itself. `page` is the text of the last page that it got."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.origin = str(client.base_url).rstrip("/")
        self.page = ""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return self._seen(await self.client.get(path, headers=headers))

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form of the last page."""
        found = _CSRF.search(self.page)
        data = {**({"csrf": found[1]} if found else {}), **fields}
        return self._seen(await self.client.post(path, data=data, headers={"Origin": self.origin}))

    async def sign_in(self, scope: str, *, subject: str = "support", to: str = "/console") -> httpx.Response:
        await self.get("/console/sign-in")
        answer = await self.post("/console/sign-in", token=token(scope, subject=subject), to=to)
        assert answer.status_code == 303, answer.text
        await self.get("/console")
        return answer

    @property
    def text(self) -> str:
        """What a reader of the last page reads, without its markup."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.page)).split())

    def _seen(self, answer: httpx.Response) -> httpx.Response:
        self.page = answer.text
        return answer
