"""One fact of each topic with every field set, as the golden files hold them."""

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from ledger import bulk, operations, preferences, recipient, suppression, template
from ledger import notification as n
from ledger.values import Category, Channel, Cost, DoubtPolicy, Lane, Personal

STREAM = UUID("019e0000-0000-7000-8000-000000000001")
ATTEMPT = UUID("0a0b0c0d-0000-4000-8000-000000000002")
PERSON = Personal("ada@example.com", "Ada Löwe", {"order": {"id": "A-17", "total": 12.5, "lines": [1, None, True]}})
KEY = bytes(range(32))

_AT = datetime(2031, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
_LATER = datetime(2031, 5, 4, 12, 15, tzinfo=UTC)
_ALL: dict[str, Any] = {"recorded_at": _AT, "cause": "intake:00ff", "by": "ingest"}
_REPORTED: dict[str, Any] = {
    **_ALL,
    "attempt": ATTEMPT,
    "key": "Delivery:m-1",
    "occurred_at": _LATER,
    "evidence": {"code": "250"},
}

FACTS: dict[str, Any] = {
    "notification.requested": n.Requested(
        **_ALL,
        type="order_shipped",
        channel=Channel.EMAIL,
        category=Category.TRANSACTIONAL,
        lane=Lane.HIGH,
        recipient="user:u-1",
        user_id="u-1",
        address_hash="ab" * 16,
        locale="en-GB",
        template="order_shipped",
        template_version="0123456789abcdef",
        catalogue="fedcba9876543210",
        doubt=DoubtPolicy.DROP,
        expires_at=_LATER,
        send_at=_LATER,
        retention="standard",
        source="order-service",
        message_id="m-1",
        correlation_id="c-1",
        references={"order": "A-17"},
        personal=PERSON,
    ),
    "notification.suppressed": n.Suppressed(**_ALL, rule="no_consent", policy="2026-11", inputs={"consent": "none"}),
    "notification.deferred": n.Deferred(
        **_ALL, until=_LATER, rule="quiet_hours", policy="2026-11", inputs={"time_zone": "Europe/London"}
    ),
    "notification.rendered": n.Rendered(
        **_ALL, digest=KEY, template="order_shipped", template_version="0123456789abcdef", locale="en"
    ),
    "notification.render_failed": n.RenderFailed(**_ALL, code="undefined", template="order_shipped"),
    "notification.attempt_started": n.AttemptStarted(
        **_ALL,
        attempt=ATTEMPT,
        provider="ses",
        address_hash="ab" * 16,
        digest=KEY,
        deadline_at=_LATER,
        because="first",
        cost=Cost(amount=Decimal("0.0166"), currency="USD", units=2),
    ),
    "notification.device_skipped": n.DeviceSkipped(**_ALL, address_hash="ef" * 16, rule="no_usable_address"),
    "notification.dispatched": n.Dispatched(**_ALL, attempt=ATTEMPT, provider="ses", reference="0100-ses"),
    "notification.attempt_failed": n.AttemptFailed(
        **_ALL, attempt=ATTEMPT, kind="postponed", code="throttled", retry_at=_LATER
    ),
    "notification.attempt_in_doubt": n.AttemptInDoubt(**_ALL, attempt=ATTEMPT, doubt="read_timeout", until=_LATER),
    "notification.released": n.Released(**_ALL, reason="the person has called"),
    "notification.failed": n.Failed(**_ALL, reason="refused: bad_address"),
    "notification.expired": n.Expired(**_ALL),
    "notification.cancelled": n.Cancelled(**_ALL, reason="the sale is off"),
    "notification.inquired": n.Inquired(**_ALL, attempt=ATTEMPT, answer="sent", again_at=_LATER),
    "notification.fell_back": n.FellBack(**_ALL, channel=Channel.SMS, to=STREAM, reason="bounced"),
    "notification.fallback_dropped": n.FallbackDropped(**_ALL, reason="expired"),
    "notification.sent_again": n.SentAgain(**_ALL, to=STREAM, reason="she has called"),
    "notification.delayed": n.Delayed(**_REPORTED),
    "notification.delivered": n.Delivered(**_REPORTED),
    "notification.bounced": n.Bounced(**_REPORTED),
    "notification.rejected": n.Rejected(**_REPORTED),
    "notification.complained": n.Complained(**_REPORTED),
    "notification.opened": n.Opened(**_REPORTED),
    "notification.clicked": n.Clicked(**_REPORTED),
    "notification.unsubscribed": n.Unsubscribed(**_REPORTED),
    "suppression.listed": suppression.Listed(
        **_ALL,
        channel=Channel.EMAIL,
        address_hash="ab" * 16,
        reason=suppression.Reason.HARD_BOUNCE,
        notification=STREAM,
        attempt=ATTEMPT,
    ),
    "suppression.delisted": suppression.Delisted(
        **_ALL,
        channel=Channel.EMAIL,
        address_hash="ab" * 16,
        reason=suppression.Reason.UNSUBSCRIBE,
        category=Category.MARKETING,
        note="the person asked for it",
    ),
    "recipient.contact_changed": recipient.ContactChanged(
        **_ALL,
        recipient="user:u-1",
        said_at=_LATER,
        fields=tuple(recipient.Field),
        email_hash="ab" * 16,
        phone_hash="cd" * 16,
        locale="en-GB",
        time_zone="Europe/London",
        personal=recipient.Contact("ada@example.com", "+442071838750", "Ada Löwe"),
    ),
    "recipient.device_registered": recipient.DeviceRegistered(
        **_ALL,
        recipient="user:u-1",
        said_at=_LATER,
        address_hash="ef" * 16,
        platform=recipient.Platform.IOS,
        personal=Personal("fid-1"),
    ),
    "recipient.device_dropped": recipient.DeviceDropped(
        **_ALL, address_hash="ef" * 16, reason=recipient.DropReason.UNREGISTERED
    ),
    "recipient.preferences_changed": preferences.PreferencesChanged(
        **_ALL,
        recipient="user:u-1",
        said_at=_LATER,
        choices=(preferences.Choice(Category.MARKETING, Channel.SMS, enabled=False),),
    ),
    "recipient.consent_changed": preferences.ConsentChanged(
        **_ALL,
        recipient="user:u-1",
        said_at=_LATER,
        purpose="marketing",
        granted=True,
        wording="2031-05",
        where="checkout",
    ),
    "recipient.quiet_hours_changed": preferences.QuietHoursChanged(
        **_ALL, recipient="user:u-1", said_at=_LATER, quiet=preferences.QuietHours(time(22), time(7, 30))
    ),
    "recipient.erased": recipient.Erased(**_ALL, recipient="user:u-1", reason="asked by letter"),
    "operations.paused": operations.Paused(
        **_ALL, pause=ATTEMPT, type="flash_sale", channel=Channel.SMS, provider="twilio", reason="wrong price"
    ),
    "operations.resumed": operations.Resumed(**_ALL, pause=ATTEMPT, reason="the price is right again"),
    "template.drafted": template.Drafted(**_ALL, template="order_shipped", draft="0123456789abcdef"),
    "template.published": template.Published(
        **_ALL,
        template="order_shipped",
        draft="0123456789abcdef",
        version="fedcba9876543210",
        replaces="00ff00ff00ff00ff",
        reason="a friendlier greeting",
    ),
    "template.rolled_back": template.RolledBack(
        **_ALL,
        template="order_shipped",
        version="00ff00ff00ff00ff",
        replaces="fedcba9876543210",
        reason="the greeting was too friendly",
    ),
    "bulk.begun": bulk.Begun(
        **_ALL, action=bulk.Action.RESEND, filters={"type": "order_shipped"}, count=3, reason="the mails were empty"
    ),
    "bulk.stopped": bulk.Stopped(**_ALL, reason="the wrong ones"),
    "bulk.ended": bulk.Ended(**_ALL, done=2, refused={"erased": 1}),
}
