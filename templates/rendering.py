"""What is said, made of a template and a person's data: the same input gives the same bytes."""

import re
from email.utils import parseaddr
from pathlib import Path
from types import TracebackType

import msgspec
from jinja2 import FileSystemLoader, StrictUndefined, Template, UndefinedError, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ledger.values import Content, Personal
from templates.files import MESSAGES, names_in, version_of
from templates.formats import UnsafeLinkError, day, link, money

MAX_SUBJECT = 200
MAX_BODY = 200_000

# Controls would break the header; bidirectional overrides would show another subject than the one that was sent.
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class RenderError(Exception):
    """A mail could not be made of its template and data. It ends as `render_failed`: mend the template, then resend.

    `code` is `no_template`, `missing_data`, `unsafe_link`, `too_large`, `empty` or `template_failed`; `detail` names
    file and line, never a value.
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


class _Mail(msgspec.Struct, frozen=True):
    subject: Template
    html: Template
    text: Template


class Renderer:
    """Makes mails of the templates in a folder, all of them compiled at the start.

    `sender` is the From header; its display name is `brand` in the templates. Raises jinja2.TemplateError for a file
    that is missing or cannot be compiled.
    """

    def __init__(self, *, sender: str, messages: Path = MESSAGES, default_locale: str = "en") -> None:
        self._sender = sender
        self._brand = parseaddr(sender)[0] or parseaddr(sender)[1]
        self._default_locale = default_locale
        self._versions = {name: version_of(messages, name) for name in names_in(messages)}
        environment = _environment(messages)
        self._mails = {
            (name, folder.name): _Mail(
                *(
                    environment.get_template(f"{name}/{folder.name}/{part}")
                    for part in ("subject.txt", "body.html", "body.txt")
                )
            )
            for name in self._versions
            for folder in sorted((messages / name).iterdir())
            if folder.is_dir()
        }

    def version(self, name: str) -> str:
        """Return the hex digest of all files of a template, empty when there is none."""
        return self._versions.get(name, "")

    def render(self, name: str, *, locale: str, personal: Personal) -> Rendered:
        """Make a mail in the nearest locale (`en-GB`, `en`, the default one). Raises RenderError.

        What is loaded is used, whichever version was current when the notification was requested: the answer says
        which one it is, and goes into the fact.
        """
        used, mail = self._find(name, locale)
        context = {**personal.data, "name": personal.name, "brand": self._brand, "lang": used}
        content = Content(
            sender=self._sender,
            subject=_one_line(_fill(mail.subject, context)),
            html=_fill(mail.html, context),
            text=_fill(mail.text, context),
        )
        _check(name, content)
        return Rendered(content, self._versions[name], used)

    def _find(self, name: str, locale: str) -> tuple[str, _Mail]:
        for tag in (*_chain(locale), self._default_locale):
            mail = self._mails.get((name, tag))
            if mail is not None:
                return tag, mail
        raise RenderError("no_template", name, f"nothing in {self._default_locale}")


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
    environment.filters.update(money=money, day=day, link=link)
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


def _one_line(text: str) -> str:
    line = " ".join(_UNPRINTED.sub(" ", text).split())
    return line if len(line) <= MAX_SUBJECT else line[: MAX_SUBJECT - 1].rstrip() + "…"


def _check(name: str, content: Content) -> None:
    for part, said in (("subject", content.subject), ("body.html", content.html), ("body.txt", content.text)):
        if not said.strip():
            raise RenderError("empty", name, part)
        if len(said.encode()) > MAX_BODY:
            raise RenderError("too_large", name, f"{part} is over {MAX_BODY} bytes")
