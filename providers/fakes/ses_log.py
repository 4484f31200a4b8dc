"""The request log of the fakes that take mail: what came in, in order; the oracle for "never sent twice"."""

from collections import deque
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec


class Text(msgspec.Struct, rename="pascal"):
    """A piece of content (SES v2 API, "Content")."""

    data: str
    charset: str = "us-ascii"


class Body(msgspec.Struct, rename="pascal"):
    text: Text | None = None
    html: Text | None = None


class Simple(msgspec.Struct, rename="pascal"):
    subject: Text
    body: Body


class Message(msgspec.Struct, rename="pascal"):
    simple: Simple


class Destination(msgspec.Struct, rename="pascal"):
    to_addresses: list[str] = []
    cc_addresses: list[str] = []
    bcc_addresses: list[str] = []


class Tag(msgspec.Struct, rename="pascal"):
    name: str
    value: str


class SendEmail(msgspec.Struct, rename="pascal"):
    """The body of SendEmail (SES v2 API), as far as the service uses it."""

    destination: Destination
    content: Message
    sender: str = msgspec.field(default="", name="FromEmailAddress")
    email_tags: list[Tag] = []
    configuration_set_name: str | None = None


class Request(msgspec.Struct, kw_only=True, tag="request"):
    """One request for a mail. `status` is what it was answered with; 0 = it never was.

    `number` counts from 1 in the order of arrival; `connection` is the other end's address and port. `provider` is whom
    the fake plays; `mail` is what came over SMTP, byte for byte. Of the requests beyond the log's `keep`, headers, body
    and mail are gone.
    """

    number: int
    at: datetime
    connection: str
    to: str
    tags: dict[str, str]
    status: int
    code: str
    message_id: str
    headers: dict[str, str]
    body: SendEmail | None
    provider: str = "ses"
    mail: bytes = b""

    @property
    def accepted(self) -> bool:
        """Whether a mail went out, answered or not."""
        return self.status in {0, 200, 250}

    @property
    def reports(self) -> bool:
        """Whether events are published of it: a relay reports nothing."""
        return self.accepted and self.provider == "ses"


class Settled(msgspec.Struct, tag="settled"):
    """Written when every event of a request was taken by the subscriber."""

    number: int


class RequestLog:
    """The requests, in memory and, with a path, in a file of JSON lines that outlives the process."""

    def __init__(self, path: Path | None = None, *, keep: int | None = None) -> None:
        self.requests: list[Request] = []
        self.unsettled: list[Request] = []
        self._keep = keep
        self._whole: deque[Request] = deque()
        self._file: BinaryIO | None = None
        if path is not None:
            self._load(path)
            self._file = path.open("ab", buffering=0)

    def add(self, request: Request) -> None:
        self._write(request)
        self._remember(request)

    def settle(self, request: Request) -> None:
        self._write(Settled(request.number))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _remember(self, request: Request) -> None:
        self.requests.append(request)
        if self._keep is not None:
            self._whole.append(request)
            if len(self._whole) > self._keep:
                old = self._whole.popleft()
                old.body, old.headers, old.mail = None, {}, b""

    def _write(self, line: Request | Settled) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            # The process was killed in the middle of a line; nobody was answered for it.
            path.write_bytes(whole + b"\n" if whole else b"")
        settled = set()
        for line in msgspec.json.Decoder(Request | Settled).decode_lines(whole):
            if isinstance(line, Settled):
                settled.add(line.number)
            else:
                self._remember(line)
        self.unsettled = [request for request in self.requests if request.reports and request.number not in settled]
