import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli import main
from templates.catalogue import load
from templates.files import MESSAGES

GOLDEN = Path(__file__).parent / "templates" / "golden"
CATALOGUE = """
sender: Example Shop <shop@shop.example>
locale: en
notifications:
  welcome: {category: transactional, lane: normal, doubt: resend, channels: [email]}
  two_factor_code:
    {category: security, lane: urgent, doubt: resend, channels: [sms], data: {code: line}}
messages:
  UserRegisteredEvent: [{notification: welcome, recipient: payload.userId}]
"""


def lint(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["templates", "lint", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some of our templates."""
    for name in ("_shared", "welcome", "two_factor_code"):
        shutil.copytree(MESSAGES / name, tmp_path / "messages" / name)
    return tmp_path / "messages"


@pytest.fixture
def of(folder: Path) -> tuple[Path, str, Path]:
    catalogue = folder.parent / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    return folder, "--catalogue", catalogue


def test_ours_are_in_order_in_every_language_and_say_what_is_kept():
    """After a change that is meant: `make golden`, and look at what it changed."""
    said = lint("--golden", GOLDEN)
    assert (said.exit_code, said.output) == (0, "")
    kept = {path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.rglob("*.txt")}
    assert kept == {
        f"{kind.template}/{locale}/{channel}"
        for kind in load().kinds.values()
        for channel in kind.every_channel
        for locale in ("en", "fr")
    }


def test_each_fault_and_warning_is_a_line_and_faults_fail_the_command(folder: Path, of: tuple[Path, str, Path]):
    (folder / "welcome" / "en" / "body.txt").write_text("Hello\n{{ nmae }} http://shop.example\n")
    (folder / "two_factor_code" / "fr" / "sms.txt").write_text("{{ code }} \N{LATIN SMALL LETTER E WITH CIRCUMFLEX}")
    shutil.copytree(folder / "welcome", folder / "goodbye")
    said = lint(*of)
    assert said.exit_code == 1
    assert said.output.splitlines() == [
        "warning goodbye: no notification of the catalogue is said by it (unused)",
        "warning two_factor_code/fr/sms.txt: has \N{LATIN SMALL LETTER E WITH CIRCUMFLEX} (not-gsm7)",
        "fault welcome/en/body.txt:2: links by http: write https (http-link)",
        "fault welcome/en/body.txt:2: nmae is not among the data (undeclared)",
        "Error: faults: 2, golden files that differ: 0",
    ]


def test_warnings_alone_do_not_fail_it(folder: Path, of: tuple[Path, str, Path]):
    (folder / "welcome" / "fr" / "body.txt").unlink()
    said = lint(*of)
    assert said.exit_code == 0
    assert "warning welcome/fr/body.txt: is not there: the text is made from the HTML (text-made)" in said.output


def test_what_is_said_is_held_against_what_is_kept(folder: Path, of: tuple[Path, str, Path], tmp_path: Path):
    golden = tmp_path / "golden"
    assert lint(*of, "--golden", golden, "--keep").exit_code == 0
    assert lint(*of, "--golden", golden).exit_code == 0
    (folder / "_shared" / "mail.css").write_text("p { color: red }")
    said = lint(*of, "--golden", golden)
    assert said.exit_code == 1
    assert "golden welcome/fr/email.txt: says something else\n" in said.output
    assert "+<body>" in said.output
    assert "golden files that differ: 2" in said.output


def test_it_speaks_json(folder: Path, of: tuple[Path, str, Path]):
    (folder / "welcome" / "en" / "subject.txt").write_text("{{ x }}")
    said = lint(*of, "--json")
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
