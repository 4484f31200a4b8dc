"""The image: built from the real Dockerfile on a stand-in of its base, and run as an orchestrator runs it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.deployment import stand_in

ROOT = Path(__file__).parents[2]
GIVEN = "/run/given"
USER = 10_001
REVISION = "0a1b2c3"
# What `docs/how-to/deploy.md` asks orchestrators for.
GRACE_SECONDS = 30


class Image(msgspec.Struct, frozen=True):
    """What was built: its configuration as an orchestrator reads it, where its files are seen, and what runs of it."""

    config: dict[str, Any]
    files: Path
    processes: list["subprocess.Popen[bytes]"] = []

    def launch(self, *command: str, given: Path, settings: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a command as process 1 and as nobody's friend: uid 10001, no capability, nothing to write to.

        It sees the network of this machine, and the files of `given` below /run/given. The process that is returned
        ends with it, and with its exit code; a signal goes to `inner(process)`.
        """
        environment = {**dict(pair.split("=", 1) for pair in self.config["Env"]), **settings}
        first = ("--die-with-parent", "--unshare-pid", "--as-pid-1")
        system = ("--ro-bind", str(self.files), "/", "--proc", "/proc", "--dev", "/dev")
        shown = ("--tmpfs", "/run", "--ro-bind", str(given), GIVEN, "--remount-ro", "/run", "--chdir", "/")
        dropped = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
        program = ("bwrap", *first, *system, *shown, "setpriv", *dropped, *command)
        with log.open("ab") as output:
            process = subprocess.Popen(program, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def inner(process: "subprocess.Popen[bytes]") -> int:
    """The id, seen from here, of what was launched."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


@contextlib.contextmanager
def built() -> Iterator[Image]:
    """Build it; nothing is left of it behind the block."""
    with tempfile.TemporaryDirectory(prefix="notification-ledger-image-") as place:
        folder = Path(place)
        with _downloading(folder / "wheels"):
            stand_in.unpack(folder / "base")
        buildah = _Buildah(folder)
        try:
            image = buildah.image()
            try:
                yield image
            finally:
                image.kill_all()
        finally:
            buildah.forget()


@contextlib.contextmanager
def _downloading(wheels: Path) -> Iterator[None]:
    """Download what the build installs while the block runs: this machine's pip knows the way to its index."""
    files = (f"--requirement={ROOT / 'requirements' / name}" for name in ("build.txt", "run.txt"))
    chosen = ("--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={stand_in.python_version()}")
    command = (sys.executable, "-m", "pip", "download", "--quiet", *chosen, f"--dest={wheels}", *files)
    said = wheels.with_suffix(".log")
    with said.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        yield
        assert process.wait() == 0, said.read_text()[-4000:]


class _Buildah:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def image(self) -> Image:
        empty = self._run("from", "scratch")
        self._run("add", "--quiet", empty, str(self._folder / "base"), "/")
        self._run("commit", "--quiet", "--rm", empty, "localhost/base")
        shutil.rmtree(self._folder / "base")
        (self._folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        self._run(
            *("bud", "--isolation=chroot", "--format=docker", "--pull-never", "--layers=false"),
            *("--build-arg=BASE=localhost/base", f"--build-arg=REVISION={REVISION}"),
            f"--secret=id=pip,src={self._folder / 'pip.conf'}",
            f"--volume={self._folder / 'wheels'}:/wheels:ro",
            *("--tag=localhost/built", str(ROOT)),
        )
        config = json.loads(self._run("inspect", "--type=image", "localhost/built"))["Docker"]["config"]
        return Image(config, Path(self._run("mount", self._run("from", "--pull-never", "localhost/built"))))

    def forget(self) -> None:
        self._run("rm", "--all")
        self._run("rmi", "--all", "--force")

    def _run(self, *arguments: str) -> str:
        store = (f"--root={self._folder / 'store'}", f"--runroot={self._folder / 'run'}")
        done = subprocess.run(["buildah", *store, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()


def ask_to_end(process: "subprocess.Popen[bytes]") -> int:
    """Send SIGTERM, as an orchestrator does before it kills, and return the exit code."""
    os.kill(inner(process), signal.SIGTERM)
    return process.wait(timeout=GRACE_SECONDS)
