"""Under which keys of the intake a message id had a conflict, so that it is found by the id alone (promise I3)."""

from ledger.keys import Identity
from ledger.mentions import text
from ledger.store import Store

_NAME = "INSERT INTO ledger.conflict (said, key) VALUES (%(said)s, %(key)s) ON CONFLICT DO NOTHING"
_KEYS = "SELECT key FROM ledger.conflict WHERE said = ANY(%(said)s)"


async def name(store: Store, identity: Identity, message_id: str, key: bytes) -> None:
    """Keep in mind by which id a message is known whose key had a conflict. Again is the same as once."""
    async with store.connection() as connection:
        await connection.execute(_NAME, {"said": text(identity, message_id), "key": key})


async def named(store: Store, identity: Identity, message_ids: list[str]) -> set[bytes]:
    """Return the keys that had a conflict under one of these ids."""
    async with store.connection() as connection:
        given = {"said": [text(identity, one) for one in message_ids]}
        return {key for (key,) in await (await connection.execute(_KEYS, given)).fetchall()}
