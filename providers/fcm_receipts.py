"""What the app on a device tells us of a push: FCM itself reports nothing of one that it took."""

from datetime import timedelta

from ledger.clock import Clock
from ledger.ids import made_at
from ledger.keys import Identity
from ledger.values import Report, ReportKind

# An attempt is known for so long, at the least; what is said later says nothing to anybody.
GOOD_FOR = timedelta(days=90)


class FcmReceipts:
    """Reads the receipts that went out with the pushes: each names one attempt, signed by this installation."""

    provider = "fcm"

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock

    def read(self, token: str, kind: ReportKind) -> Report | None:
        """Return the report that a receipt is, the same each time; None when it is none of ours, or too old.

        Its key is the attempt and not the token: whoever reads a history must not be able to report by it.
        """
        named = self._identity.read_receipt(token)
        if named is None or made_at(named[0]) + GOOD_FOR < self._clock.now():
            return None
        notification, attempt = named
        return Report(
            provider=self.provider,
            reference=str(attempt),
            kind=kind,
            key=f"receipt:{attempt}:{kind}",
            notification=notification,
            attempt=attempt,
        )
