import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Runs in an interpreter of its own: an audit hook (PEP 578) cannot be taken off again.
WATCH = """
import importlib, os, sys, threading

seen = []
OURS = tuple(os.path.join(os.getcwd(), name.split(".")[0], "") for name in sys.argv[2:])
DEEDS = {"thread", "socket.connect", "socket.bind", "subprocess.Popen", "os.system"}

def importing():
    frame = sys._getframe()
    while frame and (frame.f_code.co_name != "<module>" or frame.f_code.co_filename == "<string>"):
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ""

def watch(event, arguments):
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    # What a library does at its own import is not ours to forbid.
    if (event in DEEDS or writes) and importing().startswith(OURS):
        seen.append(event)

def start(thread, start=threading.Thread.start):
    watch("thread", ())
    start(thread)

threading.Thread.start = start
sys.addaudithook(watch)
for name in sys.argv[2:]:
    importlib.import_module(name)
    if seen:
        sys.exit(f"{name}: {seen}")
"""


def test_no_module_does_anything_at_import():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    modules = [
        module.name
        for package in packages
        for module in pkgutil.iter_modules([str(ROOT / package.replace(".", "/"))], f"{package}.")
        if not module.name.endswith(".__main__")
    ]
    answer = _import(ROOT, modules)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    "deed",
    [
        "import socket; socket.socket().bind(('127.0.0.1', 0))",
        "import threading; threading.Thread(target=print).start()",
        "open('made-at-import', 'w').close()",
        "import subprocess; subprocess.run(['true'])",
    ],
)
def test_a_module_that_does_something_at_import_is_named(deed: str, tmp_path: Path):
    package = tmp_path / "doer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deed.py").write_text(deed)
    answer = _import(tmp_path, ["doer.deed"])
    assert answer.returncode == 1
    assert answer.stderr.startswith("doer.deed: ")


def _import(folder: Path, modules: list[str]) -> subprocess.CompletedProcess[str]:
    # -B: the interpreter writes no bytecode, so every file that is written is a deed.
    command = [sys.executable, "-B", "-c", WATCH, "--", *modules]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
