"""What is done to many notifications at once: one stream for each such action, which says who wanted it, and why."""

from enum import StrEnum
from uuid import UUID

from ledger.keys import Identity
from ledger.notification import Fact


class Action(StrEnum):
    """What may be done to many."""

    CANCEL = "cancel"
    RESEND = "resend"
    RELEASE = "release"


class Begun(Fact, frozen=True, kw_only=True):
    """Somebody has it done to so many notifications that a search found; an address stands in `filters` as its hash.

    Which they were, their own facts say: `cause` is `bulk:` and the id of this stream.
    """

    action: Action
    filters: dict[str, str]
    count: int
    reason: str


class Stopped(Fact, frozen=True, kw_only=True):
    """Somebody does not want the rest of it, and says why; what was done stays so."""

    reason: str


class Ended(Fact, frozen=True, kw_only=True):
    """It was done to so many, and to so many not, by the reason; the others were left when it was stopped."""

    done: int
    refused: dict[str, int]


BulkFact = Begun | Stopped | Ended


def stream_of(identity: Identity, name: UUID) -> UUID:
    """Return the stream of a new action."""
    return identity.standing_stream("bulk", str(name))
