"""A decision: what is appended, whole or not at all."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from ledger.keys import DataKey
from ledger.notification import Due, Fact

_NO_LIMIT = Decimal(10) ** 30


class NewFact(msgspec.Struct, frozen=True):
    """A fact and its place: versions start at 1 and have no gaps.

    `key` seals its personal data; where none is given it is read, or made, when the fact is stored.
    """

    stream: UUID
    version: int
    fact: Fact
    key: DataKey | None = None


class Guard(msgspec.Struct, frozen=True):
    """A stream that was read for the decision and must still be at this version; 0 = it must be absent."""

    stream: UUID
    version: int


class Intake(msgspec.Struct, frozen=True):
    """The message that is taken in with this decision: the hash of its body tells a repeat from a conflict."""

    key: bytes
    body_hash: bytes


class Take(msgspec.Struct, frozen=True):
    """An amount that is taken from a quota; refused when more than `limit` would be used in the window."""

    key: str
    window_start: datetime
    amount: Decimal
    limit: Decimal

    def returned(self) -> "Take":
        """Return what gives this back; no limit refuses that, also when it has been lowered meanwhile."""
        return msgspec.structs.replace(self, amount=-self.amount, limit=_NO_LIMIT)


class SaidContent(msgspec.Struct, frozen=True):
    """What is said, as the canonical JSON of its Content; sealed under `key` when it is stored."""

    retention: str
    notification: UUID
    digest: bytes
    body: bytes
    key: DataKey


class Reference(msgspec.Struct, frozen=True):
    """The provider's id of an attempt."""

    provider: str
    reference: str
    notification: UUID
    attempt: UUID


class AgendaRow(msgspec.Struct, frozen=True):
    """What is due for a notification at this version; no `due` = nothing. `settles` ends that owner's lease."""

    notification: UUID
    version: int
    due: Due | None
    settles: UUID | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Facts in the order of stream and version, and everything that must be stored with them or not at all.

    `agenda` and `references` are computed by the ledger, never by its callers. `settles` names the owner whose lease
    ends with this decision.
    """

    facts: tuple[NewFact, ...] = ()
    guards: tuple[Guard, ...] = ()
    intake: Intake | None = None
    takes: tuple[Take, ...] = ()
    contents: tuple[SaidContent, ...] = ()
    references: tuple[Reference, ...] = ()
    agenda: tuple[AgendaRow, ...] = ()
    settles: UUID | None = None

    @property
    def streams(self) -> frozenset[UUID]:
        """The streams that it writes."""
        return frozenset(new.stream for new in self.facts)

    @property
    def touched(self) -> frozenset[UUID]:
        """The streams that it writes, and those whose row of the agenda it sets."""
        return self.streams | {row.notification for row in self.agenda}
