"""What every provider offers: one request per attempt, its outcome as a value, and the reading of its callbacks."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, runtime_checkable
from uuid import UUID

import msgspec

from ledger.values import (
    Answer,
    Channel,
    Content,
    Mail,
    Outcome,
    Postponed,
    PushMessage,
    Reply,
    Report,
    ReportKind,
    TextMessage,
)

Kind = TypeVar("Kind", Mail, TextMessage, PushMessage)


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to send: the ids travel with the request, so that its reports come home (promise I5).

    `address` is an e-mail address, an E.164 number, or a Firebase installation id, as the channel has it. After
    `expires_at` nobody wants it: for a vendor that keeps what it cannot deliver. `unsubscribe` is the URL of a mail
    that may be unsubscribed from, by one click (RFC 8058).
    """

    notification: UUID
    attempt: UUID
    address: str
    content: Content
    expires_at: datetime | None = None
    unsubscribe: str | None = None

    @property
    def mail_headers(self) -> dict[str, str]:
        """The headers of an e-mail that are neither its content nor its envelope (RFC 2369, RFC 8058)."""
        if self.unsubscribe is None:
            return {}
        return {"List-Unsubscribe": f"<{self.unsubscribe}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}

    @property
    def mail(self) -> Mail:
        """The content of an e-mail, with the link of this attempt in it.

        TypeError when it is another channel's: whoever wired that must not send.
        """
        mail = _expected(self.content, Mail)
        return mail if self.unsubscribe is None else mail.with_link(self.unsubscribe)

    @property
    def text_message(self) -> TextMessage:
        """The content of an SMS, likewise."""
        return _expected(self.content, TextMessage)

    @property
    def push_message(self) -> PushMessage:
        """The content of a push, likewise."""
        return _expected(self.content, PushMessage)


def _expected(content: Content, kind: type[Kind]) -> Kind:
    if not isinstance(content, kind):
        raise TypeError(f"{type(content).__name__} is not what this provider carries")
    return content


class Provider(Protocol):
    """A vendor that takes messages of one channel.

    `deadline` is the total time that one `send` may take, from its call to its return, whatever the vendor does.
    """

    name: str
    channel: Channel
    deadline: timedelta

    async def send(self, sending: Sending) -> Outcome:
        """Make exactly one request and return its outcome; never raises for anything the vendor or network does."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


@runtime_checkable
class Answers(Provider, Protocol):
    """A provider that can be asked, too, what became of a message that it took."""

    async def ask(self, reference: str, *, notification: UUID, attempt: UUID) -> Answer | Postponed:
        """Ask by the provider's own reference; Postponed when there is no answer now.

        Takes at most the provider's `deadline`, keeps no `send` waiting, and never raises for anything the vendor or
        network does.
        """
        ...


class CallbackRefusedError(Exception):
    """The callback is not the vendor's, or cannot be read: answered 4xx. The text names the fault, no content."""


class CallbackUnavailableError(Exception):
    """We cannot verify it just now (a certificate cannot be fetched): answered 503, the vendor comes again."""


class Callbacks(Protocol):
    """Reads a vendor's callbacks."""

    provider: str

    async def read(self, body: bytes, headers: Mapping[str, str], query: str = "") -> Sequence[Report]:
        """Verify a callback and return its reports, possibly none (a subscription that was confirmed).

        Header names are looked up in any case; `query` is that of the URL, as it stood there.
        Raises CallbackRefusedError or CallbackUnavailableError.
        """
        ...


class Replies(Protocol):
    """Reads what people answer to an SMS, as a vendor posts it."""

    provider: str

    async def reply(self, body: bytes, headers: Mapping[str, str], query: str = "") -> Reply:
        """Verify a posted answer and return it; as for Callbacks. Raises CallbackRefusedError."""
        ...


class Receipts(Protocol):
    """Reads what the apps on people's devices report of a vendor's pushes."""

    provider: str

    def read(self, token: str, kind: ReportKind) -> Report | None:
        """Return the report that a receipt is; None when it is none of ours, or too old."""
        ...
