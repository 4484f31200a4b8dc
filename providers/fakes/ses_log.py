"""One request for a mail, as the fakes that take mail keep it."""

from datetime import datetime

import msgspec


class Text(msgspec.Struct, rename="pascal"):
    """A piece of content (SES v2 API, "Content")."""

    data: str
    charset: str = "us-ascii"


class Body(msgspec.Struct, rename="pascal"):
    text: Text | None = None
    html: Text | None = None


class Header(msgspec.Struct, rename="pascal"):
    name: str
    value: str


class Simple(msgspec.Struct, rename="pascal"):
    subject: Text
    body: Body
    headers: list[Header] = []


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

    @property
    def unsubscribe(self) -> str | None:
        """The URL by which one click unsubscribes (RFC 8058); None where the mail has no such header."""
        headers = {header.name: header.value for header in self.body.content.simple.headers} if self.body else {}
        one_click = headers.get("List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"
        return headers.get("List-Unsubscribe", "").strip("<>") if one_click else None

    def forget(self) -> None:
        """Let go of what is large."""
        self.body, self.headers, self.mail = None, {}, b""
