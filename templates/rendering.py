"""What is said, made of a template and a person's data: the same input gives the same bytes."""

import re
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from email.utils import parseaddr
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import msgspec
from jinja2 import FunctionLoader, StrictUndefined, Template, UndefinedError, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ledger.values import UNSUBSCRIBE_LINK, Channel, Content, Mail, Personal, PushMessage, TextMessage
from templates.files import (
    FILES,
    LINK,
    MESSAGES,
    OPTIONAL,
    SHARED,
    TEXT,
    Files,
    digest_of,
    files_in,
    names_in,
    template_path,
)
from templates.formats import UnsafeLinkError, language_of, nearest
from templates.plain_text import plain_text
from templates.segments import segments_of
from templates.shapes import is_link

MAX_SUBJECT = 200
MAX_BODY = 200_000
# What a locked screen shows at most, with some room.
MAX_TITLE = 100
MAX_PUSH_BODY = 300
# A push has 4096 bytes in all (FCM); what the provider adds to it, ids and a receipt's token, needs some of them.
MAX_PUSH = 3000
MAX_SEGMENTS = 3
# Versions that are not shipped are kept compiled, the last used of them: a process that runs for months must not grow.
KEPT_VERSIONS = 200

# What is longer is cut: these are read at a glance, and in full where they lead. An SMS is not: its end is a link.
_CUT = {"subject.txt": MAX_SUBJECT, "push_title.txt": MAX_TITLE, "push_body.txt": MAX_PUSH_BODY}
_ONE_LINE = frozenset({"subject.txt", "push_title.txt", LINK})
_LINES = frozenset({"sms.txt", "push_body.txt"})

# The frames of a template are known by the name of their file.
_FILENAME = "template:"
# Controls would break the header; bidirectional overrides would show another subject than the one that was sent.
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class RenderError(Exception):
    """What is to be said could not be made of its template and data. It ends as `render_failed`: mend, then resend.

    `code` is `no_template`, `missing_data`, `unsafe_link`, `too_large`, `too_many_segments`, `too_costly`, `empty` or
    `template_failed`; `detail` names file and line, never a value.
    """

    def __init__(self, code: str, template: str, detail: str) -> None:
        super().__init__(f"{template}: {code} ({detail})")
        self.code = code
        self.template = template
        self.detail = detail


class Rendered(msgspec.Struct, frozen=True):
    """What was made, with the version and locale of the template that made it.

    `passed_over` are the locales that came first for this person, nearest first, and which the template has not.
    """

    content: Content
    template_version: str
    locale: str
    passed_over: tuple[str, ...] = ()


class Words(msgspec.Struct, frozen=True):
    """One version of a template, compiled: what it says by channel and locale, each part by the name of its file."""

    version: str
    said: Mapping[tuple[Channel, str], Mapping[str, Template]]


class Renderer:
    """Says things by the templates in a folder, all of them compiled at the start, and by versions that it learns.

    `sender` is the From header of mails; its display name is `brand` in the templates. `sms_sender` is who an SMS comes
    from; `segments` how many segments an SMS may have, by template, where it is not MAX_SEGMENTS. Raises
    jinja2.TemplateError for a file that is missing or cannot be compiled.
    """

    def __init__(
        self,
        *,
        sender: str,
        sms_sender: str = "",
        segments: Mapping[str, int] = MappingProxyType({}),
        messages: Path | None = MESSAGES,
        default_locale: str = "en",
    ) -> None:
        self._sender = sender
        self._sms_sender = sms_sender
        self._segments = segments
        self._brand = parseaddr(sender)[0] or parseaddr(sender)[1]
        self._default_locale = default_locale
        self._shipped = (
            {name: compile_words(name, files_in(messages, name)) for name in names_in(messages)} if messages else {}
        )
        self._learnt: OrderedDict[tuple[str, str], Words] = OrderedDict()

    def version(self, name: str) -> str:
        """Return the version of a template in the folder, empty when there is none."""
        shipped = self._shipped.get(name)
        return shipped.version if shipped is not None else ""

    def knows(self, name: str, version: str) -> bool:
        """Whether a version can be said at once: it is the one in the folder, or was learnt."""
        return version == self.version(name) or (name, version) in self._learnt

    def learn(self, name: str, files: Files) -> None:
        """Take in one more version. Raises jinja2.TemplateError."""
        words = compile_words(name, files)
        self._learnt[name, words.version] = words
        while len(self._learnt) > KEPT_VERSIONS:
            self._learnt.popitem(last=False)

    def render(
        self, name: str, channel: Channel, *, locale: str, personal: Personal, version: str | None = None
    ) -> Rendered:
        """Say it on a channel in the nearest locale (`en-GB`, `en`, the default one). Raises RenderError.

        Where the version is not known, or none is named, the one in the folder says it: the answer tells which one did,
        and goes into the fact.
        """
        words = self._words(name, version)
        asked = (*nearest(locale), self._default_locale)
        used = next((tag for tag in asked if (channel, tag) in words.said), None)
        if used is None:
            raise RenderError("no_template", name, f"nothing for {channel} in {self._default_locale}")
        given = {"name": personal.name, "brand": self._brand, "lang": used, "unsubscribe_link": UNSUBSCRIBE_LINK}
        context = {**personal.data, **given}
        said = {part: _tidied(part, _fill(template, context)) for part, template in words.said[channel, used].items()}
        _check(name, said)
        content = self._content(channel, said)
        _check_size(name, content, self._segments.get(name, MAX_SEGMENTS))
        return Rendered(content, words.version, used, asked[: asked.index(used)])

    def _words(self, name: str, version: str | None) -> Words:
        learnt = self._learnt.get((name, version)) if version else None
        if learnt is not None:
            self._learnt.move_to_end((name, learnt.version))
            return learnt
        if name not in self._shipped:
            raise RenderError("no_template", name, "nothing at all")
        return self._shipped[name]

    def _content(self, channel: Channel, said: Mapping[str, str]) -> Content:
        match channel:
            case Channel.EMAIL:
                html = said["body.html"]
                return Mail(self._sender, said["subject.txt"], html, said[TEXT] if TEXT in said else plain_text(html))
            case Channel.SMS:
                return TextMessage(self._sms_sender, said["sms.txt"])
            case Channel.PUSH:
                return PushMessage(said["push_title.txt"], said["push_body.txt"], said.get(LINK) or None)


def compile_words(name: str, files: Files) -> Words:
    """Compile all that a template is made of. Raises jinja2.TemplateError."""
    sources = {template_path(name, file): text for file, text in files.items()}
    said = {}
    for locale in sorted({file.split("/")[0] for file in files} - {SHARED}):
        environment = environment_of(sources, locale)
        for channel in Channel:
            if parts := _parts(files, locale, channel):
                said[channel, locale] = {part: environment.get_template(f"{name}/{locale}/{part}") for part in parts}
    return Words(digest_of(name, files), said)


def _parts(files: Files, locale: str, channel: Channel) -> tuple[str, ...]:
    """Return the parts that say it on a channel; nothing when the locale has none of them."""
    there = tuple(part for part in OPTIONAL[channel] if f"{locale}/{part}" in files)
    return (*FILES[channel], *there) if any(f"{locale}/{part}" in files for part in FILES[channel]) else ()


class _Environment(ImmutableSandboxedEnvironment):
    """Gives each template its globals as a plain dict: each rendering copies them, and Jinja's own chain of maps takes
    far longer to copy than a short text to be said.
    """

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        return {**self.globals, **(d or {})}


def environment_of(sources: Files, locale: str) -> ImmutableSandboxedEnvironment:
    """Return what compiles the files of a language, by the names with which they refer to one another."""

    def load(path: str) -> tuple[str, str, None] | None:
        return (sources[path], _FILENAME + path, None) if path in sources else None

    environment = _Environment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters.update(language_of(locale).filters)
    return environment


def _fill(template: Template, context: dict[str, object]) -> str:
    try:
        return template.render(context)
    except Exception as error:  # noqa: BLE001 - a template can raise anything, and none of it may show a value
        failed = RenderError(_code(error), _named(template), _place(error.__traceback__, template))
    raise failed


def _code(error: Exception) -> str:
    if isinstance(error, UndefinedError):
        return "missing_data"
    if isinstance(error, MemoryError | RecursionError):
        return "too_costly"
    return "unsafe_link" if isinstance(error, UnsafeLinkError) else "template_failed"


def _named(template: Template) -> str:
    return (template.name or "").split("/")[0]


def _place(traceback: TracebackType | None, template: Template) -> str:
    """Return file and line of the innermost frame of a template; Jinja maps its frames back to the template's lines."""
    place = template.name or ""
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if filename.startswith(_FILENAME):
            place = f"{filename.removeprefix(_FILENAME)} line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def _tidied(part: str, text: str) -> str:
    """Return a text without what its part cannot hold: controls, overrides, line breaks, more than is shown."""
    if part in _ONE_LINE:
        text = _one_line(text)
    elif part in _LINES:
        text = "\n".join(map(_one_line, text.splitlines())).strip()
    longest = _CUT.get(part, len(text))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(_UNPRINTED.sub(" ", text).split())


def _check(name: str, said: Mapping[str, str]) -> None:
    for part, text in said.items():
        if not text.strip() and part != LINK:
            raise RenderError("empty", name, part)
        if len(text.encode()) > MAX_BODY:
            raise RenderError("too_large", name, f"{part} is over {MAX_BODY} bytes")
        if part == LINK and text and not is_link(text):
            raise RenderError("unsafe_link", name, part)


def _check_size(name: str, content: Content, segments: int) -> None:
    if isinstance(content, TextMessage) and (number := segments_of(content.text)) > segments:
        raise RenderError("too_many_segments", name, f"{number}, where {segments} may be")
    if isinstance(content, PushMessage) and len(msgspec.json.encode(content)) > MAX_PUSH:
        raise RenderError("too_large", name, f"the push is over {MAX_PUSH} bytes")
