"""Messages that have just happened, and notifications brought to where a test begins."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec

from ledger import notification
from ledger.decision import Decision, SaidContent
from ledger.ledger import Ledger, Loaded
from ledger.notification import Intent, Origin
from ledger.values import Accepted, Mail
from tests.unit.templates.samples import sample

CONTENT = Mail(sender="Shop <shop@shop.example>", subject="Willkommen", html="<p>Hé</p>", text="Hé")


def message(message_type: str = "UserRegisteredEvent", **changes: Any) -> dict[str, Any]:
    """Return a message of the platform that is new, with an id of its own."""
    return {
        **sample(message_type, **changes),
        "messageId": str(uuid4()),
        "timestamp": datetime.now(UTC).isoformat(),
    }


async def posted(client: httpx.AsyncClient, body: dict[str, Any] | None = None) -> UUID:
    """Post a message for one notification and return its id."""
    reply = await client.post("/v1/messages", json=body or message())
    assert reply.status_code == 202, reply.text
    return UUID(reply.json()["notifications"][0]["id"])


async def sent(ledger: Ledger, stream: UUID, *, reference: str = "ses-1", content: Mail = CONTENT) -> UUID:
    """Let the provider take it, as `deliver` would; returns the attempt's id."""
    attempt = uuid4()

    def start(loaded: Loaded, now: datetime) -> Decision:
        digest = content.digest()
        intent = Intent(
            attempt=attempt,
            provider="ses",
            address_hash=loaded.person.address_hash or "0" * 32,
            digest=digest,
            template_version="1",
            locale="en",
            deadline_at=now + timedelta(minutes=1),
            address=loaded.person.address if loaded.person.found else None,
        )
        facts = notification.start_attempt(loaded.state, intent, Origin(now=now, cause="agenda", by="deliver"))
        assert loaded.key is not None
        said = SaidContent(loaded.state.requested.retention, stream, digest, msgspec.json.encode(content), loaded.key)
        return Decision(facts=loaded.next(facts), contents=(said,))

    def settle(loaded: Loaded, now: datetime) -> Decision:
        origin = Origin(now=now, cause="agenda", by="deliver")
        facts = notification.settle(loaded.state, attempt, Accepted(reference), origin, retry_at=now)
        return Decision(facts=loaded.next(facts))

    await ledger.change(stream, start)
    await ledger.change(stream, settle)
    return attempt
