from pathlib import Path

import pytest

from tests.deployment import checkers


def test_a_checker_that_is_not_installed_names_the_line_to_run():
    with pytest.raises(checkers.CheckersMissingError, match=r"run: make \.venv-checkers/stamp"):
        checkers.run("a-checker-that-nobody-wrote")


def test_what_a_checker_finds_is_returned_with_its_words(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN cd /srv\n")
    ended = checkers.run("hadolint", tmp_path / "Dockerfile")
    assert ended.returncode == 1
    assert "DL3006" in ended.stdout
