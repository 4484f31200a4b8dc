"""What SES reports to us through SNS: verified, confirmed, read."""

from collections.abc import Mapping, Sequence

from ledger.values import Report
from providers.ses_events import reports
from providers.sns import Verifier


class SesCallbacks:
    """Reads what the allowed topics post; the body alone speaks, headers are anybody's."""

    provider = "ses"

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def read(self, body: bytes, headers: Mapping[str, str], query: str = "") -> Sequence[Report]:  # noqa: ARG002 - the contract's
        envelope = await self._verifier.verify(body)
        match envelope.type:
            case "Notification":
                return reports(envelope.message)
            case "SubscriptionConfirmation":
                await self._verifier.confirm(envelope)
        return []
