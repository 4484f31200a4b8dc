"""A draft is said with all the data that it must cope with, and what ordinary data look like is kept."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from ledger.values import Channel, Content, Mail, Personal, PushMessage, TextMessage
from templates.drafts import Draft, Finding, Preview
from templates.envelope import Fault
from templates.files import FILES, digest_of
from templates.rendering import Renderer, RenderError
from templates.rules import CLIPPED, LONG_PUSH_BODY, LONG_SUBJECT, LONG_TITLE
from templates.samples import NAME, largest, sample, variants
from templates.segments import is_gsm7, segments_of
from templates.shapes import Record

# The most that anybody may give may be more than fits: that is seen, and told, when it happens.
_OF_SIZE = frozenset({"too_large", "too_many_segments"})
_PLACE = re.compile(r"(\S+) line ([0-9]+)")


class Trial:
    """Tries the finished files of a draft; `previews` are there after `run`."""

    def __init__(self, draft: Draft, data: Record, files: dict[str, str]) -> None:
        self._draft = draft
        self._data = data
        self._files = files
        self._version = digest_of(draft.name, files)
        self._renderer = Renderer(
            sender=draft.sender, segments={draft.name: draft.segments}, messages=None, default_locale=draft.locale
        )
        self.previews: list[Preview] = []

    def run(self, at: Callable[[str], None]) -> Iterator[Finding]:
        """Yield what fails, and what is remarkable of what does not; `at` is told what is tried next."""
        try:
            self._renderer.learn(self._draft.name, self._files)
        except TemplateSyntaxError as error:
            yield Finding(self._file(error.name), error.lineno, "syntax", error.message or "cannot be compiled")
            return
        except (TemplateError, RecursionError):
            yield Finding("", 0, "syntax", "cannot be compiled")
            return
        given, faults = self._given()
        yield from (Finding("", 0, "data", f"{fault.path} {fault.message}") for fault in faults)
        for locale in self._draft.locales:
            for channel in Channel:
                if f"{locale}/{FILES[channel][0]}" in self._files:
                    at(f"{locale}, {channel}")
                    yield from self._tried(locale, channel, given)

    def _given(self) -> tuple[dict[str, Any], list[Fault]]:
        """Return the data to show it with."""
        if self._draft.sample is None:
            return sample(self._data), []
        faults: list[Fault] = []
        read = self._data.read(self._draft.sample, "", faults)
        return (sample(self._data), faults) if faults else (read, [])

    def _tried(self, locale: str, channel: Channel, given: dict[str, Any]) -> Iterator[Finding]:
        name = NAME if self._draft.sample is None else self._draft.sample_name
        try:
            content = self._said(locale, channel, Personal(name=name, data=given))
        except RenderError as error:
            yield self._failed(error, locale)
        else:
            self.previews.append(preview(channel, locale, content))
            yield from _remarks(channel, locale, content)
        for number, data in enumerate([*variants(self._data), largest(self._data)]):
            try:
                self._said(locale, channel, Personal(name=NAME if number % 2 else None, data=data))
            except RenderError as error:
                if error.code not in _OF_SIZE:
                    yield self._failed(error, locale)

    def _said(self, locale: str, channel: Channel, personal: Personal) -> Content:
        return self._renderer.render(
            self._draft.name, channel, locale=locale, personal=personal, version=self._version
        ).content

    def _failed(self, error: RenderError, locale: str) -> Finding:
        rule = error.code.replace("_", "-")
        place = _PLACE.fullmatch(error.detail)
        file = self._file(place[1] if place else error.detail)
        if not place and f"{locale}/{file}" in self._files:
            file = f"{locale}/{file}"
        if file in self._files:
            return Finding(file, int(place[2]) if place else 0, rule, "fails with data as they are declared")
        return Finding("", 0, rule, f"{locale}: {error.detail}")

    def _file(self, path: str | None) -> str:
        return (path or "").removeprefix(f"{self._draft.name}/")


def preview(channel: Channel, locale: str, content: Content) -> Preview:
    """Return what a person would be told."""
    match content:
        case Mail():
            return Preview(channel=channel, locale=locale, mail=content)
        case TextMessage():
            return Preview(channel=channel, locale=locale, sms=content, segments=segments_of(content.text))
        case PushMessage():
            return Preview(channel=channel, locale=locale, push=content)


def _remarks(channel: Channel, locale: str, content: Content) -> Iterator[Finding]:
    match content:
        case Mail(subject=subject, html=html):
            if len(subject) > LONG_SUBJECT:
                yield Finding(f"{locale}/subject.txt", 0, "long-subject", f"{len(subject)} characters")
            if len(html.encode()) > CLIPPED:
                yield Finding(f"{locale}/body.html", 0, "clipped", f"{len(html.encode())} bytes")
        case TextMessage(text=text):
            if segments_of(text) > 1:
                yield Finding(f"{locale}/sms.txt", 0, "segments", f"takes {segments_of(text)} segments")
            if not is_gsm7(text):
                odd = "".join(sorted({character for character in text if not is_gsm7(character)}))
                yield Finding(f"{locale}/sms.txt", 0, "not-gsm7", f"has {odd}")
        case PushMessage(title=title, body=body):
            if len(title) > LONG_TITLE or len(body) > LONG_PUSH_BODY:
                parts = FILES[channel]
                yield Finding(f"{locale}/{parts[len(title) <= LONG_TITLE]}", 0, "long-push", "is cut on many screens")
