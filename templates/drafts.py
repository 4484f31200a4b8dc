"""A template that somebody has written, and what is found of it before anybody may be told by it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.values import Channel, Mail, PushMessage, TextMessage
from templates.files import SHARED


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A template before it is published.

    `files` are its texts by name: `en/subject.txt` is its own, `_shared/layout.html` is one that others have too.
    `data` are the names that it may use with their shapes, as the catalogue writes them (`orderId: id`, `?` = may be
    absent). `channels` are those that it must have words for, in `locale` first of all; `segments` how many an SMS may
    have. `sender` is the From header of mails, whose display name is `brand`. `sample` are data to show it with, for
    `name`; without them it is shown with data that are made up.
    """

    name: str
    files: dict[str, str]
    data: dict[str, Any]
    channels: tuple[Channel, ...] = ()
    locale: str = "en"
    segments: int = 3
    sender: str = "Example Shop <shop@shop.example>"
    sample: dict[str, Any] | None = None
    sample_name: str | None = None

    @property
    def locales(self) -> list[str]:
        """The languages that it has, sorted."""
        return sorted({file.partition("/")[0] for file in self.files if "/" in file} - {SHARED})


class Finding(msgspec.Struct, frozen=True, order=True):
    """What is wrong with a file, or remarkable: `rule` is one of the reference of templates; `line` counts from 1.

    `line` is 0 where the whole file is meant, `file` is empty where the whole template is.
    """

    file: str
    line: int
    rule: str
    message: str

    @property
    def place(self) -> str:
        """Where it stands: `en/body.html:3`."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        return f"{self.place}: {self.message} ({self.rule})" if self.file else f"{self.message} ({self.rule})"


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What one person would be told on one channel; of an SMS also how many segments it takes."""

    channel: Channel
    locale: str
    mail: Mail | None = None
    sms: TextMessage | None = None
    segments: int | None = None
    push: PushMessage | None = None


class Vetted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a draft: the files as they would be published, and what was found.

    With any of `faults` it cannot be published; `warnings` are for its author to weigh.
    """

    files: dict[str, str] = {}
    faults: list[Finding] = []
    warnings: list[Finding] = []
    previews: list[Preview] = []


def together(vetted: Sequence[Vetted]) -> Vetted:
    """Return what was found of one template for each kind of notification: all of it, shown as the first is."""
    return msgspec.structs.replace(
        vetted[0],
        faults=sorted({fault for one in vetted for fault in one.faults}),
        warnings=sorted({warning for one in vetted for warning in one.warnings}),
    )
