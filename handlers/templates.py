"""Templates are drafted, looked at, published and rolled back; what is decided is a fact, and everybody says it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from handlers.wording import Wording
from ledger import template
from ledger.errors import LedgerError, NoSuchVersionError
from ledger.notification import Origin
from ledger.template import Template, TemplateFact
from templates.catalogue import Catalogue
from templates.drafts import Finding, Vetted, together
from templates.entries import Kind
from templates.files import Files
from templates.shapes import as_written
from templates.vetting import Vetter


class NoSuchTemplateError(LedgerError):
    """No notification of the catalogue has a template of this name."""


class TemplateRefusedError(LedgerError):
    """A draft is not in order, and so is not published. `faults` are all that was found."""

    def __init__(self, faults: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Data to show a template with, for a person of this name."""

    data: dict[str, Any]
    name: str | None = None


class Change(msgspec.Struct, frozen=True):
    """How a file differs between two versions, as a unified diff; a file that is new or gone differs from nothing."""

    file: str
    diff: str


class Templates:
    """Decides on templates. When a method returns, its fact is on disk, and this process says what was published."""

    def __init__(self, wording: Wording, catalogue: Catalogue, vetter: Vetter) -> None:
        self._wording = wording
        self._catalogue = catalogue
        self._vetter = vetter

    async def all(self) -> list[Template]:
        """Return what was decided on every template, by name."""
        await self._wording.look()
        return list(self._wording.known.values())

    async def one(self, name: str) -> Template:
        """Return what was decided on one. Raises NoSuchTemplateError."""
        await self._wording.look()
        return self._known(name)

    def current(self, name: str) -> str:
        """Return the version that is said now, empty when there is none."""
        return self._wording.current(name)

    def shipped(self, name: str) -> str:
        """Return the version that this release brings, empty when there is none."""
        return self._wording.shipped(name)

    async def latest(self, name: str) -> str:
        """Return the draft that lies there, else the version that is said. Raises NoSuchTemplateError."""
        known = await self.one(name)
        return known.draft.draft if known.draft is not None else self.current(name)

    def data_of(self, name: str) -> list[Mapping[str, Any]]:
        """Return the data that a template may use: one declaration for each kind of notification that it is for."""
        return [as_written(kind.data) for kind in self._kinds(name)]

    async def files(self, name: str, version: str) -> Files:
        """Return the files of a version or of a draft. Raises NoSuchTemplateError, NoSuchVersionError."""
        self._known(name)
        files = await self._wording.words(name, version)
        if not files:
            raise NoSuchVersionError("nobody has such a version or draft of this template")
        return files

    async def draft(self, name: str, files: Files, *, by: str) -> Template:
        """Propose words: those of the template's own files, and of shared ones where they are to be others.

        Raises NoSuchTemplateError.
        """
        self._known(name)
        digest = await self._wording.keep(name, self.complete(files))
        return await self._wording.change(name, lambda state, now: template.draft(state, digest, _origin(now, by)))

    async def keep(self, name: str, files: Files) -> str:
        """Keep files for good, so that a notification can be said by them; returns their digest."""
        return await self._wording.keep(name, files)

    def complete(self, files: Files) -> Files:
        """Return files with the shared ones of this release, where they bring none of their own."""
        return {**self._wording.shared, **files}

    async def vet(self, name: str, version: str, sample: Sample | None = None) -> Vetted:
        """Examine a version or draft, and show it with made-up data or a sample.

        Raises NoSuchTemplateError, NoSuchVersionError.
        """
        return await self.examine(name, await self.files(name, version), sample)

    async def examine(self, name: str, files: Files, sample: Sample | None = None) -> Vetted:
        """Examine files that nobody has drafted yet, in a process that can be killed. Raises NoSuchTemplateError."""
        self._known(name)
        shown = {} if sample is None else {"sample": sample.data, "sample_name": sample.name}
        drafts = self._catalogue.drafts(name, files)
        return together([await self._vetter.vet(msgspec.structs.replace(draft, **shown)) for draft in drafts])

    async def publish(self, name: str, draft: str, *, by: str, reason: str) -> Template:
        """Say a draft from now on, unless it is another by now; one that is said already stays.

        Raises NoSuchTemplateError, DraftMovedError, or TemplateRefusedError with every fault.
        """
        known = await self.one(name)
        if not template.check_draft(known, draft):
            return known
        vetted = await self.vet(name, draft)
        if vetted.faults:
            raise TemplateRefusedError(vetted.faults)
        version = await self._wording.keep(name, vetted.files)

        def decide(state: Template, now: datetime) -> Sequence[TemplateFact]:
            replaces = self._wording.current(name)
            return template.publish(state, draft, version, _origin(now, by), replaces=replaces, reason=reason)

        return await self._wording.change(name, decide)

    async def roll_back(self, name: str, version: str, *, by: str, reason: str) -> Template:
        """Say a version again that was said before; the one that is said already stays.

        Raises NoSuchTemplateError, NoSuchVersionError.
        """
        self._known(name)

        def decide(state: Template, now: datetime) -> Sequence[TemplateFact]:
            replaces = self._wording.current(name)
            return template.roll_back(state, version, _origin(now, by), replaces=replaces, reason=reason)

        return await self._wording.change(name, decide)

    async def differences(self, name: str, before: str, after: str) -> list[Change]:
        """Compare two versions or drafts, file by file. Raises NoSuchTemplateError, NoSuchVersionError."""
        return list(_changes(await self.files(name, before), await self.files(name, after)))

    def _known(self, name: str) -> Template:
        known = self._wording.known.get(name)
        if known is None:
            raise NoSuchTemplateError("no notification of the catalogue has such a template")
        return known

    def _kinds(self, name: str) -> list[Kind]:
        return [kind for kind in self._catalogue.kinds.values() if kind.template == name]


def _changes(before: Files, after: Files) -> Iterator[Change]:
    for file in sorted({*before, *after}):
        old, new = before.get(file, ""), after.get(file, "")
        if old != new:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), file, file, lineterm="")
            yield Change(file, "\n".join(lines))


def _origin(now: datetime, by: str) -> Origin:
    return Origin(now=now, cause=f"command:{uuid4()}", by=by)
