"""Which version of each template is said now, and the words of those that were said before."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import NoReturn, cast

import msgspec
import structlog
from jinja2 import TemplateError

from ledger import template
from ledger.decision import Decision, NewFact
from ledger.errors import UnavailableError, UnknownTopicError
from ledger.ledger import Ledger, until_stored
from ledger.mapping import FactMapper
from ledger.notification import Requested
from ledger.signals import TEMPLATES, Signals
from ledger.store import Row
from ledger.template import Template, TemplateFact
from ledger.template_files import Kept, TemplateFiles
from ledger.values import Personal, Wanted
from templates.files import Files, digest_of, files_in, shared_in
from templates.rendering import Rendered, Renderer, RenderError

# Who publishes tells all processes; this is for one that was not listening just then.
_LOOK_EVERY = timedelta(seconds=10)

_log = structlog.get_logger("handlers.wording")
_mapper = FactMapper()
Decide = Callable[[Template, datetime], Sequence[TemplateFact]]


class Wording:
    """Knows what each template says, without asking for each notification: what others publish is learnt of by signal.

    `names` are the templates that there are, by the catalogue; `messages` is the folder that this process came with:
    what lies there is said until something is published. `shared` are the files there that all templates may use.
    """

    def __init__(self, ledger: Ledger, names: Collection[str], messages: Path) -> None:
        self.files = TemplateFiles(ledger.store)
        self._ledger = ledger
        self._shipped = {name: files_in(messages, name) for name in sorted(names)}
        self.shared = shared_in(messages)
        self._versions = {name: digest_of(name, files) for name, files in self._shipped.items()}
        self._known = {name: template.empty(ledger.identity, name) for name in self._shipped}
        self._unreadable: dict[str, UnknownTopicError] = {}

    @property
    def known(self) -> Mapping[str, Template]:
        """What was decided on each template, as last looked at, by name."""
        return self._known

    def shipped(self, name: str) -> str:
        """Return the version that this process came with, empty when there is none."""
        return self._versions.get(name, "")

    def current(self, name: str) -> str:
        """Return the version that is said now, empty when there is none."""
        known = self._known.get(name)
        return (known.published if known is not None else None) or self.shipped(name)

    def pinned(self, wanted: Wanted) -> Wanted:
        """Pin a notification to the version that is said now."""
        return msgspec.structs.replace(wanted, template_version=self.current(wanted.template))

    async def ready(self, renderer: Renderer, name: str, version: str) -> str:
        """Return the version to be said, with its words at hand: the one named, or where nobody has that any more, what
        is said now. Raises UnavailableError, RenderError.
        """
        for one in (version, self.current(name)):
            if renderer.knows(name, one):
                return one
            if files := await self.words(name, one):
                _learn(renderer, name, files)
                return one
        return renderer.version(name)

    async def say(self, renderer: Renderer, requested: Requested, personal: Personal, *, locale: str) -> Rendered:
        """Say it in the version that it was pinned to when it was asked for, whatever was published since.

        Raises UnavailableError, RenderError.
        """
        name = requested.template
        version = await self.ready(renderer, name, requested.template_version)
        return renderer.render(name, requested.channel, locale=locale, personal=personal, version=version)

    async def words(self, name: str, version: str) -> Files:
        """Return the files of a version or draft; empty where nobody has it. Raises UnavailableError."""
        if version == self.shipped(name):
            return self._shipped.get(name, {})
        files = (await self.files.read([version])).get(version, {})
        return files if digest_of(name, files) == version else {}

    async def keep(self, name: str, files: Files) -> str:
        """Keep words for good and return their digest. Raises UnavailableError."""
        digest = digest_of(name, files)
        await self.files.keep([Kept(digest, name, files)])
        return digest

    async def keep_shipped(self) -> None:
        """Keep the words that this process came with: a later release will have to say what this one has pinned."""
        await self.files.keep(
            [Kept(self._versions[name], name, files) for name, files in self._shipped.items() if files]
        )

    async def look(self) -> None:
        """Read what was decided since the last look. Raises UnavailableError."""
        names = {known.stream: name for name, known in self._known.items()}
        seen = {known.stream: known.version for known in self._known.values()}
        rows = await self._ledger.store.load_newer(seen)
        for stream, its in groupby(rows, key=lambda row: row.stream):
            self._apply(names[stream], its)

    async def run(self, signals: Signals) -> NoReturn:
        """Look whenever something was published, for ever."""
        while True:
            await signals.wait(TEMPLATES, _LOOK_EVERY.total_seconds(), by="wording")
            try:
                await self.look()
            except UnavailableError:
                _log.warning("templates_not_looked_at")

    async def change(self, name: str, decide: Decide) -> Template:
        """Let `decide` look at a template and store what it decides; returns what it says then.

        `decide` is called again on newer facts when the store refuses. Raises UnknownTopicError where only a newer
        release understands what was decided before.
        """

        async def attempt(_number: int) -> Template:
            await self.look()
            if name in self._unreadable:
                raise self._unreadable[name]
            known = self._known[name]
            facts = decide(known, self._ledger.clock.now())
            if facts:
                numbered = enumerate(facts, start=known.version + 1)
                await self._ledger.append(Decision(facts=tuple(NewFact(known.stream, *each) for each in numbered)))
                await self.look()
            return self._known[name]

        return await until_stored(attempt)

    def _apply(self, name: str, rows: Iterable[Row]) -> None:
        """Apply what is new. Behind a fact that only a newer release understands, what was said before it stays."""
        for row in rows:
            known = self._known[name]
            if row.version != known.version + 1:
                continue
            try:
                fact = cast("TemplateFact", _mapper.decode(row.topic, row.state))
            except (UnknownTopicError, msgspec.DecodeError, ValueError):
                if name not in self._unreadable:
                    _log.warning("template_not_understood", template=name, topic=row.topic)
                self._unreadable[name] = UnknownTopicError(row.topic)
                return
            self._known[name] = template.evolve(known, fact)


def _learn(renderer: Renderer, name: str, files: Files) -> None:
    try:
        renderer.learn(name, files)
    except TemplateError:
        # A newer Jinja may refuse what an older one took.
        failed = RenderError("template_failed", name, "cannot be compiled")
        raise failed from None
