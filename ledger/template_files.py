"""The words of templates, under their digest: written before the fact that names them, and never changed."""

from collections.abc import Collection, Mapping

import msgspec

from ledger import arrays
from ledger.store import Store

_KEPT = "SELECT version FROM ledger.template_files WHERE version = ANY(%b)"
_KEEP = """
INSERT INTO ledger.template_files (version, template, files) SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[])
ON CONFLICT DO NOTHING
"""
_READ = "SELECT version, files FROM ledger.template_files WHERE version = ANY(%b)"

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class Kept(msgspec.Struct, frozen=True):
    """All files that a version of a template is made of: their texts by their names."""

    version: str
    template: str
    files: Mapping[str, str]


class TemplateFiles:
    """Keeps words for good: a notification may need them as long as it is not sent, and a person to look back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, versions: Collection[Kept]) -> None:
        """Keep words; what is there already stays. Raises UnavailableError."""
        async with self._store.connection() as connection:
            names = arrays.Texts([one.version for one in versions])
            rows = await (await connection.execute(_KEPT, (names,), binary=True)).fetchall()
            new = [one for one in versions if (one.version,) not in rows]
            if new:
                columns = (
                    arrays.Texts([one.version for one in new]),
                    arrays.Texts([one.template for one in new]),
                    arrays.Bytes([_encode(one.files) for one in new]),
                )
                await connection.execute(_KEEP, columns)

    async def read(self, versions: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the files of some versions; those that are not here are missing. Raises UnavailableError."""
        async with self._store.connection() as connection:
            given = (arrays.Texts(list(versions)),)
            rows = await (await connection.execute(_READ, given, binary=True)).fetchall()
        return {version: _decode(files) for version, files in rows}
