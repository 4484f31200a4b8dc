"""Taking messages in without a broker: where a test begins behind the intake."""

from collections.abc import Sequence

import msgspec

from handlers.intake import TakenIn
from ops.settings import load
from ops.wiring import parts
from tests.acceptance.traffic import Message
from tests.support.service import SHARED


async def take_in(url: str, messages: Sequence[Message], **settings: str) -> None:
    """Take these messages in, as `ingest` and the API do."""
    async with parts(load({**SHARED, "DATABASE_URL": url, **settings}, dotenv=None)) as given:
        results = await given.take_in.messages([msgspec.json.encode(one) for one in messages], by="test")
    assert all(isinstance(result, TakenIn) for result in results)
