"""Templates at a terminal, and from a repository: a folder is published as a whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from templates.files import MESSAGES, version_of
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import Service

NAME = "two_factor_code"
WHY = ("--reason", "a test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MESSAGES, tmp_path / "messages"))


async def said(service: Service, *arguments: object) -> tuple[int, str]:
    """The exit code of a command and all that it has written."""
    process = service.launch("templates", *map(str, arguments), program=processes.CLI)
    return await process.ended(), process.log()


async def listed(service: Service) -> dict[str, Any]:
    code, answer = await said(service, "list", "--json")
    assert code == 0, answer
    return {one["name"]: one for one in msgspec.json.decode(answer)}


def topics(database: Database) -> list[str]:
    with psycopg.connect(database.url) as connection:
        return [row[0] for row in connection.execute("SELECT topic FROM ledger.facts ORDER BY position")]


def write(folder: Path, text: str) -> str:
    """Write another SMS into a folder; returns the version that it would be."""
    (folder / NAME / "en" / "sms.txt").write_text(text)
    return version_of(folder, NAME)


async def test_a_folder_is_pushed_once_and_what_is_said_already_is_left_alone(
    service: Service, database: Database, folder: Path
):
    assert await said(service, "push", folder, *WHY) == (0, "nothing\n")
    version = write(folder, "{{ code }} is your code for {{ brand }}.")
    assert await said(service, "push", folder, *WHY, "--dry-run") == (0, f"would publish {NAME}  {version}\n")
    assert topics(database) == []
    assert await said(service, "push", folder, *WHY) == (0, f"published {NAME}  {version}\n")
    assert await said(service, "push", folder, *WHY) == (0, "nothing\n")
    assert topics(database) == ["template.drafted", "template.published"]
    assert (await listed(service))[NAME]["version"] == version


async def test_a_folder_with_a_fault_is_refused_as_a_whole_and_every_fault_is_named(
    service: Service, database: Database, folder: Path
):
    write(folder, "{{ code }} is your code for {{ brand }}.")
    (folder / "welcome" / "en" / "subject.txt").write_text("{{ nmae }} {{ 10**10**8 }}")
    shutil.copytree(folder / "welcome", folder / "goodbye")
    code, told = await said(service, "push", folder, *WHY)
    assert code == 1
    assert "fault welcome/en/subject.txt:1: nmae is not among the data (undeclared)" in told
    assert "(costly)" in told
    assert "fault goodbye: no notification of the catalogue has such a template" in told
    assert topics(database) == []


async def test_a_version_is_compared_rolled_back_and_published_again(service: Service, folder: Path):
    shipped, version = version_of(MESSAGES, NAME), write(folder, "{{ code }} is your code for {{ brand }}.")
    await said(service, "push", folder, *WHY)
    code, told = await said(service, "diff", NAME, shipped, version)
    assert (code, "+{{ code }} is your code for {{ brand }}." in told.splitlines()) == (0, True)
    assert await said(service, "rollback", NAME, shipped, *WHY) == (0, f"rolled back {NAME}  {shipped}\n")
    assert (await listed(service))[NAME]["version"] == shipped
    assert await said(service, "push", folder, *WHY) == (0, f"published {NAME}  {version}\n")


async def test_a_preview_shows_what_people_read_and_what_is_found(service: Service, tmp_path: Path):
    (tmp_path / "data.json").write_text('{"code": "123456"}')
    code, told = await said(service, "preview", NAME, "--locale", "en", "--data", tmp_path / "data.json")
    assert code == 0
    assert told.startswith("-- sms en, 1 segments\n")
    assert "123456" in told


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("preview", "party"), "no notification of the catalogue has such a template"),
        (("rollback", NAME, "0" * 64, *WHY), "no such version of this template was ever said"),
        (("publish", NAME, "0" * 64, *WHY), "this is not the draft that lies there now: look at it again"),
        (("diff", NAME, "0" * 64, "0" * 64), "nobody has such a version or draft of this template"),
    ],
)
async def test_what_cannot_be_done_is_one_clear_line(service: Service, arguments: tuple[str, ...], fault: str):
    assert await said(service, *arguments) == (1, f"Error: {fault}\n")
