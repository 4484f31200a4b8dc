import asyncio
import subprocess
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from ops.secrets import AUDIENCE, ISSUER, secrets_in
from providers.fakes.ses import TOPIC, FakeSes
from tests.acceptance.traffic import message
from tests.deployment import checkers, image
from tests.deployment.image import GIVEN, ROOT, Image
from tests.support import ports
from tests.support.postgres import Database
from tests.support.service import SHARED, SOON, until

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAMS = ("bin", "usr/bin", "usr/local/bin", "opt/notification-ledger/bin")
UNWANTED = ("pip*", "cc", "gcc*", "uv")
SECONDS = 120


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    assert checkers.run("hadolint", "Dockerfile").stdout == ""


def test_the_dockerfile_has_no_fault_that_checkov_knows():
    ended = checkers.run("checkov", "--skip-download", "--framework", "dockerfile", "--file", "Dockerfile", "--quiet")
    assert ended.returncode == 0, ended.stdout


def test_the_image_is_built_of_what_the_distribution_is():
    """What the build gets to see; what else lies in a checkout, a .env say, stays out of it."""
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    files = {"pyproject.toml", "README.md", "requirements/build.txt", "requirements/run.txt"}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == packages | files


@pytest.fixture
def built() -> Iterator[Image]:
    with image.built() as built:
        yield built


@pytest.fixture
async def provider() -> AsyncIterator[tuple[FakeSes, int]]:
    """An SES whose events go to an API that is not there yet, and the port where it is awaited."""
    port = ports.free()
    fake = await FakeSes.start(callback_url=f"http://127.0.0.1:{port}/callbacks/ses", topic=TOPIC)
    yield fake, port
    await fake.stop()


async def test_the_image_does_the_main_job_as_uid_10001_on_a_read_only_root(
    built: Image, database: Database, provider: tuple[FakeSes, int], tmp_path: Path
):
    """One test for all that is asked of the image: it takes a minute to build."""
    fake, port = provider
    log, given = tmp_path / "log", tmp_path / "given"
    given.mkdir()
    secrets = secrets_in(tmp_path)
    (given / "jwks.json").write_bytes(msgspec.json.encode(secrets.public_keys()))
    settings = SHARED | {
        "DATABASE_URL": database.url,
        "MIGRATION_DATABASE_URL": database.owner_url,
        "SES_ENDPOINT_URL": fake.url,
        "SES_CERTIFICATE_ORIGIN": fake.url,
        "SES_TOPIC_ARNS": TOPIC,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_JWKS_URL": f"file://{GIVEN}/jwks.json",
        "PORT": str(port),
        "OPS_PORT": str(ports.free()),
    }

    def start(*command: str) -> "subprocess.Popen[bytes]":
        return built.launch(*command, given=given, settings=settings, log=log)

    def run(*command: str) -> int:
        return start(*command).wait(timeout=SECONDS)

    holds_what_runs_and_nothing_else(built)
    assert run("touch", "/here", "/tmp/here", "/opt/notification-ledger/here") == 1
    assert log.read_text().count("Read-only file system") == 3
    entrypoint, probe = built.config["Entrypoint"], built.config["Healthcheck"]["Test"][1:]
    assert run(*entrypoint, "migrate") == 0
    assert "up to date" in log.read_text()

    service = start(*entrypoint, *built.config["Cmd"])
    await until(lambda: '"event":"ready"' in log.read_text() or service.poll() is not None, "the service")
    assert service.poll() is None, log.read_text()
    assert identity(image.inner(service)) == {"Uid": "10001", "Gid": "10001", "CapEff": "0" * 16, "NoNewPrivs": "1"}
    assert run(*probe) == 0
    token = secrets.token(subject="test", now=time.time())
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as client:
        posted = await client.post("/v1/messages", json=message("PasswordResetRequestedEvent"))
        assert posted.status_code == 202
        (made,) = posted.json()["notifications"]
        await status(client, made["id"], "delivered")
    assert len(fake.requests) == 1

    assert image.ask_to_end(service) == 0
    assert run(*probe) != 0


def holds_what_runs_and_nothing_else(built: Image) -> None:
    config, packages = built.config, built.files / "opt/notification-ledger"
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.revision"] == image.REVISION
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9090/tcp"}
    assert not config.get("Volumes")
    assert [path for folder in PROGRAMS for name in UNWANTED for path in (built.files / folder).glob(name)] == []
    assert [path.name for path in packages.glob("lib/python3*/site-packages/pip*")] == []
    assert [path for path in packages.glob("lib/**/*.py") if not compiled(path)] == []


def compiled(source: Path) -> bool:
    return any((source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"))


def identity(process: int) -> dict[str, str]:
    """Who a process is and what it may do, seen from outside."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    told = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.strip()}
    return {name: told[name] for name in ("Uid", "Gid", "CapEff", "NoNewPrivs")}


async def status(client: httpx.AsyncClient, notification: str, wanted: str) -> None:
    deadline = time.monotonic() + SOON.total_seconds()
    while (shown := (await client.get(f"/v1/notifications/{notification}")).json()["status"]) != wanted:
        assert time.monotonic() < deadline, f"it is {shown}"
        await asyncio.sleep(0.1)
