"""A draft is looked through, compiled, and said with all the data that it must cope with."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ledger.values import Channel
from templates.catalogue import Catalogue
from templates.drafts import Draft, Finding, Preview, Vetted, together
from templates.files import FILES, OPTIONAL, TEXT, finished, names_in, own_in, shared_in
from templates.formats import LANGUAGES
from templates.lint import lint
from templates.rendering import environment_of
from templates.rules import FAULTS
from templates.shapes import compile_record
from templates.trial import Trial

# With any of these nothing is run.
_NOT_RUN = frozenset(
    {"data", "file", "syntax", "missing-part", "undeclared", "unknown-filter", "unsafe", "costly", "include"}
)


def examine(draft: Draft, *, at: Callable[[str], None] = lambda _: None) -> Vetted:
    """Return what becomes of a draft, with every fault; `at` is told what is tried next.

    It compiles and runs what is written in the draft: where its author is not trusted, in a process that can be
    killed (`vetting.Vetter`).
    """
    try:
        data = compile_record(draft.data)
    except ValueError as error:
        return _vetted(draft, [Finding("", 0, "data", str(error))])
    found = [*lint(draft, data, environment_of({}, draft.locale)), *_parts(draft), *_languages(draft)]
    if any(finding.rule in _NOT_RUN for finding in found):
        return _vetted(draft, found)
    try:
        files = finished(draft.files)
    except ValueError as error:
        return _vetted(draft, [*found, Finding("", 0, "style", str(error))])
    trial = Trial(draft, data, files)
    found += trial.run(at)
    return _vetted(draft, found, files=files, previews=trial.previews)


def examine_folder(messages: Path, catalogue: Catalogue) -> Iterator[tuple[str, Vetted]]:
    """Yield what becomes of each template of a folder, by name. Its author is trusted: it is examined in here."""
    shared = shared_in(messages)
    unused = Vetted(warnings=[Finding("", 0, "unused", "no notification of the catalogue is said by it")])
    for name in names_in(messages):
        drafts = catalogue.drafts(name, {**shared, **own_in(messages, name)})
        yield name, together([examine(draft) for draft in drafts]) if drafts else unused


def _vetted(
    draft: Draft,
    found: Iterable[Finding],
    *,
    files: dict[str, str] | None = None,
    previews: Iterable[Preview] = (),
) -> Vetted:
    sorted_ = sorted(set(found))
    return Vetted(
        files=draft.files if files is None else files,
        faults=[finding for finding in sorted_ if finding.rule in FAULTS],
        warnings=[finding for finding in sorted_ if finding.rule not in FAULTS],
        previews=list(previews),
    )


def _parts(draft: Draft) -> Iterator[Finding]:
    """Yield which language lacks what."""
    for locale in {draft.locale, *draft.locales}:
        for channel in Channel:
            lacking = [part for part in FILES[channel] if f"{locale}/{part}" not in draft.files]
            begun = any(f"{locale}/{part}" in draft.files for part in (*FILES[channel], *OPTIONAL[channel]))
            if begun or (locale == draft.locale and channel in draft.channels):
                for part in lacking:
                    yield Finding(f"{locale}/{part}", 0, "missing-part", f"is not there, and {channel} needs it")
                if channel is Channel.EMAIL and not lacking and f"{locale}/{TEXT}" not in draft.files:
                    yield Finding(f"{locale}/{TEXT}", 0, "text-made", "is not there: the text is made from the HTML")
            elif channel in draft.channels:
                yield Finding("", 0, "missing-language", f"{locale} has no {channel}: {draft.locale} is used")


def _languages(draft: Draft) -> Iterator[Finding]:
    for locale in draft.locales:
        if locale.partition("-")[0] not in LANGUAGES:
            yield Finding("", 0, "language", f"{locale}: days and money are written in {', '.join(sorted(LANGUAGES))}")
