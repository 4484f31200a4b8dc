"""What each template says with made-up data, kept as files: a change of words is seen before it is published."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from templates.drafts import Preview

# Of one file; more of it helps nobody, the file itself does.
_LINES = 20


def renderings(template: str, previews: Iterable[Preview]) -> dict[str, str]:
    """Return what a template says, by the names of the files that hold it: `order_shipped/fr/sms.txt`."""
    return {f"{template}/{one.locale}/{one.channel}.txt": "\n".join(_written(one)) + "\n" for one in previews}


def differences(folder: Path, said: Mapping[str, str]) -> Iterator[str]:
    """Yield one text for each file that a folder lacks, has too many, or has otherwise."""
    kept = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.txt"))}
    for name in sorted(kept.keys() | said.keys()):
        if name not in said:
            yield f"{name}: nothing is said so any more"
        elif name not in kept:
            yield f"{name}: is not kept yet"
        elif (before := kept[name].read_bytes().decode()) != said[name]:
            lines = difflib.unified_diff(before.splitlines(), said[name].splitlines(), "kept", "said", lineterm="", n=1)
            yield "\n".join([f"{name}: says something else", *list(lines)[:_LINES]])


def keep(folder: Path, said: Mapping[str, str]) -> None:
    """Write what is said into a folder, and take out what is not said any more."""
    for path in folder.rglob("*.txt"):
        if path.relative_to(folder).as_posix() not in said:
            path.unlink()
    for name, text in said.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


def _written(one: Preview) -> Iterator[str]:
    if one.mail is not None:
        yield from (f"From: {one.mail.sender}", f"Subject: {one.mail.subject}", "", one.mail.text, one.mail.html)
    if one.sms is not None:
        yield from (f"Segments: {one.segments}", "", one.sms.text)
    if one.push is not None:
        yield from (f"Title: {one.push.title}", f"Link: {one.push.link or 'none'}", "", one.push.body)
