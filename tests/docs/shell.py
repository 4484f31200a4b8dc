"""A shell as a reader has it open: commands are typed into it one block after the other."""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.docs.pages import Step, matches

_END = "--end-of-block--"
_PATIENCE = 60.0
_PAUSE = 0.3


class Shell:
    """One bash over a whole page, so that later blocks know the functions and variables of earlier ones.

    `instead` are texts of the page and what is typed for them: this run's ports, folders and addresses.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], instead: Mapping[str, str]) -> None:
        self._instead = instead
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def walk(self, step: Step) -> None:
        """Do a step until it shows what the page says: a reader is slower than a delivery, a test is not."""
        give_up_at = time.monotonic() + _PATIENCE
        while True:
            output, failed = self.run(step.commands)
            if step.shows is None:
                assert not failed, f"line {step.line}: {output}"
                return
            if matches(self._typed(step.shows), output):
                return
            assert time.monotonic() < give_up_at, f"line {step.line} shows:\n{output}"
            time.sleep(_PAUSE)

    def run(self, commands: str) -> tuple[str, bool]:
        """Return what a block shows, and whether one of its commands failed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"failed=\ntrap failed=1 ERR\n{self._typed(commands)}\nprintf '\\n{_END}%s\\n' $failed\n")
        stdin.flush()
        lines: list[str] = []
        for line in stdout:
            if line.startswith(_END):
                return "".join(lines), line.strip() != _END
            lines.append(line)
        raise AssertionError(f"the shell ended: {''.join(lines)}")

    def _typed(self, text: str) -> str:
        for written, typed in self._instead.items():
            text = text.replace(written, typed)
        return text
