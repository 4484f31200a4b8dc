import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import msgspec
import psycopg
import pytest

from ledger.values import Channel, Mail
from ops import embedded
from ops.settings import load as load_settings
from ops.wiring import prices_of
from templates.catalogue import CATALOGUE, load
from templates.declarations import CatalogueError
from templates.examining import examine_folder
from templates.files import MESSAGES
from templates.rendering import Renderer
from tests.docs.pages import DOCS, blocks

DEPLOY, SES, ADD, CAPS = (
    DOCS / "how-to" / name for name in ("deploy.md", "ses-setup.md", "add-a-message.md", "spend-caps.md")
)


def texts(page: Path, *words: str) -> list[str]:
    return [block.text for block in blocks(page) if block.words == words]


def test_the_roles_and_the_migration_of_the_page_make_a_database_that_works(
    own_postgres: embedded.Server, tmp_path: Path
):
    """Its own names for roles and database: the server has those of the page already."""
    address = urlsplit(own_postgres.superuser_url)
    renamed = {
        "ledger_owner": "pages_owner",
        "ledger_app": "pages_app",
        "notification_ledger": "pages",
        "@localhost/": f"@{address.hostname}:{address.port}/",
    }
    (roles,), (making_a_key, commands) = texts(DEPLOY, "sql"), texts(DEPLOY, "sh", "migrate")
    for written, ours in renamed.items():
        roles, commands = roles.replace(written, ours), commands.replace(written, ours)
    with psycopg.connect(own_postgres.superuser_url, autocommit=True) as connection:
        for statement in filter(str.strip, roles.split(";")):
            connection.execute(statement.encode())
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "APPLICATION_ROLE": "pages_app"}
    applied = bash(making_a_key + commands, folder=tmp_path, environment=environment)
    assert "applied 0001_ledger.pre.sql" in applied
    again = bash(commands, folder=tmp_path, environment=environment)
    assert again == "up to date\n"
    application = f"postgresql://pages_app:choose-another@{address.hostname}:{address.port}/pages"
    with psycopg.connect(application) as connection:
        assert connection.execute("SELECT name FROM ledger.installation").fetchone() == ("production",)


def bash(commands: str, *, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-eu", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


AWS_CALLS = [call for text in texts(SES, "sh", "aws") for call in re.split(r"(?m)(?:^|\$\()aws ", text)[1:]]
# What the AWS command line calls otherwise than the API does, and what is the command line's own.
RENAMED = {"notificationendpoint": "endpoint"}
OWN = {"query", "output"}


@pytest.mark.parametrize("call", AWS_CALLS, ids=lambda call: " ".join(call.split()[:2]))
def test_the_commands_for_aws_are_those_of_its_api(call: str):
    service, command, *words = shlex.split(call.replace("\\\n", " ").strip().removesuffix(")"))
    model = botocore.session.get_session().get_service_model(service).operation_model(pascal(command))
    members = {name.lower(): name for name in model.input_shape.members}
    given = {member(option): value for option, value in zip(words[::2], words[1::2], strict=True)}
    for name, value in given.items():
        shape = model.input_shape.members[members[name]] if name not in OWN else None
        if shape is not None and shape.type_name == "structure":
            check_structure(shape, msgspec.json.decode(value))
    assert {name.lower() for name in model.input_shape.required_members} <= given.keys()


def member(option: str) -> str:
    name = option.removeprefix("--").replace("-", "")
    return RENAMED.get(name, name)


def pascal(words: str) -> str:
    return "".join(word.capitalize() for word in words.split("-"))


def check_structure(shape: Any, value: dict[str, Any]) -> None:
    for name, inner in value.items():
        member = shape.members[name]
        if isinstance(inner, dict):
            check_structure(member, inner)
        elif isinstance(inner, list):
            assert set(inner) <= set(member.member.enum)


def test_a_message_that_is_added_as_the_page_says_becomes_a_mail(tmp_path: Path):
    messages = tmp_path / "messages"
    shutil.copytree(MESSAGES, messages)
    folder = messages / "parcel_ready" / "en"
    folder.mkdir(parents=True)
    for name in ("subject.txt", "body.txt", "body.html"):
        (text,) = texts(ADD, "jinja", name)
        (folder / name).write_text(text)
    (sample,) = texts(ADD, "json", "sample")
    now = datetime.now(UTC)
    body = msgspec.json.encode(msgspec.json.decode(sample) | {"timestamp": now.isoformat()})

    with pytest.raises(CatalogueError, match="references"):
        load(catalogue_with(tmp_path, ""), messages=messages)
    known = load(catalogue_with(tmp_path, "      parcelId: id\n"), messages=messages)
    _, (wanted,) = known.read(body, now=now, channels={Channel.EMAIL})
    assert wanted.channel is Channel.EMAIL
    assert wanted.references == {"parcel": "parcel-1"}
    renderer = Renderer(sender=known.sender, messages=messages)
    content = renderer.render(wanted.template, wanted.channel, locale=wanted.locale, personal=wanted.personal).content
    assert isinstance(content, Mail)
    assert content.subject == "Your parcel is ready at High Street"
    assert '<p style="margin: 0 0 16px">Your parcel is ready at High Street.</p>' in content.html
    assert "Your parcel is ready at High Street." in content.text
    assert dict(examine_folder(messages, known))["parcel_ready"].faults == []


def test_the_prices_and_caps_of_the_page_go_together(tmp_path: Path):
    (written,), (caps,) = texts(CAPS, "yaml"), texts(CAPS, "text")
    path = tmp_path / "prices.yaml"
    path.write_text(written)
    settings = load_settings({"PRICES": str(path), "SPEND_CAPS": caps.strip().removeprefix("SPEND_CAPS=")}, dotenv=None)
    assert prices_of(settings).currency == "USD"
    assert len(settings.caps()) == 3


def catalogue_with(folder: Path, more_data: str) -> Path:
    """The shipped catalogue with the page's entries in their places."""
    (notification,), (message,) = texts(ADD, "yaml", "notification"), texts(ADD, "yaml", "message")
    notification = notification.replace("    data:\n", f"    data:\n{more_data}")
    shipped = CATALOGUE.read_text("utf-8")
    path = folder / "catalogue.yaml"
    path.write_text(
        shipped.replace("\nnotifications:\n", f"\nnotifications:\n{notification}").replace(
            "\nmessages:\n", f"\nmessages:\n{message}"
        )
    )
    return path
