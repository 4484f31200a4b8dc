"""A place in memory for servers that keep nothing: making the files of a small database takes longer than its tests."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
# Some databases of 10 MB at a time, and what has been logged since the last checkpoint; a container may have 64 MB.
_ROOM = 2 << 30


def folder() -> str | None:
    """Where temporary folders may lie in memory; None, which means the usual place, where there is not enough of it."""
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK | os.X_OK)
    return str(_MEMORY) if usable and shutil.disk_usage(_MEMORY).free > _ROOM else None
