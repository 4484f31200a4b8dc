"""Showing personal data: who, what, when and why is recorded before they leave."""

import structlog

from api.correlation import correlation_of
from api.problems import malformed
from api.services import Call, services_of
from ledger.reads import Read
from templates.envelope import Fault, is_identifier

REASON = "X-Reason"

_log = structlog.get_logger("api.disclosure")


async def record_read(
    request: Call, what: str, of: str, *, logged_as: str | None = None, reason: str | None = None
) -> None:
    """Record that the caller is shown personal data; without the record nothing is shown.

    `logged_as` stands in the log where `of` names a person. `reason` is what a form gives, else the header counts.
    """
    read = Read(
        subject=request.user.subject,
        what=what,
        of=of,
        reason=reason if reason is not None else _reason(request),
        correlation_id=correlation_of(request.scope),
    )
    await services_of(request).reads.record(read)
    # The reason is somebody's own words and may name a person: it stands in the record, not here.
    _log.info("personal_data_read", subject=read.subject, what=what, of=logged_as or of)


def _reason(request: Call) -> str | None:
    reason = request.headers.get(REASON)
    if reason is not None and not is_identifier(reason):
        raise malformed(Fault(REASON, "must be 1 to 200 printable characters"))
    return reason
