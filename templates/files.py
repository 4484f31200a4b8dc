"""Where the words lie: one folder per template, one below it per language, and what all of them share."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ledger.values import Channel
from templates.inlining import inline

MESSAGES = Path(__file__).parent / "messages"
SHARED = "_shared"
# The files that say it on a channel, in a folder of a template and a language: all of them, or none.
FILES: Mapping[Channel, tuple[str, ...]] = {
    Channel.EMAIL: ("subject.txt", "body.html"),
    Channel.SMS: ("sms.txt",),
    Channel.PUSH: ("push_title.txt", "push_body.txt"),
}
# The text of a mail; where it is not written, it is made from the HTML.
TEXT = "body.txt"
# Where a tap on a push leads.
LINK = "push_link.txt"
# What a channel may do without.
OPTIONAL: Mapping[Channel, tuple[str, ...]] = {Channel.EMAIL: (TEXT,), Channel.SMS: (), Channel.PUSH: (LINK,)}

# What every template is given beside its data.
GIVEN = frozenset({"name", "brand", "lang", "unsubscribe_link"})

# Texts of one template by their names: `en/subject.txt` is its own, `_shared/layout.html` is one that others have too.
Files = Mapping[str, str]


_REFERENCE = re.compile(r"""["'](_shared/[^"'\s]+)["']""")


def files_in(messages: Path, name: str) -> dict[str, str]:
    """Return every file that a template of a folder is made of, finished; nothing when there is no such one.

    Raises ValueError for a style sheet that cannot be read.
    """
    return finished({**shared_in(messages), **own}) if (own := own_in(messages, name)) else {}


def own_in(messages: Path, name: str) -> dict[str, str]:
    """Return the files of a template alone, as they were written."""
    folder = messages / name
    return {path.relative_to(folder).as_posix(): _text(path) for path in _files(folder)}


def shared_in(messages: Path) -> dict[str, str]:
    """Return the files that templates of a folder share, as they were written."""
    return {path.relative_to(messages).as_posix(): _text(path) for path in _files(messages / SHARED)}


def finished(files: Files) -> dict[str, str]:
    """Return what a version consists of: the shared files that it uses and no others, style sheets inlined.

    So a shared file moves the versions of those templates that use it. What is finished stays as it is. Raises
    ValueError for a style sheet that cannot be read.
    """
    css = "\n".join(text for file, text in sorted(files.items()) if file.endswith(".css"))
    used = _used(files, (file for file in files if not file.startswith(f"{SHARED}/") and not file.endswith(".css")))
    return {file: inline(files[file], css) if file.endswith(".html") else files[file] for file in sorted(used)}


def references(text: str) -> list[str]:
    """Return the names of the shared files that a file speaks of, in its order."""
    return _REFERENCE.findall(text)


def _used(files: Files, roots: Iterable[str]) -> set[str]:
    used: set[str] = set()
    found = list(roots)
    while found:
        file = found.pop()
        if file in files and file not in used:
            used.add(file)
            found.extend(references(files[file]))
    return used


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _text(path: Path) -> str:
    return path.read_bytes().decode()


def template_path(name: str, file: str) -> str:
    """Return the name by which templates refer to one another's files."""
    return file if file.startswith(f"{SHARED}/") else f"{name}/{file}"


def digest_of(name: str, files: Files) -> str:
    """Return the hex SHA-256 over every file that a template is made of: its version; empty when there is none."""
    if not files:
        return ""
    digest = hashlib.sha256()
    for path, text in sorted((template_path(name, file), text) for file, text in files.items()):
        body = text.encode()
        digest.update(f"{path}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def version_of(messages: Path, name: str) -> str:
    """Return the version of a template of a folder; empty when there is none."""
    return digest_of(name, files_in(messages, name))


def names_in(messages: Path) -> list[str]:
    """Return the names of the templates of a folder, sorted."""
    return sorted(path.name for path in messages.iterdir() if path.is_dir() and path.name != SHARED)


def missing(messages: Path, name: str, channel: Channel, *, locale: str) -> list[str]:
    """Return the files that a template lacks to say it on a channel in a language."""
    return [file for file in FILES[channel] if not (messages / name / locale / file).is_file()]
