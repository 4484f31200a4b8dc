"""/console/templates: what is said, which versions there were and how they differ, and how it looks; only read here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from api.auth import Scope
from api.console.asking import filled_in
from api.console.rendering import page
from api.services import Call, services_of
from api.templates import ShownVersion, found, shown_template
from handlers.templates import Change
from ledger.template import Template

# The frame is somebody's words: they may bring styles of their own, run nothing, and fetch nothing from anywhere.
_FRAME: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'; sandbox"
}
_KINDS: Mapping[str, str] = {"+": "added", "-": "removed", "@": "place"}
_SAID: Mapping[str, str] = {"added": "Added", "removed": "Removed", "place": "At", "same": ""}


class Line(msgspec.Struct, frozen=True):
    """A line of a difference: what happened to it as a word, for those who see no colours, and its text."""

    kind: str
    said: str
    text: str


class File(msgspec.Struct, frozen=True):
    """How one file differs."""

    name: str
    lines: list[Line]
    added: int
    removed: int


@get("/console/templates", scopes=[Scope.READ], include_in_schema=False)
async def get_templates(request: Call) -> Response[str]:
    templates = services_of(request).templates
    listed = [shown_template(templates, known) for known in await templates.all()]
    return page(request, "templates.html", templates=listed)


@get("/console/templates/{name:str}", scopes=[Scope.READ], include_in_schema=False)
async def get_template(request: Call, name: FromPath[str]) -> Response[str]:
    templates = services_of(request).templates
    known = await found(templates.one(name))
    version = templates.current(name)
    return page(
        request,
        "template.html",
        shown=shown_template(templates, known),
        versions=[ShownVersion(**msgspec.structs.asdict(one)) for one in reversed(list(known.versions.values()))],
        files=dict(await found(templates.files(name, version))) if version else {},
    )


@get("/console/templates/{name:str}/diff", scopes=[Scope.READ], include_in_schema=False)
async def get_diff(request: Call, name: FromPath[str]) -> Response[str]:
    """Compare two versions; without a choice, the one that is said with the one before it."""
    templates = services_of(request).templates
    known = await found(templates.one(name))
    asked = filled_in(request.scope, known={"from", "to"})
    before, after = asked.text("from"), asked.text("to")
    asked.done()
    choices = _choices(known, templates.current(name))
    after = after or templates.current(name) or None
    before = before or _before(list(known.versions), after)
    changes = await found(templates.differences(name, before, after)) if before and after else []
    return page(
        request,
        "template_diff.html",
        name=name,
        choices=choices,
        before=before or "",
        after=after or "",
        files=[_file(change) for change in changes],
    )


@get("/console/templates/{name:str}/preview", scopes=[Scope.READ], include_in_schema=False)
async def get_preview(request: Call, name: FromPath[str]) -> Response[str]:
    templates = services_of(request).templates
    known = await found(templates.one(name))
    version = await _version(request, name)
    choices = _choices(known, templates.current(name))
    return page(request, "template_preview.html", name=name, version=version, choices=choices)


@get("/console/templates/{name:str}/preview/frame", scopes=[Scope.READ], include_in_schema=False)
async def get_preview_frame(request: Call, name: FromPath[str]) -> Response[str]:
    """Say a version with made-up data, in a document that runs nothing."""
    version = await _version(request, name)
    vetted = await found(services_of(request).templates.vet(name, version))
    findings = [*(("Fault", one) for one in vetted.faults), *(("Warning", one) for one in vetted.warnings)]
    return page(request, "template_frame.html", headers=_FRAME, previews=vetted.previews, findings=findings)


async def _version(request: Call, name: str) -> str:
    """Return the version or draft that is asked for, else the latest."""
    asked = filled_in(request.scope, known={"version"})
    version = asked.text("version")
    asked.done()
    return version if version is not None else await found(services_of(request).templates.latest(name))


def _choices(known: Template, current: str) -> list[tuple[str, str]]:
    """Return what can be looked at, the latest first, each with what it is called."""
    versions = list(dict.fromkeys([*known.versions, *filter(None, [current])]))
    named = [(one, f"version {one[:12]}{', said now' if one == current else ''}") for one in reversed(versions)]
    draft = known.draft.draft if known.draft is not None else None
    return [(draft, f"the draft ({draft[:12]})"), *named] if draft is not None else named


def _before(versions: Sequence[str], after: str | None) -> str | None:
    """Return the version before one; the last where there is no such order."""
    earlier = versions[: versions.index(after)] if after in versions else versions
    return earlier[-1] if earlier else after


def _file(change: Change) -> File:
    lines = list(_lines(change.diff))
    added, removed = (sum(line.kind == kind for line in lines) for kind in ("added", "removed"))
    return File(change.file, lines, added, removed)


def _lines(diff: str) -> Iterator[Line]:
    # The first two lines of a unified diff are the names of the file.
    for line in diff.splitlines()[2:]:
        kind = _KINDS.get(line[:1], "same")
        yield Line(kind, _SAID[kind], line if kind == "place" else line[1:])
