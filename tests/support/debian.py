"""The programs of others that the tests call, and the Debian packages that bring them."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
# Program -> the package that brings it. RabbitMQ is looked for in more places than PATH, see rabbitmq.py.
PACKAGES = {
    "promtool": "prometheus",
    "kubectl": "kubernetes-client",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "bwrap": "bubblewrap",
    "chromium": "chromium",
}


class ProgramMissingError(RuntimeError):
    """A program is not on this machine and cannot be installed; the message says what to run."""


def missing() -> list[str]:
    """Return the packages whose program is not on this machine."""
    return [package for program, package in PACKAGES.items() if not shutil.which(program)]


def command(packages: Iterable[str]) -> str:
    """Return the line that a person would type."""
    return f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(packages)}"


def install(packages: Iterable[str]) -> None:
    """Install packages as root; none may start a service of its own (policy-rc.d, see invoke-rc.d(8))."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with starts_no_services(POLICY):
        for arguments in (("update",), ("install", "--yes", "--no-install-recommends", *packages)):
            subprocess.run(["apt-get", "--quiet", *arguments], env=quiet, check=True)


@contextlib.contextmanager
def starts_no_services(policy: Path) -> Iterator[None]:
    """Forbid package scripts to start services, and leave the machine's own policy as it was."""
    before = policy.read_bytes() if policy.exists() else None
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            policy.unlink()
        else:
            policy.write_bytes(before)
