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


def version_of(messages: Path, name: str) -> str:
    """Return the hex SHA-256 over every file that a template is made of, shared ones too; empty when there is none."""
    if not (messages / name).is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for folder in (name, SHARED) for path in (messages / folder).rglob("*") if path.is_file()):
        body = path.read_bytes()
        digest.update(f"{path.relative_to(messages).as_posix()}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def names_in(messages: Path) -> list[str]:
    """Return the names of the templates of a folder, sorted."""
    return sorted(path.name for path in messages.iterdir() if path.is_dir() and path.name != SHARED)


def missing(messages: Path, name: str, channel: Channel, *, locale: str) -> list[str]:
    """Return the files that a template lacks to say it on a channel in a language."""
    return [file for file in FILES[channel] if not (messages / name / locale / file).is_file()]
