"""/v1/templates: what is said, drafted, looked at, published and rolled back."""

from collections.abc import Awaitable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from litestar import get, post, put
from litestar.params import FromPath

from api.auth import Scope
from api.bodies import object_in
from api.parameters import Parameters
from api.problems import (
    DRAFT_MOVED,
    MALFORMED,
    NEWER_RELEASE,
    NOT_FOUND,
    TEMPLATE_REFUSED,
    TOO_LARGE,
    ProblemError,
    malformed,
)
from api.reasons import reason_among
from api.schemas import Comparison, PreviewRequest, Publication, Rollback, TemplateDraft
from api.services import Call, services_of
from handlers.templates import Change, NoSuchTemplateError, Sample, TemplateRefusedError, Templates
from ledger.errors import DraftMovedError, NoSuchVersionError
from ledger.template import Template
from ledger.values import Channel
from templates.drafts import Finding, Preview
from templates.envelope import Fault, is_identifier, shown
from templates.rules import MAX_FILE, MAX_FILES

T = TypeVar("T")
_TAGS = ["templates"]
_IDENTIFIER = "must be 1 to 200 printable characters"


class ShownDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Words that somebody proposes; `draft` is their digest, by which they are shown and published."""

    draft: str
    since: datetime
    by: str


class ShownVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Words that are or were said, made of `draft`. Without `published_at` they came with a release."""

    version: str
    draft: str
    published_at: datetime | None
    by: str | None
    reason: str | None


class ShownTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A template: `version` is said now, `shipped` is what this release brings; null where there is none."""

    name: str
    version: str | None
    shipped: str | None
    draft: ShownDraft | None


class ShownTemplates(msgspec.Struct, frozen=True):
    """Every template of the catalogue, by name."""

    templates: list[ShownTemplate]


class WholeTemplate(ShownTemplate, frozen=True, kw_only=True):
    """A template with the words that are said now, and the data that they may use, as the catalogue declares them."""

    data: list[dict[str, Any]]
    files: dict[str, str]


class ShownVersions(msgspec.Struct, frozen=True, kw_only=True):
    """Every version that was ever said, the earliest first; `version` is said now."""

    version: str | None
    versions: list[ShownVersion]


class ShownFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one version or draft, shared ones too."""

    version: str
    files: dict[str, str]


class ShownPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What people would be told, and what was found: with any of `faults` it cannot be published."""

    version: str
    faults: list[Finding]
    warnings: list[Finding]
    previews: list[Preview]


class Differences(msgspec.Struct, frozen=True):
    """How two versions differ, file by file."""

    changes: list[Change]


@get(
    "/v1/templates",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="List the templates, and which version of each is said",
    problems=[MALFORMED, NEWER_RELEASE],
)
async def list_templates(request: Call) -> ShownTemplates:
    Parameters.of_query(request.scope, known=()).done()
    templates = services_of(request).templates
    return ShownTemplates([shown_template(templates, known) for known in await templates.all()])


@get(
    "/v1/templates/{name:str}",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="What a template says, and the data that it may use",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_template(request: Call, name: FromPath[str]) -> WholeTemplate:
    Parameters.of_query(request.scope, known=()).done()
    templates = services_of(request).templates
    known = await found(templates.one(name))
    version = templates.current(name)
    files = await found(templates.files(name, version)) if version else {}
    whole = msgspec.structs.asdict(shown_template(templates, known))
    return WholeTemplate(**whole, data=[dict(one) for one in templates.data_of(name)], files=dict(files))


@get(
    "/v1/templates/{name:str}/versions",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="Every version that a template ever had",
    problems=[MALFORMED, NOT_FOUND],
)
async def list_versions(request: Call, name: FromPath[str]) -> ShownVersions:
    Parameters.of_query(request.scope, known=()).done()
    templates = services_of(request).templates
    known = await found(templates.one(name))
    versions = [ShownVersion(**msgspec.structs.asdict(one)) for one in known.versions.values()]
    return ShownVersions(version=templates.current(name) or None, versions=versions)


@get(
    "/v1/templates/{name:str}/versions/{version:str}",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="The words of one version or draft",
    problems=[MALFORMED, NOT_FOUND],
)
async def get_version(request: Call, name: FromPath[str], version: FromPath[str]) -> ShownFiles:
    Parameters.of_query(request.scope, known=()).done()
    if not is_identifier(version):
        raise ProblemError(NOT_FOUND, "no version has this name")
    files = await found(services_of(request).templates.files(name, version))
    return ShownFiles(version=version, files=dict(files))


@get(
    "/v1/templates/{name:str}/diff",
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="How two versions or drafts differ",
    query=Comparison,
    problems=[MALFORMED, NOT_FOUND],
)
async def get_diff(request: Call, name: FromPath[str]) -> Differences:
    given = Parameters.of_query(request.scope, known=("from", "to"))
    before, after = given.text("from"), given.text("to")
    given.done()
    if before is None or after is None:
        missing = [each for each, value in (("from", before), ("to", after)) if value is None]
        raise malformed(*(Fault(each, "is required") for each in missing))
    return Differences(await found(services_of(request).templates.differences(name, before, after)))


@put(
    "/v1/templates/{name:str}/draft",
    status_code=200,
    scopes=[Scope.TEMPLATES],
    tags=_TAGS,
    summary="Propose words; nothing is said by them until they are published",
    body=TemplateDraft,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def put_draft(request: Call, name: FromPath[str]) -> ShownTemplate:
    Parameters.of_query(request.scope, known=()).done()
    files, templates = _files_in(await request.body()), services_of(request).templates
    return shown_template(templates, await found(templates.draft(name, files, by=_by(request))))


@post(
    "/v1/templates/{name:str}/preview",
    status_code=200,
    scopes=[Scope.READ],
    tags=_TAGS,
    summary="Show a draft or version with sample data, and everything that is found of it",
    body=PreviewRequest,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE],
)
async def post_preview(request: Call, name: FromPath[str]) -> ShownPreview:
    Parameters.of_query(request.scope, known=()).done()
    wanted, templates = _preview_in(await request.body()), services_of(request).templates
    latest = await found(templates.latest(name))
    version = wanted.version or latest
    sample = Sample(data=wanted.data, name=wanted.name) if wanted.data is not None else None
    vetted = await found(templates.vet(name, version, sample))
    previews = [
        preview
        for preview in vetted.previews
        if wanted.channel in {None, preview.channel} and wanted.locale in {None, preview.locale}
    ]
    return ShownPreview(version=version, faults=vetted.faults, warnings=vetted.warnings, previews=previews)


@post(
    "/v1/templates/{name:str}/publish",
    status_code=200,
    scopes=[Scope.TEMPLATES],
    tags=_TAGS,
    summary="Say a draft from now on, if it is still the one that was looked at",
    body=Publication,
    problems=[MALFORMED, NOT_FOUND, DRAFT_MOVED, TOO_LARGE, TEMPLATE_REFUSED, NEWER_RELEASE],
)
async def post_publish(request: Call, name: FromPath[str]) -> ShownTemplate:
    Parameters.of_query(request.scope, known=()).done()
    draft, reason = _choice_in(await request.body(), "draft")
    templates = services_of(request).templates
    return shown_template(templates, await found(templates.publish(name, draft, by=_by(request), reason=reason)))


@post(
    "/v1/templates/{name:str}/rollback",
    status_code=200,
    scopes=[Scope.TEMPLATES],
    tags=_TAGS,
    summary="Say a version again that was said before",
    body=Rollback,
    problems=[MALFORMED, NOT_FOUND, TOO_LARGE, NEWER_RELEASE],
)
async def post_rollback(request: Call, name: FromPath[str]) -> ShownTemplate:
    Parameters.of_query(request.scope, known=()).done()
    version, reason = _choice_in(await request.body(), "version")
    templates = services_of(request).templates
    return shown_template(templates, await found(templates.roll_back(name, version, by=_by(request), reason=reason)))


async def found(answer: Awaitable[T]) -> T:
    """Return an answer about templates; what is refused is a problem."""
    try:
        return await answer
    except (NoSuchTemplateError, NoSuchVersionError) as exc:
        raise ProblemError(NOT_FOUND, str(exc)) from None
    except DraftMovedError as exc:
        raise ProblemError(DRAFT_MOVED, str(exc)) from None
    except TemplateRefusedError as exc:
        raise refused(exc) from None


def refused(error: TemplateRefusedError) -> ProblemError:
    """Return the problem that names everything that is not in order."""
    faults = [Fault(fault.place, f"{fault.message} ({fault.rule})") for fault in error.faults]
    return ProblemError(TEMPLATE_REFUSED, faults=faults)


def shown_template(templates: Templates, known: Template) -> ShownTemplate:
    """Show a template without its words."""
    draft = known.draft
    return ShownTemplate(
        name=known.name,
        version=templates.current(known.name) or None,
        shipped=templates.shipped(known.name) or None,
        draft=ShownDraft(draft=draft.draft, since=draft.recorded_at, by=draft.by) if draft is not None else None,
    )


def _files_in(body: bytes) -> Mapping[str, str]:
    raw, faults = object_in(body)
    files = raw.get("files")
    faults += _unknown(raw, ("files",))
    if not isinstance(files, dict) or not files:
        raise malformed(*faults, Fault("files", "must be an object of texts by the names of the files"))
    if len(files) > MAX_FILES:
        faults.append(Fault("files", f"must be at most {MAX_FILES}"))
    for file, text in files.items():
        if not isinstance(text, str) or len(text) > MAX_FILE:
            faults.append(Fault(f"files.{shown(file)}", f"must be a text of at most {MAX_FILE} characters"))
    if faults:
        raise malformed(*faults)
    return files


def _preview_in(body: bytes) -> PreviewRequest:
    raw, faults = object_in(body)
    faults += _unknown(raw, PreviewRequest.__struct_fields__)
    given = {name: value for name, value in raw.items() if value is not None}
    faults += [
        Fault(name, _IDENTIFIER) for name in ("version", "locale", "name") if not is_identifier(given.get(name, "-"))
    ]
    if not isinstance(given.get("data", {}), dict):
        faults.append(Fault("data", "must be an object"))
    if given.get("channel", Channel.EMAIL) not in list(Channel):
        faults.append(Fault("channel", f"must be one of {', '.join(Channel)}"))
    if faults:
        raise malformed(*faults)
    return msgspec.convert(given, PreviewRequest)


def _choice_in(body: bytes, name: str) -> tuple[str, str]:
    """Read which version or draft is meant, and why."""
    raw, reason, faults = reason_among(body, beside=(name,))
    chosen = raw.get(name)
    if not is_identifier(chosen):
        faults.append(Fault(name, "is required" if chosen is None else _IDENTIFIER))
    if faults:
        raise malformed(*faults)
    return str(chosen), reason


def _unknown(raw: Mapping[str, Any], known: Collection[str]) -> list[Fault]:
    return [
        Fault(shown(name), f"is not known; known are {', '.join(sorted(known))}") for name in raw.keys() - set(known)
    ]


def _by(request: Call) -> str:
    return f"api:{request.user.subject}"
