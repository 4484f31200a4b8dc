"""Where the words lie: one folder per template, one below it per language, and what all of them share."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ledger.values import Channel

MESSAGES = Path(__file__).parent / "messages"
SHARED = "_shared"
# The files that say it on a channel, in a folder of a template and a language: all of them, or none.
FILES: Mapping[Channel, tuple[str, ...]] = {
    Channel.EMAIL: ("subject.txt", "body.html", "body.txt"),
    Channel.SMS: ("sms.txt",),
    Channel.PUSH: ("push_title.txt", "push_body.txt"),
}
# Where a tap on a push leads; a push may do without.
LINK = "push_link.txt"

# Texts of one template by their names: `en/subject.txt` is its own, `_shared/layout.html` is one that others have too.
Files = Mapping[str, str]


def files_in(messages: Path, name: str) -> dict[str, str]:
    """Return every file that a template of a folder is made of, shared ones too; nothing when there is no such one."""
    if not (messages / name).is_dir():
        return {}
    own, shared = messages / name, messages / SHARED
    found = [(path, path.relative_to(own)) for path in own.rglob("*")]
    found += [(path, path.relative_to(messages)) for path in shared.rglob("*")]
    return {relative.as_posix(): path.read_bytes().decode() for path, relative in sorted(found) if path.is_file()}


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
