"""The commands that look after templates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from handlers.templates import NoSuchTemplateError, Sample, Templates
from ledger.template import Template
from ledger.values import Channel
from ops.errors import OperationError
from ops.terminal import print_answer, with_parts
from ops.wiring import Parts, templates_of
from templates import golden as goldens
from templates.catalogue import load
from templates.drafts import Finding, Preview, Vetted
from templates.examining import examine_folder
from templates.files import MESSAGES, Files, names_in, own_in, shared_in, version_of
from templates.rules import FAULTS

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_REASON = click.option("--reason", required=True, help="Why; it is recorded.")


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
@_JSON
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


@templates.command("list")
@_JSON
def list_(*, as_json: bool) -> None:
    """List the templates: the version that is said, since when, and the draft that lies there."""

    async def listed(given: Parts) -> list[dict[str, Any]]:
        known = templates_of(given)
        return [_shown(known, one) for one in await known.all()]

    found = with_parts(listed)
    lines = [
        f"{one['name']}  {one['version'] or 'no words'}  {one['since'] or 'shipped'}"
        f"{'  draft ' + one['draft'] if one['draft'] else ''}"
        for one in found
    ]
    print_answer(found, lines, as_json=as_json)


@templates.command()
@click.argument("name")
@click.option("--version", help="A version or draft; else the draft, or what is said where there is none.")
@click.option("--data", type=click.File("rb"), help="A JSON file with the data to show it with; else they are made up.")
@click.option("--person", help="The name of the person; only with --data.")
@click.option("--channel", type=click.Choice([channel.value for channel in Channel]), help="Only this channel.")
@click.option("--locale", help="Only this language.")
@_JSON
def preview(name: str, version: str | None, data: Any, *, as_json: bool, **shown: str | None) -> None:
    """Show what people would be told by a draft or version, and everything that is found of it."""
    sample = Sample(data=_data_in(data.read()), name=shown["person"]) if data is not None else None

    async def vetted(given: Parts) -> Vetted:
        known = templates_of(given)
        return await known.vet(name, version or await known.latest(name), sample)

    found = with_parts(vetted)
    previews = [one for one in found.previews if shown["channel"] in {None, one.channel.value}]
    previews = [one for one in previews if shown["locale"] in {None, one.locale}]
    answer = {"faults": found.faults, "warnings": found.warnings, "previews": previews}
    lines = [line for one in previews for line in _lines(one)]
    print_answer(answer, [*lines, *_findings(name, found)], as_json=as_json)


@templates.command()
@click.argument("folder", type=_FOLDER)
@_REASON
@click.option("--dry-run", is_flag=True, help="Say what would be published, and what is wrong with it.")
@_JSON
def push(folder: Path, reason: str, *, dry_run: bool, as_json: bool) -> None:
    """Publish every template of a folder that says something else than is said now, if all of them are in order."""

    async def pushed(given: Parts) -> list[dict[str, str]]:
        known, wanted = templates_of(given), _written_in(folder)
        await known.all()
        changed = {name: files for name, (version, files) in wanted.items() if version != known.current(name)}
        refused = [fault for name, files in changed.items() for fault in await _faults(known, name, files)]
        if refused:
            raise OperationError("\n".join(refused))
        for name, files in changed.items() if not dry_run else ():
            drafted = await known.draft(name, files, by="cli")
            if drafted.draft is not None:
                await known.publish(name, drafted.draft.draft, by="cli", reason=reason)
        return [{"name": name, "version": wanted[name][0]} for name in changed]

    found = with_parts(pushed)
    word = "would publish" if dry_run else "published"
    print_answer(found, [f"{word} {one['name']}  {one['version']}" for one in found], as_json=as_json)


@templates.command()
@click.argument("name")
@click.argument("draft")
@_REASON
def publish(name: str, draft: str, reason: str) -> None:
    """Say a draft from now on, if it is still the one that you have looked at."""
    after = with_parts(lambda given: templates_of(given).publish(name, draft, by="cli", reason=reason))
    click.echo(f"published {name}  {after.published}")


@templates.command()
@click.argument("name")
@click.argument("version")
@_REASON
def rollback(name: str, version: str, reason: str) -> None:
    """Say a version again that was said before."""
    with_parts(lambda given: templates_of(given).roll_back(name, version, by="cli", reason=reason))
    click.echo(f"rolled back {name}  {version}")


@templates.command()
@click.argument("name")
@click.argument("before")
@click.argument("after")
@_JSON
def diff(name: str, before: str, after: str, *, as_json: bool) -> None:
    """Compare two versions or drafts, file by file."""
    found = with_parts(lambda given: templates_of(given).differences(name, before, after))
    print_answer(found, [line for one in found for line in one.diff.splitlines()], as_json=as_json)


def _shown(known: Templates, one: Template) -> dict[str, Any]:
    version = known.current(one.name)
    said = one.versions.get(version)
    return {
        "name": one.name,
        "version": version or None,
        "since": said.published_at if said is not None else None,
        "draft": one.draft.draft if one.draft is not None else None,
    }


def _written_in(folder: Path) -> dict[str, tuple[str, Files]]:
    """Return the templates of a folder as they are written, each with the version that it would be."""
    shared = shared_in(folder)
    return {name: (version_of(folder, name), {**shared, **own_in(folder, name)}) for name in names_in(folder)}


def _data_in(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise OperationError("the data must be a JSON object") from None


def _lines(preview: Preview) -> Iterator[str]:
    """Yield what a person would read, behind a line that says where."""
    yield f"-- {preview.channel} {preview.locale}{f', {preview.segments} segments' if preview.segments else ''}"
    match preview.channel:
        case Channel.EMAIL if preview.mail is not None:
            yield from (preview.mail.subject, "", *preview.mail.text.splitlines())
        case Channel.SMS if preview.sms is not None:
            yield from preview.sms.text.splitlines()
        case Channel.PUSH if preview.push is not None:
            yield from (preview.push.title, preview.push.body, *([preview.push.link] if preview.push.link else []))


def _findings(name: str, vetted: Vetted) -> Iterator[str]:
    yield from (f"fault {name}/{one}" for one in vetted.faults)
    yield from (f"warning {name}/{one}" for one in vetted.warnings)


async def _faults(known: Templates, name: str, files: Files) -> list[str]:
    try:
        vetted = await known.examine(name, known.complete(files))
    except NoSuchTemplateError as exc:
        return [f"fault {name}: {exc}"]
    return [f"fault {name}/{one}" for one in vetted.faults]
