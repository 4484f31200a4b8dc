"""What a process writes when it logs: one JSON object a line, and in none what an error or a library would repeat."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.service import ROOT

SECRET = "ada@example.com"
PROGRAM = f"""
import asyncio, logging, structlog
from uuid import UUID
from ops.logs import configure

configure("debug")
log = structlog.get_logger("the.module")
structlog.contextvars.bind_contextvars(notification_id="n-1", correlation_id="c-1")
log.info("plain", provider="ses", id=UUID(int=1), whatever=object(), words="Grüße")
log.info("half", text="\\ud800")

def fails():
    raise KeyError("{SECRET}")

try:
    try:
        fails()
    except KeyError as error:
        raise ValueError("{SECRET}") from error
except ValueError:
    log.warning("went_wrong", exc_info=True)
library = logging.getLogger("a.library")
library.warning("no connection to %s", "{SECRET}")
library.error("no connection to {SECRET}", exc_info=KeyError("{SECRET}"))
library.info("below: %s", "{SECRET}")

async def forgets():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

asyncio.run(forgets())
raise RuntimeError("{SECRET}")
"""


@pytest.fixture(scope="module")
def ran() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def lines(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_each_line_is_an_object_that_begins_with_what_people_look_for(lines: list[dict[str, Any]]):
    plain = lines[0]
    names = ["timestamp", "level", "event", "logger", "correlation_id", "notification_id"]
    assert list(plain)[:6] == names
    assert [plain[name] for name in names[1:]] == ["info", "plain", "the.module", "c-1", "n-1"]
    assert plain["timestamp"].endswith("Z")


def test_a_value_that_json_does_not_know_is_told_by_its_type(lines: list[dict[str, Any]]):
    assert (lines[0]["id"], lines[0]["whatever"]) == ("00000000-0000-0000-0000-000000000001", "(object)")


def test_no_line_is_lost_for_the_letters_in_it(lines: list[dict[str, Any]]):
    assert (lines[0]["words"], lines[1]["text"]) == ("Grüße", "\ud800")


def test_i18_an_error_is_told_by_its_type_and_the_way_to_it(lines: list[dict[str, Any]]):
    (line,) = [one for one in lines if one["event"] == "went_wrong"]
    assert (line["error"], line["caused_by"]) == ("ValueError", "KeyError")
    assert [frame.partition(":")[0] for frame in line["stack"]] == ["__main__"]


def test_i18_of_a_library_the_wording_of_its_code_is_told_and_not_what_it_puts_in(lines: list[dict[str, Any]]):
    told = [(one["event"], one["level"], one.get("error")) for one in lines if one["logger"] == "a.library"]
    assert told == [("no connection to %s", "warning", None), ("said_by_a_library", "error", "KeyError")]


def test_i18_what_nobody_caught_in_the_loop_is_told_by_its_type(lines: list[dict[str, Any]]):
    (line,) = [one for one in lines if one["logger"] == "asyncio"]
    assert (line["event"], line["error"]) == ("said_by_a_library", "ZeroDivisionError")


def test_i18_what_ends_a_process_is_told_in_the_same_way(
    ran: subprocess.CompletedProcess[str], lines: list[dict[str, Any]]
):
    assert (lines[-1]["event"], lines[-1]["level"], lines[-1]["error"]) == (
        "process_failed",
        "critical",
        "RuntimeError",
    )
    assert (ran.returncode, ran.stderr) == (1, "")


def test_i18_no_text_of_an_error_or_a_library_is_written(ran: subprocess.CompletedProcess[str]):
    assert SECRET not in ran.stdout + ran.stderr
