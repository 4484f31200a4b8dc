"""The commands that look after templates."""

from pathlib import Path

import click
import msgspec

from ops.errors import OperationError
from templates import golden as goldens
from templates.catalogue import load
from templates.drafts import Finding
from templates.examining import examine_folder
from templates.files import MESSAGES
from templates.rules import FAULTS

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def templates() -> None:
    """The templates: what people are told."""


@templates.command()
@click.argument("folder", type=_FOLDER, default=MESSAGES)
@click.option("--catalogue", "file", type=_FILE, help="The catalogue that they belong to, where it is not ours.")
@click.option(
    "--golden", type=click.Path(file_okay=False, path_type=Path), help="Compare what they say with this folder."
)
@click.option("--keep", is_flag=True, help="Write what they say into that folder instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint(folder: Path, file: Path | None, golden: Path | None, *, keep: bool, as_json: bool) -> None:
    """Look through a folder of templates, ours by default, try each with made-up data, and say what is wrong."""
    if keep and golden is None:
        raise OperationError("--keep needs --golden: the folder to keep it in")
    found: list[tuple[str, Finding]] = []
    said: dict[str, str] = {}
    for name, vetted in examine_folder(folder, load(file, messages=folder)):
        found += [(name, finding) for finding in (*vetted.faults, *vetted.warnings)]
        said |= goldens.renderings(name, vetted.previews)
    if golden is not None and keep:
        goldens.keep(golden, said)
    other = list(goldens.differences(golden, said)) if golden is not None else []
    _tell(found, other, as_json=as_json)
    faults = sum(finding.rule in FAULTS for _, finding in found)
    if faults or other:
        raise OperationError(f"faults: {faults}, golden files that differ: {len(other)}")


def _tell(found: list[tuple[str, Finding]], other: list[str], *, as_json: bool) -> None:
    if as_json:
        told = [
            {"template": name, "fault": finding.rule in FAULTS, **msgspec.structs.asdict(finding)}
            for name, finding in found
        ]
        click.echo(msgspec.json.encode({"findings": told, "golden": other}).decode())
        return
    for name, finding in found:
        kind = "fault" if finding.rule in FAULTS else "warning"
        click.echo(f"{kind} {name}{'/' if finding.file else ': '}{finding}")
    for line in other:
        click.echo(f"golden {line}")
