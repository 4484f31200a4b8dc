"""Starts programs in processes forked from one that has loaded their modules: loading takes a second or two."""

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ops import child

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.forked", "tests.support.worker", "ops.cli"])


def start(
    module: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> ForkServerProcess:
    """Run `main` of a module in a folder, with this environment and no other; what it says goes to the log."""
    process = _CONTEXT.Process(target=_run, args=(module, tuple(arguments), folder, dict(environment), log))
    process.start()
    return process


def _run(module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
    """Become that program: in a group of its own with all that it starts, and ended with the one it was forked from."""
    child.end_with(os.getppid(), by=signal.SIGKILL)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
