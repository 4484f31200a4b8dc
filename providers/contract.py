"""What every provider offers: one request per attempt, its outcome as a value, and the reading of its callbacks."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

import msgspec

from ledger.values import Channel, Content, Outcome, Report


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to send: the ids travel with the request, so that its reports come home (promise I5)."""

    notification: UUID
    attempt: UUID
    address: str
    content: Content


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


class CallbackRefusedError(Exception):
    """The callback is not the vendor's, or cannot be read: answered 4xx. The text names the fault, no content."""


class CallbackUnavailableError(Exception):
    """We cannot verify it just now (a certificate cannot be fetched): answered 503, the vendor comes again."""


class Callbacks(Protocol):
    """Reads a vendor's callbacks."""

    provider: str

    async def read(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Report]:
        """Verify a callback and return its reports, possibly none (a subscription that was confirmed).

        Raises CallbackRefusedError or CallbackUnavailableError.
        """
        ...
