"""A stand-in for the image's base, where no registry is at hand: Debian's Python, in packages of this machine's own."""

import platform
import subprocess
from pathlib import Path

# What the real base has, too, as far as the Dockerfile and the service ask for it: a shell, useradd, setpriv, Python.
PACKAGES = ("dash", "coreutils", "passwd", "util-linux", "libc-bin", "python3", "python3-venv")
_MAKERS = {"Debian", "Ubuntu"}


def unpack(folder: Path) -> None:
    """Make a root file system: packages unpacked, none configured. Takes a third of the time of debootstrap."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    arguments = ("--quiet", "--mode=root", "--variant=extract", f"--include={','.join(PACKAGES)}")
    subprocess.run(["mmdebstrap", *arguments, suite, folder, *_sources()], check=True, capture_output=True)


def python_version() -> str:
    """Which Python it has: 3.11 on Debian 12."""
    command = ["apt-cache", "show", "--no-all-versions", "python3"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return ".".join(shown.partition("\nVersion: ")[2].split(".")[:2])


def _sources() -> list[str]:
    """Where this machine takes the packages of its own distribution from, as lines of a sources.list."""
    shape = "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", shape, "Created-By: Packages"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [f"deb {rest}" for maker, _, rest in (line.partition(" ") for line in listed) if maker in _MAKERS]
