from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ops.reloading import AGAIN_AFTER, AWS_CREDENTIALS, Reloading, aws_file
from ops.settings import Settings, files, load

NAMES = ("TWILIO_AUTH_TOKEN", "SMTP_URL", "LOG_LEVEL")
FIRST = ("first-token", "smtp://user:first@relay:587", "info")


class Process:
    """A process that reads each of these from a file, and keeps what it was handed on."""

    def __init__(self, folder: Path, *, again_after: timedelta = AGAIN_AFTER) -> None:
        self.files = {name: folder / name.lower() for name in NAMES}
        for path, text in zip(self.files.values(), FIRST, strict=True):
            path.write_text(text)
        environment = {f"{name}_FILE": str(path) for name, path in self.files.items()}
        self.registry = CollectorRegistry()
        self.reloading = Reloading(
            load(environment, dotenv=None), files(environment, dotenv=None), self.registry, again_after=again_after
        )
        self.tokens: list[str] = []
        self.refusals: list[Exception] = []
        self.reloading.on("twilio_auth_token", self._check)
        self.reloading.on("twilio_auth_token", lambda settings: self.tokens.append(settings.twilio_auth_token))

    async def _check(self, _: Settings) -> None:
        if self.refusals:
            raise self.refusals.pop()

    @property
    def token(self) -> Path:
        return self.files["TWILIO_AUTH_TOKEN"]

    async def looks(self, times: int = 2) -> None:
        for _ in range(times):
            await self.reloading.look()

    def counted(self, what: str, setting: str = "TWILIO_AUTH_TOKEN") -> float:
        return self.registry.get_sample_value(f"notification_settings_{what}", {"setting": setting}) or 0


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


async def test_a_list_in_which_nothing_stands_is_not_taken_over(process: Process):
    """With no token at all every report would be refused, and not come again."""
    process.token.write_text(" , ")
    await process.looks()
    assert process.tokens == []
    assert process.counted("reload_failures_total") == 1


async def test_a_file_that_stays_as_it_was_is_handed_on_to_nobody(process: Process):
    await process.looks(5)
    process.token.write_text("first-token\n")
    await process.looks(5)
    assert process.tokens == []
    assert process.counted("reloads_total") == 0


def rewritten(path: Path) -> None:
    path.write_text("second-token")


def renamed(path: Path) -> None:
    beside = path.with_suffix(".new")
    beside.write_text("second-token")
    beside.replace(path)


def gone_meanwhile(path: Path) -> None:
    path.unlink()
    path.write_text("second-token")


@pytest.mark.parametrize("replace", [rewritten, renamed, gone_meanwhile])
async def test_a_changed_secret_is_handed_on_once_however_its_file_was_replaced(
    process: Process, replace: Callable[[Path], None]
):
    replace(process.token)
    await process.looks(5)
    assert process.tokens == ["second-token"]
    assert process.reloading.settings.twilio_auth_token == "second-token"
    assert (process.counted("reloads_total"), process.counted("reload_failures_total")) == (1, 0)


async def test_a_folder_that_kubernetes_swaps_is_seen(tmp_path: Path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"{name}-token")
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "token").symlink_to("..data/token")
    environment = {"TWILIO_AUTH_TOKEN_FILE": str(tmp_path / "token")}
    watched = Reloading(load(environment, dotenv=None), files(environment, dotenv=None), CollectorRegistry())
    (tmp_path / "..data_tmp").symlink_to("new")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    for _ in range(2):
        await watched.look()
    assert watched.settings.twilio_auth_token == "new-token"


async def test_what_is_still_being_written_is_not_taken(process: Process):
    for part in ("sec", "second", "second-tok", "second-token"):
        process.token.write_text(part)
        await process.looks(1)
    assert process.tokens == []
    await process.looks(1)
    assert process.tokens == ["second-token"]


async def test_a_file_that_is_gone_for_a_moment_is_no_failure(process: Process):
    process.token.unlink()
    await process.looks(1)
    process.token.write_text("first-token")
    await process.looks(3)
    assert (process.tokens, process.counted("reload_failures_total")) == ([], 0)


def emptied(path: Path) -> None:
    path.write_text(" \n")


def removed(path: Path) -> None:
    path.unlink()


def garbled(path: Path) -> None:
    path.write_bytes(b"s3cret\xff\xfe")


@pytest.mark.parametrize("spoil", [emptied, removed, garbled])
async def test_a_file_without_a_value_keeps_the_old_one_and_is_counted(process: Process, spoil: Callable[[Path], None]):
    with capture_logs() as logs:
        spoil(process.token)
        await process.looks(5)
    assert process.tokens == []
    assert process.reloading.settings.twilio_auth_token == "first-token"
    assert process.counted("reload_failures_total") == 1
    assert [(one["event"], one["setting"]) for one in logs] == [("setting_not_reloaded", "TWILIO_AUTH_TOKEN")]


async def test_a_faulty_value_is_named_by_its_setting_alone_and_hinders_no_other(process: Process):
    with capture_logs() as logs:
        process.files["SMTP_URL"].write_text("http://user:s3cret@relay")
        process.token.write_text("second-token")
        await process.looks()
    assert process.tokens == ["second-token"]
    assert process.reloading.settings.smtp_url == FIRST[1]
    assert (process.counted("reload_failures_total", "SMTP_URL"), process.counted("reloads_total")) == (1, 1)
    assert "SMTP_URL must be smtp://" in str(logs)
    assert "s3cret" not in str(logs)
    assert "second-token" not in str(logs)


async def test_a_value_that_cannot_be_used_is_tried_again_until_it_can(tmp_path: Path):
    process = Process(tmp_path, again_after=timedelta(0))
    process.refusals = [ConnectionRefusedError("s3cret"), ConnectionRefusedError("s3cret")]
    process.token.write_text("second-token")
    with capture_logs() as logs:
        await process.looks(3)
        assert process.tokens == []
        await process.looks(2)
    assert process.tokens == ["second-token"]
    assert (process.counted("reload_failures_total"), process.counted("reloads_total")) == (2, 1)
    assert "s3cret" not in str(logs)


async def test_what_takes_a_restart_says_so_until_its_file_is_as_it_was(process: Process):
    process.files["LOG_LEVEL"].write_text("debug")
    with capture_logs() as logs:
        await process.looks(5)
    assert [(one["event"], one["setting"]) for one in logs] == [("setting_takes_a_restart", "LOG_LEVEL")]
    assert process.counted("restart_needed", "LOG_LEVEL") == 1
    assert process.reloading.settings.log_level == "info"
    process.files["LOG_LEVEL"].write_text("info")
    await process.looks()
    assert process.counted("restart_needed", "LOG_LEVEL") == 0


async def test_a_secret_that_was_not_given_at_the_start_takes_a_restart(tmp_path: Path):
    path = tmp_path / "smtp"
    path.write_text("")
    environment = {"SMTP_URL_FILE": str(path)}
    registry = CollectorRegistry()
    watched = Reloading(load(environment, dotenv=None), files(environment, dotenv=None), registry)
    path.write_text(FIRST[1])
    for _ in range(2):
        await watched.look()
    given = {"setting": "SMTP_URL"}
    assert registry.get_sample_value("notification_settings_restart_needed", given) == 1
    assert watched.settings.smtp_url == ""


async def test_a_file_that_changed_between_the_start_and_the_first_look_is_taken(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("first-token")
    environment = {"TWILIO_AUTH_TOKEN_FILE": str(path)}
    settings = load(environment, dotenv=None)
    path.write_text("second-token")
    watched = Reloading(settings, files(environment, dotenv=None), CollectorRegistry())
    for _ in range(2):
        await watched.look()
    assert watched.settings.twilio_auth_token == "second-token"


async def test_the_credentials_file_of_the_aws_sdk_is_looked_at_where_it_is_named(tmp_path: Path):
    path = tmp_path / "aws"
    path.write_text("old")
    named = aws_file({"AWS_SHARED_CREDENTIALS_FILE": str(path)})
    assert (named, aws_file({})) == ({AWS_CREDENTIALS: path}, {})
    watched, told = Reloading(Settings(), named, CollectorRegistry()), []
    watched.on(AWS_CREDENTIALS, lambda _: told.append("changed"))
    path.write_text("new")
    for _ in range(3):
        await watched.look()
    assert told == ["changed"]
