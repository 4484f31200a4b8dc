"""What Twilio says of a message, whether it calls or is asked: the same words become the same report."""

from collections.abc import Mapping
from uuid import UUID

from ledger.values import Report, ReportKind

# The status of an outgoing Message (Message resource, "Message Status values").
KINDS: Mapping[str, ReportKind] = {
    "accepted": ReportKind.DISPATCHED,
    "scheduled": ReportKind.DISPATCHED,
    "queued": ReportKind.DISPATCHED,
    "sending": ReportKind.DISPATCHED,
    "sent": ReportKind.DISPATCHED,
    "partially_delivered": ReportKind.DISPATCHED,
    "delivered": ReportKind.DELIVERED,
    "undelivered": ReportKind.BOUNCED,
    "failed": ReportKind.BOUNCED,
    "canceled": ReportKind.REJECTED,
    "read": ReportKind.OPENED,
}
# Codes by which a number will never take an SMS (Error and Warning Dictionary). Not among them: 30003, a handset that
# is off; 30004 and 30007, a filter.
HARD = frozenset(
    {
        21211,  # not valid
        21214,  # cannot be reached
        21217,  # not valid
        21614,  # no mobile number
        21635,  # a landline
        30005,  # unknown, or no longer in use
        30006,  # a landline, or a carrier that takes no SMS
    }
)
# The person has answered STOP: Twilio takes nothing more for this number from this sender, and we ask no more.
STOPPED = 21610


def report_of(
    sid: str, status: str, error_code: int, *, notification: UUID | None, attempt: UUID | None
) -> Report | None:
    """Return the report of one status, None when it is none of an outgoing message; `error_code` 0 = there is none.

    Twilio says of none when it happened. The key holds the sid, the status and the code: by the sid alone, `delivered`
    would be taken for a repetition of `sent`.
    """
    kind = KINDS.get(status)
    if kind is None:
        return None
    code = {"error_code": str(error_code)} if error_code else {}
    return Report(
        provider="twilio",
        reference=sid,
        kind=kind,
        key=f"twilio:{sid}:{status}:{error_code}",
        notification=notification,
        attempt=attempt,
        evidence={"status": status, **code},
        suppresses=kind is ReportKind.BOUNCED and error_code in {*HARD, STOPPED},
        opted_out=kind is ReportKind.BOUNCED and error_code == STOPPED,
    )
