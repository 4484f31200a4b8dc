from pathlib import Path

import pytest

from tests.support import debian


def test_a_program_that_is_not_on_the_path_is_missing_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian.missing() == list(debian.PACKAGES.values())
    (tmp_path / "promtool").touch(mode=0o755)
    assert "prometheus" not in debian.missing()


def test_the_line_for_a_person_names_each_package():
    assert debian.command(["prometheus", "buildah"]).endswith(" prometheus buildah")
