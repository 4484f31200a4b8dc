"""A directory as the place of the archive: each file appears whole, and stays when the machine fails."""

import asyncio
import contextlib
import os
from pathlib import Path
from uuid import uuid4

from ledger.errors import ArchiveUnavailableError


class Directory:
    """The shelf (ledger.archive.Shelf) below a directory that all processes see: a network volume, say."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, body: bytes) -> None:
        """Write beside it, to the disk, and rename then: nobody ever sees half a file."""
        await asyncio.to_thread(self._put, self._root / name, body)

    async def get(self, name: str) -> bytes | None:
        """Return what a file holds, None where there is none."""
        return await asyncio.to_thread(self._get, self._root / name)

    def _put(self, path: Path, body: bytes) -> None:
        unfinished = path.with_name(f".{uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            _sync(path.parent)
            _sync(self._root)
        except OSError as exc:
            # Each try has a name of its own: left alone, they would fill what is full already.
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise ArchiveUnavailableError(f"the archive cannot be written ({type(exc).__name__})") from exc

    def _get(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ArchiveUnavailableError(f"the archive cannot be read ({type(exc).__name__})") from exc


def _sync(folder: Path) -> None:
    """Make the names in a folder durable, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
