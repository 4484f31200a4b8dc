import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_distribution_needs_what_run_in_lists():
    assert sorted(PROJECT["dependencies"]) == sorted(_names("run.in"))


def test_the_sandbox_extra_is_in_sandbox_in():
    assert set(PROJECT["optional-dependencies"]["sandbox"]) <= set(_names("sandbox.in"))


@pytest.mark.parametrize("name", ["install", "build", "run", "sandbox", "dev", "checkers"])
def test_every_pin_has_its_hashes_and_no_file_names_an_index(name: str):
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    pins = re.findall(r"^[a-z0-9].*(?:\n[ ]+--hash=.*)*", text, flags=re.MULTILINE | re.IGNORECASE)
    assert pins
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def _names(file: str) -> list[str]:
    lines = (REQUIREMENTS / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]
