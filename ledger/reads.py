"""Who has read personal data unmasked, and why: recorded before the answer leaves."""

import msgspec

from ledger.store import Store

_RECORD = """
INSERT INTO ledger.personal_data_read (subject, what, of, reason, correlation_id)
VALUES (%(subject)s, %(what)s, %(of)s, %(reason)s, %(correlation_id)s)
"""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """One reading: by whom, what (`notification`, `history`, `content`, `recipient`, `recipient_history`,
    `dead_letter`), of which id (of a recipient: the user id) or key, and why.
    """

    subject: str
    what: str
    of: str
    reason: str | None
    correlation_id: str


class Reads:
    """The record of readings. Nobody changes a row, the application may not."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, read: Read) -> None:
        """Record a reading; raises UnavailableError, and then nothing may be shown."""
        async with self._store.connection() as connection:
            await connection.execute(_RECORD, msgspec.structs.asdict(read))
