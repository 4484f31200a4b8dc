import asyncio
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ops import compose, embedded
from ops.roles import ROLES
from ops.secrets import Secrets, secrets_in
from ops.settings import Settings, load, require
from providers.fakes.fcm_access import Account
from tests.acceptance.traffic import declared, message, publish
from tests.deployment import checkers
from tests.support import ports
from tests.support import service as processes
from tests.support.rabbitmq import Broker
from tests.support.service import CLI, SOON, Process, Service

ROOT = Path(__file__).parents[2]
STACK: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: Mapping[str, Any] = STACK["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("build")}
FOREIGN = {name: service for name, service in SERVICES.items() if not service.get("build")}
FAKES = {"ses", "twilio", "fcm"}
SECRETS = "/run/secrets"
# What is not ours to name: the login that the SDK of AWS looks for.
OF_THE_SDK = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
LISTENING = {"api": 8080, "ses": 8081, "twilio": 8084, "fcm": 8085}


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    folder = tmp_path / "drawn"
    compose.draw(folder)
    return folder


def test_the_file_has_no_fault_that_its_schema_knows():
    ended = checkers.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert ended.returncode == 0, ended.stdout


def test_each_role_has_a_container_of_its_own():
    assert set(OURS) == {*ROLES, *FAKES, "migrate"}
    assert {name: OURS[name]["command"] for name in ROLES} == {name: [name] for name in ROLES}


def test_every_image_of_others_is_pinned_by_tag_and_digest():
    for service in FOREIGN.values():
        name, _, digest = service["image"].partition("@sha256:")
        assert ":" in name
        assert len(digest) == 64


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_runs_with_nothing_to_write_to_and_no_right(name: str):
    service = OURS[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str):
    given = {variable.removesuffix("_FILE") for variable in OURS[name].get("environment", {})}
    assert given - OF_THE_SDK <= {field.upper() for field in Settings.__struct_fields__}


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_each_role_is_given_what_it_requires(name: str, drawn: Path, tmp_path: Path):
    given = environment(name, {SECRETS: str(drawn), "/run/fcm": str(tmp_path)})
    (tmp_path / "credentials.json").write_text(Account("sandbox").credentials("http://fcm:8085"))
    require(load(given, dotenv=None), [name])


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_container_is_given_is_drawn_or_lies_in_the_repository(name: str, drawn: Path):
    service = SERVICES[name]
    secrets = [one if isinstance(one, str) else one["source"] for one in service.get("secrets", [])]
    files = [Path(STACK["secrets"][secret]["file"]) for secret in secrets]
    assert [file for file in files if file.parent != Path(".data/compose") or not (drawn / file.name).exists()] == []
    mounted = [volume.split(":")[0] for volume in service.get("volumes", [])]
    assert [path for path in mounted if path.startswith(".") and not (ROOT / path).exists()] == []
    assert {path for path in mounted if not path.startswith(".")} <= set(STACK["volumes"])
    named = [str(value) for value in service.get("environment", {}).values() if str(value).startswith(SECRETS)]
    assert {Path(value).name for value in named} <= set(secrets)


def test_secrets_are_drawn_once_and_their_folder_is_its_owners(drawn: Path):
    before = {path.name: path.read_bytes() for path in drawn.iterdir()}
    assert not compose.draw(drawn)
    assert {path.name: path.read_bytes() for path in drawn.iterdir()} == before
    assert stat.S_IMODE(drawn.stat().st_mode) == 0o700


def test_the_users_of_the_containers_may_read_what_is_drawn_however_careful_the_shell_is(tmp_path: Path):
    before = os.umask(0o077)
    try:
        compose.draw(tmp_path / "drawn")
    finally:
        os.umask(before)
    kept = {path.name for path in (tmp_path / "drawn").iterdir() if not path.stat().st_mode & stat.S_IROTH}
    # Only the sandbox's own file, which no container is given.
    assert kept == {"secrets.json"}


def test_every_port_is_for_this_machine_alone():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


async def test_the_stack_does_the_main_job(own_postgres: embedded.Server, broker: Broker, drawn: Path, tmp_path: Path):
    """Its own commands with its own settings, as processes; only the names of hosts are those of this machine."""
    (drawn / "database-url").write_text(own_postgres.database_url)
    (drawn / "migration-database-url").write_text(own_postgres.migration_database_url)
    (drawn / "amqp-url").write_text(broker.url)
    here = {name: ports.free() for name in (*FAKES, "api")}
    instead = {SECRETS: str(drawn), "/run/fcm": str(tmp_path)}
    instead |= {f"http://{name}:{port}": f"http://127.0.0.1:{here[name]}" for name, port in LISTENING.items()}
    service = Service(tmp_path, processes._inherited())

    def launch(name: str) -> Process:
        program, *arguments = (replaced(word, instead) for word in command(name))
        if name in FAKES:
            arguments[:4] = ["--host", "127.0.0.1", "--port", str(here[name])]
        return service.launch(*arguments, program=program, PORT=str(here["api"]), **environment(name, instead))

    try:
        assert await launch("migrate").ended() == 0
        for name in FAKES:
            await launch(name).says("ready ")
        for role in ROLES:
            launch(role)
        for process in service.processes[-len(ROLES) :]:
            await process.says('"event":"ready"')
        await declared(broker.url)
        shipped = message("OrderShippedEvent")
        await publish(broker.url, [shipped])
        await delivered(f"http://127.0.0.1:{here['api']}", secrets_in(drawn), shipped["messageId"])
        await service.stop_all()
    finally:
        service.kill_all()


async def delivered(url: str, secrets: Secrets, message_id: str) -> None:
    """Wait until all that a message asked for has arrived, as the providers' reports say; this person has no phone."""
    headers = {"Authorization": f"Bearer {secrets.token(subject='test', now=time.time())}"}
    deadline = time.monotonic() + SOON.total_seconds()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        shown: list[tuple[str, str]] = []
        while shown != [("email", "delivered"), ("push", "suppressed"), ("sms", "delivered")]:
            assert time.monotonic() < deadline, shown
            await asyncio.sleep(0.2)
            answer = await client.get("/v1/notifications", params={"message_id": message_id})
            shown = sorted((one["channel"], one["status"]) for one in answer.json()["notifications"])


def environment(name: str, instead: Mapping[str, str]) -> dict[str, str]:
    """What a container has in its environment."""
    given = OURS[name].get("environment", {})
    return {variable: replaced(str(value), instead) for variable, value in given.items()}


def command(name: str) -> list[str]:
    """The module that a container runs, and its arguments."""
    entrypoint = OURS[name].get("entrypoint")
    return [*(entrypoint[2:] if entrypoint else [CLI]), *OURS[name]["command"]]


def replaced(text: str, instead: Mapping[str, str]) -> str:
    for written, ours in instead.items():
        text = text.replace(written, ours)
    return text
