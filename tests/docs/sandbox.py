"""A sandbox as a reader starts it, on ports and in a folder of its own."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.docs.pages import ROOT, blocks
from tests.support import ports

STARTING = ("sh", "sandbox")
_STOP_SECONDS = 60


class Sandbox(msgspec.Struct, frozen=True):
    """A running sandbox: its environment for a shell, and what is typed instead of what the pages say."""

    environment: Mapping[str, str]
    instead: Mapping[str, str]


@contextlib.contextmanager
def running(folder: Path, *, amqp_url: str, broker_api: str) -> Iterator[Sandbox]:
    """Run what the README says starts a sandbox; it is stopped as by Ctrl-C."""
    port, data = ports.free_in_a_row(6), folder / "data"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CURL_HOME": str(folder),
        "PORT": str(port),
        "DATA": str(data),
        "DEMO": "3",
        "AMQP_URL": amqp_url,
    }
    (folder / ".curlrc").write_text("max-time = 60\n")
    with (folder / "sandbox.log").open("w+") as log:
        process = subprocess.Popen(
            ["bash", "-c", _starting_command()],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            token, database_url = _wait_until_ready(process, folder), _database_url(data)
            key = msgspec.json.decode((data / "secrets.json").read_bytes())["key_encryption_key"]
            settings = {"DATABASE_URL": database_url, "KEY_ENCRYPTION_KEY": key, "TOKEN": token}
            parts = urlsplit(amqp_url)
            yield Sandbox(
                environment | settings,
                {
                    "127.0.0.1:8080": f"127.0.0.1:{port}",
                    "127.0.0.1:8081": f"127.0.0.1:{port + 1}",
                    "127.0.0.1:8082": f"127.0.0.1:{port + 2}",
                    "127.0.0.1:8084": f"127.0.0.1:{port + 4}",
                    "127.0.0.1:8085": f"127.0.0.1:{port + 5}",
                    "http://guest:guest@127.0.0.1:15672": broker_api,
                    "/%2F/": f"/{parts.path.removeprefix('/')}/",
                    ".data/sandbox": str(data),
                },
            )
        finally:
            _stop(process)


def _starting_command() -> str:
    (block,) = (block for block in blocks(ROOT / "README.md") if block.words == STARTING)
    return block.text.strip()


def _wait_until_ready(process: "subprocess.Popen[str]", folder: Path) -> str:
    """Return the token of the announcement."""
    assert process.stdout is not None
    token = ""
    for line in process.stdout:
        word, _, rest = line.strip().partition(" ")
        token = rest if word == "token" else token
        if word == "ready":
            return token
    raise AssertionError(f"the sandbox did not start: {(folder / 'sandbox.log').read_text()}")


def _database_url(data: Path) -> str:
    """Where the commands find the sandbox's database: as the application's role."""
    postgres = data / "postgres"
    port = (postgres / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    password = msgspec.json.decode((postgres / "passwords.json").read_bytes())["ledger_app"]
    return f"postgresql://ledger_app:{password}@127.0.0.1:{port}/notification_ledger"


def _stop(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
