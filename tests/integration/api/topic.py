"""An SNS topic of the tests: shows its certificate, and signs what is posted in its name."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from aiohttp import web

from providers.fakes.sns import Seal

ARN = "arn:aws:sns:eu-west-1:000000000000:ses-events"
_SIGNED = ("Message", "MessageId", "Timestamp", "TopicArn", "Type")


class SignedTopic:
    """`url` is where the certificate is served; `shows_certificate` may be switched off."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self.url = ""
        self.shows_certificate = True

    @classmethod
    @contextlib.asynccontextmanager
    async def serving(cls, seal: Seal) -> "AsyncIterator[SignedTopic]":
        topic = cls(seal)
        app = web.Application()
        app.add_routes([web.get(topic._seal.path, topic._certificate)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        topic.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield topic
        finally:
            await runner.cleanup()

    async def _certificate(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.shows_certificate else 500, body=self._seal.certificate)

    def posted(self, message: dict[str, Any], **fields: str) -> bytes:
        """Return the body of a signed notification; `fields` overwrite what was signed."""
        envelope = {
            "Type": "Notification",
            "MessageId": str(uuid4()),
            "TopicArn": ARN,
            "Message": msgspec.json.encode(message).decode(),
            "Timestamp": datetime.now(UTC).isoformat(),
        }
        text = "".join(f"{name}\n{envelope[name]}\n" for name in _SIGNED).encode()
        envelope["Signature"] = self._seal.signature(text, version="2")
        envelope |= {"SignatureVersion": "2", "SigningCertURL": f"{self.url}{self._seal.path}"}
        return msgspec.json.encode(envelope | fields)

    def delivery(self, notification: UUID, attempt: UUID, *, reference: str = "ses-1") -> bytes:
        """Return the report that a mail was delivered, as SES publishes it (event publishing, SES developer guide)."""
        said = {"recipients": ["ada@example.com"], "smtpResponse": "250 2.6.0 taken"}
        return self._event("Delivery", said, notification, attempt, reference=reference)

    def bounce(self, notification: UUID, attempt: UUID) -> bytes:
        """Return the report that a mail bounced for good, likewise."""
        said = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [{"status": "5.1.1"}]}
        return self._event("Bounce", said, notification, attempt)

    def opt_out(self, notification: UUID, attempt: UUID) -> bytes:
        """Return the report that somebody has left a list that SES manages, likewise."""
        said = {"newTopicPreferences": {"topicSubscriptionStatus": [{"subscriptionStatus": "OptOut"}]}}
        return self._event("Subscription", said, notification, attempt)

    def _event(
        self, kind: str, said: dict[str, Any], notification: UUID, attempt: UUID, *, reference: str = "ses-1"
    ) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        tags = {"notification": [str(notification)], "attempt": [str(attempt)]}
        mail = {"timestamp": now, "messageId": reference, "destination": ["ada@example.com"], "tags": tags}
        return self.posted({"eventType": kind, "mail": mail, kind.lower(): {"timestamp": now, **said}})
