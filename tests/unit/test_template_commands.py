import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli import main
from templates.files import MESSAGES


def lint(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["templates", "lint", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MESSAGES, tmp_path / "messages"))


def test_ours_pass_without_a_word():
    said = lint()
    assert (said.exit_code, said.output) == (0, "")


def test_each_fault_and_warning_is_a_line_and_faults_fail_the_command(folder: Path):
    (folder / "welcome" / "en" / "body.txt").write_text("Hello\n{{ nmae }} http://shop.example\n")
    (folder / "two_factor_code" / "fr" / "sms.txt").write_text("{{ code }} \N{LATIN SMALL LETTER E WITH CIRCUMFLEX}")
    shutil.copytree(folder / "welcome", folder / "goodbye")
    said = lint(folder)
    assert said.exit_code == 1
    assert said.output.splitlines() == [
        "warning goodbye: no notification of the catalogue is said by it (unused)",
        "warning two_factor_code/fr/sms.txt: has \N{LATIN SMALL LETTER E WITH CIRCUMFLEX} (not-gsm7)",
        "fault welcome/en/body.txt:2: links by http: write https (http-link)",
        "fault welcome/en/body.txt:2: nmae is not among the data (undeclared)",
        "Error: faults: 2, golden files that differ: 0",
    ]


def test_warnings_alone_do_not_fail_it(folder: Path):
    (folder / "welcome" / "fr" / "body.txt").unlink()
    said = lint(folder)
    assert said.exit_code == 0
    assert "warning welcome/fr/body.txt: is not there: the text is made from the HTML (text-made)" in said.output


def test_what_is_said_is_held_against_what_is_kept(folder: Path, tmp_path: Path):
    golden = tmp_path / "golden"
    assert lint(folder, "--golden", golden, "--keep").exit_code == 0
    assert lint(folder, "--golden", golden).exit_code == 0
    (folder / "_shared" / "mail.css").write_text("p { color: red }")
    said = lint(folder, "--golden", golden)
    assert said.exit_code == 1
    assert "golden welcome/fr/email.txt: says something else\n" in said.output
    assert "+<body>" in said.output
    assert "golden files that differ: 32" in said.output


def test_it_speaks_json(folder: Path):
    (folder / "welcome" / "en" / "subject.txt").write_text("{{ x }}")
    said = lint(folder, "--json")
    told = json.loads(said.output.splitlines()[0])
    assert told == {
        "findings": [
            {
                "template": "welcome",
                "fault": True,
                "file": "en/subject.txt",
                "line": 1,
                "rule": "undeclared",
                "message": "x is not among the data",
            }
        ],
        "golden": [],
    }


def test_to_keep_takes_a_folder():
    said = lint("--keep")
    assert (said.exit_code, said.output) == (1, "Error: --keep needs --golden: the folder to keep it in\n")
