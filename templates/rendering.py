"""What is said, made of a template and a person's data: the same input gives the same bytes."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from types import MappingProxyType, TracebackType

import msgspec
from jinja2 import FileSystemLoader, StrictUndefined, Template, UndefinedError, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ledger.values import Channel, Content, Mail, Personal, PushMessage, TextMessage
from templates.files import FILES, LINK, MESSAGES, names_in, version_of
from templates.formats import UnsafeLinkError, day, link, moment, money
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

# What is longer is cut: these are read at a glance, and in full where they lead. An SMS is not: its end is a link.
_CUT = {"subject.txt": MAX_SUBJECT, "push_title.txt": MAX_TITLE, "push_body.txt": MAX_PUSH_BODY}
_ONE_LINE = frozenset({"subject.txt", "push_title.txt", LINK})
_LINES = frozenset({"sms.txt", "push_body.txt"})

# Controls would break the header; bidirectional overrides would show another subject than the one that was sent.
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class RenderError(Exception):
    """What is to be said could not be made of its template and data. It ends as `render_failed`: mend, then resend.

    `code` is `no_template`, `missing_data`, `unsafe_link`, `too_large`, `too_many_segments`, `empty` or
    `template_failed`; `detail` names file and line, never a value.
    """

    def __init__(self, code: str, template: str, detail: str) -> None:
        super().__init__(f"{template}: {code} ({detail})")
        self.code = code
        self.template = template
        self.detail = detail


class Rendered(msgspec.Struct, frozen=True):
    """What was made, with the version and locale of the template that made it."""

    content: Content
    template_version: str
    locale: str


class Renderer:
    """Says things by the templates in a folder, all of them compiled at the start.

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
        messages: Path = MESSAGES,
        default_locale: str = "en",
    ) -> None:
        self._sender = sender
        self._sms_sender = sms_sender
        self._segments = segments
        self._brand = parseaddr(sender)[0] or parseaddr(sender)[1]
        self._default_locale = default_locale
        self._versions = {name: version_of(messages, name) for name in names_in(messages)}
        environment = _environment(messages)
        self._templates = {
            (name, channel, folder.name): templates
            for name in self._versions
            for folder in sorted((messages / name).iterdir())
            if folder.is_dir()
            for channel in Channel
            if (templates := _templates(environment, folder, channel))
        }

    def version(self, name: str) -> str:
        """Return the hex digest of all files of a template, empty when there is none."""
        return self._versions.get(name, "")

    def render(self, name: str, channel: Channel, *, locale: str, personal: Personal) -> Rendered:
        """Say it on a channel in the nearest locale (`en-GB`, `en`, the default one). Raises RenderError.

        What is loaded is used, whichever version was current when the notification was requested: the answer says
        which one it is, and goes into the fact.
        """
        used, templates = self._find(name, channel, locale)
        context = {**personal.data, "name": personal.name, "brand": self._brand, "lang": used}
        said = {part: _tidied(part, _fill(template, context)) for part, template in templates.items()}
        _check(name, said)
        content = self._content(channel, said)
        _check_size(name, content, self._segments.get(name, MAX_SEGMENTS))
        return Rendered(content, self._versions[name], used)

    def _content(self, channel: Channel, said: Mapping[str, str]) -> Content:
        match channel:
            case Channel.EMAIL:
                return Mail(self._sender, said["subject.txt"], said["body.html"], said["body.txt"])
            case Channel.SMS:
                return TextMessage(self._sms_sender, said["sms.txt"])
            case Channel.PUSH:
                return PushMessage(said["push_title.txt"], said["push_body.txt"], said.get(LINK) or None)

    def _find(self, name: str, channel: Channel, locale: str) -> tuple[str, Mapping[str, Template]]:
        for tag in (*_chain(locale), self._default_locale):
            templates = self._templates.get((name, channel, tag))
            if templates is not None:
                return tag, templates
        raise RenderError("no_template", name, f"nothing for {channel} in {self._default_locale}")


def _templates(environment: ImmutableSandboxedEnvironment, folder: Path, channel: Channel) -> dict[str, Template]:
    """Return the compiled files of a channel by their names; nothing when the folder has none of them."""
    files = FILES[channel]
    if not any((folder / file).is_file() for file in files):
        return {}
    if channel is Channel.PUSH and (folder / LINK).is_file():
        files = (*files, LINK)
    return {file: environment.get_template(f"{folder.parent.name}/{folder.name}/{file}") for file in files}


def _environment(messages: Path) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(messages),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters.update(money=money, day=day, moment=moment, link=link)
    return environment


def _chain(locale: str) -> list[str]:
    parts = locale.split("-")
    return ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _fill(template: Template, context: dict[str, object]) -> str:
    try:
        return template.render(context)
    except Exception as error:  # noqa: BLE001 - a template can raise anything, and none of it may show a value
        failed = RenderError(_code(error), _named(template), _place(error.__traceback__, template))
    raise failed


def _code(error: Exception) -> str:
    if isinstance(error, UndefinedError):
        return "missing_data"
    return "unsafe_link" if isinstance(error, UnsafeLinkError) else "template_failed"


def _named(template: Template) -> str:
    return (template.name or "").split("/")[0]


def _place(traceback: TracebackType | None, template: Template) -> str:
    """Return file and line of the innermost frame of a template; Jinja maps its frames back to the template's lines."""
    place = template.name or ""
    folder = str(Path(template.filename or "").parents[2])
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if filename.startswith(folder) and not filename.endswith(".py"):
            place = f"{Path(filename).relative_to(folder).as_posix()} line {traceback.tb_lineno}"
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
