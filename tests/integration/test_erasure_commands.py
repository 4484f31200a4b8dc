"""Erasing at a terminal, and the list of erasures on its way from one database to one that was restored."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from tests.integration.ledger import lives
from tests.integration.ledger.parts import IDENTITY, running_ledger
from tests.support.postgres import Database, fresh_database, template
from tests.support.service import Service

ADA = "ada@example.com"
WHY = ("--reason", "asked for by letter")
SINCE = ("--since", "2026-01-02T03:04:05+0000")


@pytest.fixture
def restored(postgres_url: str) -> Iterator[Database]:
    """Another database, which knows what was before."""
    with fresh_database(postgres_url, template(postgres_url)) as fresh:
        yield fresh


async def said(service: Service, *arguments: str, **settings: str) -> tuple[int, str]:
    process = service.launch(*arguments, **settings)
    return await process.ended(), process.log()


async def asked(database: Database) -> None:
    """Ada is to be told of something, once by her id, and once by her address alone."""
    address_hash = IDENTITY.address_hash(ADA)
    async with running_ledger(database.url) as ledger:
        await lives.begin(ledger, recipient="user:ada", user_id="ada", address_hash=address_hash)
        await lives.begin(ledger, recipient=f"address:{address_hash}", address_hash=address_hash)


def keyed(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        return len(connection.execute("SELECT FROM ledger.recipient_key").fetchall())


async def test_i19_a_person_is_erased_at_a_terminal_and_again_is_once(service: Service, database: Database):
    await asked(database)
    code, told = await said(service, "erase", "ada", *WHY)
    at, with_them, shared = told.splitlines()
    assert (code, at.startswith("erased at 2")) == (0, True)
    assert with_them == "known by their address alone, and erased with them: 1"
    assert shared == "addresses that somebody else has, too, and that stay: 0"
    assert keyed(database) == 0
    code, again = await said(service, "erase", "ada", "--address", ADA, *WHY, "--json")
    assert (code, msgspec.json.decode(again)["addresses"]) == (0, 0)
    code, told = await said(service, "erase", "--address", ADA, *WHY)
    assert (code, told.splitlines()[0]) == (0, at)
    assert await said(service, "erase", "nobody", *WHY) == (0, "nothing is known of this person\n")
    listed = (await said(service, "erasures"))[1].splitlines()
    assert [line.split()[0].split(":")[0] for line in sorted(listed)] == ["address", "user"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (WHY, "name a USER, or an --address"),
        (("ada", "--reason", ""), "--reason must be 1 to 200 printable characters"),
        (("a\tb", *WHY), "USER must be 1 to 200 printable characters"),
        (("ada", "--address", "secret", *WHY), "--address must be an e-mail address, or a phone number"),
    ],
)
async def test_whom_nobody_can_be_meant_by_is_one_clear_line(service: Service, arguments: tuple[str, ...], fault: str):
    code, told = await said(service, "erase", *arguments)
    assert code == 1
    assert told.startswith(f"Error: {fault}")
    assert len(told.splitlines()) == 1
    assert "secret" not in told


async def test_i19_recover_erases_again_who_is_in_a_file(
    service: Service, database: Database, restored: Database, tmp_path: Path
):
    for one in (database, restored):
        await asked(one)
    await said(service, "erase", "ada", *WHY)
    file = tmp_path / "erasures.json"
    file.write_text((await said(service, "erasures", "--json"))[1])

    recover = ("recover", *SINCE)
    code, told = await said(service, *recover, "--dry-run", DATABASE_URL=restored.url)
    assert (code, "erased since the backup: not known" in told) == (0, True), told
    code, told = await said(service, *recover, "--erasures", str(file), "--dry-run", DATABASE_URL=restored.url)
    assert (code, keyed(restored), "erased since the backup: 2 people" in told) == (0, 2, True), told
    for people in (2, 0):
        code, told = await said(service, *recover, "--erasures", str(file), DATABASE_URL=restored.url)
        assert (code, keyed(restored), f"erased since the backup: {people} people" in told) == (0, 0, True), told


async def test_a_file_that_lists_no_erasures_is_one_clear_line_and_nothing_is_recovered(
    service: Service, database: Database, tmp_path: Path
):
    file = tmp_path / "erasures.json"
    file.write_text("[{]")
    code, told = await said(service, "recover", *SINCE, "--erasures", str(file))
    assert (code, told) == (1, f"Error: {file} is no list of erasures\n")
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT FROM ledger.recovery").fetchall() == []
