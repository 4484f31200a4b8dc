"""Calls the checkers of other people's formats, which live in an environment of their own: .venv-checkers."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".venv-checkers" / "bin"
_TIMEOUT_SECONDS = 300


class CheckersMissingError(RuntimeError):
    """The checkers are not installed."""

    def __str__(self) -> str:
        return "the checkers are not installed; run: make .venv-checkers/stamp"


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a checker in the repository's root and return how it ended: code 0 = clean.

    Both of its outputs stand in `stdout`, in the order in which a person would see them.
    """
    program = PROGRAMS / name
    if not program.exists():
        raise CheckersMissingError
    return subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        # Their bytecode is kept, whatever is said of our own: without it checkov takes three times as long.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
