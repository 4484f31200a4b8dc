"""Every error that the ledger raises. Each docstring is what an operator reads.

LedgerError
├── RefusedError              the store refused a decision: the world has moved on
├── OverloadedError           more is queued than may wait
├── UnavailableError          the database does not answer, or is not what it must be
│   ├── ArchiveUnavailableError   the archive does not give what must be there
│   ├── NotCommittedError     it said that it did not commit: the same again, in a moment
│   └── OutcomeUnknownError   the connection broke: it may or may not have committed
├── UnstorableError           the database refuses these very values
├── KeptError                 what was to be dropped must stay
├── DraftMovedError           a template's draft is another by now
├── NoSuchVersionError        a template never had this version
├── UntoldError               the outside did not take all that the log had to tell
├── UnknownTopicError         a fact of a release that this one does not know
└── KeyUnavailableError       a data key cannot be opened with the keys that were given
    └── KeyMissingError       a person's data key is not there, and nobody has erased that person
"""

from enum import StrEnum


class LedgerError(Exception):
    """Something went wrong in the ledger."""


class Refusal(StrEnum):
    """Why the store refused a decision as a whole."""

    VERSION = "version"
    PREDECESSOR = "predecessor"
    GUARD = "guard"
    TAKEN_IN = "taken_in"
    CONFLICT = "conflict"
    QUOTA = "quota"


class RefusedError(LedgerError):
    """The decision was not stored, because what it was based on is no longer so. Load and decide again."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(f"the decision was refused: {reason.value}")
        self.reason = reason


class OverloadedError(LedgerError):
    """More decisions wait for the database than may wait. Try again in a moment; nothing of this one was stored."""


class UnavailableError(LedgerError):
    """The database cannot be used now. Nothing is known to be stored; it is safe to try again."""


class ArchiveUnavailableError(UnavailableError):
    """The archive does not answer, or does not hold what was written. Look at ARCHIVE_URL, and at what lies there."""


class NotCommittedError(UnavailableError):
    """The database was too busy, or shut down, and certainly stored nothing. The same append is tried again."""


class OutcomeUnknownError(UnavailableError):
    """The connection to the database broke during an append. What it stored is told by comparing the bytes."""


class UnstorableError(LedgerError):
    """The database refused the values of this decision. Trying again will not help; nothing of it was stored."""


class KeptError(LedgerError):
    """Something that was to be dropped must stay in the database; the message says why. It is tried again later."""


class DraftMovedError(LedgerError):
    """The draft of a template that was to be published is not the one that lies there now. Look at it again."""


class NoSuchVersionError(LedgerError):
    """A version of a template was named that it never had."""


class UntoldError(LedgerError):
    """The outside (a broker) did not take all that the log had to tell. What is left is told again in a moment."""


class UnknownTopicError(LedgerError):
    """A fact was written by a release that this one does not know. Upgrade this process; the stream is left alone."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"unknown topic: {topic}")
        self.topic = topic


class KeyUnavailableError(LedgerError):
    """A stored key cannot be opened. Check KEY_ENCRYPTION_KEY: during a rotation both keys must be given."""


class KeyMissingError(KeyUnavailableError):
    """A person's data key is not there, or a newer one is, and nobody has erased that person. Bring the row of
    recipient_key back from a backup; what is sealed under it waits.
    """
