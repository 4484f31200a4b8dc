"""What the handlers count and time. Made once, by the wiring; no label has more values than the catalogue has lines."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# 10 s is what the objective counts by (docs/how-to/slo.md); what lies behind it says how late the late ones are.
_HANDOVER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """Every counter and histogram of the write side, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter(
            "notification_ingestion_messages",
            "Messages and requests by type and result (taken, repeated, conflict, rejected, unknown, killer).",
            ("type", "result"),
            registry=registry,
        )
        self.ingestion_seconds = Histogram(
            "notification_ingestion_seconds",
            "From having a batch of messages in hand to having them on disk.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.broker_connected = Gauge(
            "notification_ingestion_connected", "Whether this process consumes from the broker.", registry=registry
        )
        self.queue_ready = Gauge(
            "notification_ingestion_queue_ready",
            "Messages that wait in the broker's queue.",
            ("queue",),
            registry=registry,
        )
        self.queue_unacked = Gauge(
            "notification_ingestion_queue_unacked",
            "Messages that this process holds and has not acked.",
            ("queue",),
            registry=registry,
        )
        self.attempts = Counter(
            "notification_dispatch_attempts",
            "Attempts by outcome (accepted, refused, postponed, in_doubt).",
            ("channel", "provider", "outcome"),
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "notification_dispatch_seconds",
            "The provider's answer time.",
            ("channel", "provider"),
            registry=registry,
            buckets=_SECONDS,
        )
        self.handover_seconds = Histogram(
            "notification_handover_seconds",
            "From when a notification could be sent (taken in, `send_at`, the end of a pause) to when a provider has "
            "taken it; each is counted once.",
            ("channel", "lane"),
            registry=registry,
            buckets=_HANDOVER_SECONDS,
        )
        self.failovers = Counter(
            "notification_dispatch_failovers",
            "Attempts that went by another provider than the first of their channel.",
            ("channel", "provider"),
            registry=registry,
        )
        self.inquiries = Counter(
            "notification_inquiries",
            "Questions to a provider about a message that it never reported on, by result (answered, unknown, "
            "unanswered).",
            ("channel", "provider", "result"),
            registry=registry,
        )
        self.fallbacks = Counter(
            "notification_fallbacks",
            "Notifications that another channel's took the place of: not delivered in time, or not at all.",
            ("channel", "to"),
            registry=registry,
        )
        self.ended = Counter(
            "notification_dispatch_ended",
            "Notifications that ended without being taken by a provider (suppressed, failed, expired).",
            ("channel", "status", "reason"),
            registry=registry,
        )
        self.provider_requests = Counter(
            "notification_provider_requests",
            "Requests to a provider by operation (send, ask) and result (answered, refused, throttled, unavailable, "
            "fault_of_ours, no_answer).",
            ("provider", "operation", "result"),
            registry=registry,
        )
        self.rate_limit = Gauge(
            "notification_provider_rate_limit",
            "Calls a second that the provider may get from all processes together; without a limit there is none.",
            ("provider",),
            registry=registry,
        )
        self.cost = Counter(
            "notification_provider_cost",
            "What the attempts that a provider has or may have taken cost, by the price list.",
            ("channel", "provider", "currency"),
            registry=registry,
        )
        self.provider_faults = Counter(
            "notification_provider_faults",
            "Answers that name a fault of ours (credentials, quota, unverified sender): alert on any.",
            ("provider", "code"),
            registry=registry,
        )
        self.set_aside = Counter(
            "notification_dispatch_set_aside",
            "Notifications given up because handling them ended several processes: alert on any.",
            ("channel",),
            registry=registry,
        )
        self.unreadable = Counter(
            "notification_dispatch_unreadable",
            "Times that something due could not be read and was left to wait, by error: alert on all but "
            "UnknownTopicError.",
            ("channel", "error"),
            registry=registry,
        )
        self.reports = Counter(
            "notification_reports",
            "Provider reports by kind and result (recorded, known, counted, unmatched).",
            ("provider", "kind", "result"),
            registry=registry,
        )
        self.replies = Counter(
            "notification_replies",
            "Answers to an SMS by word (stop, start, other) and result (recorded, known, ignored).",
            ("provider", "word", "result"),
            registry=registry,
        )
        self.refused_callbacks = Counter(
            "notification_reports_refused", "Callbacks that were not the provider's.", ("provider",), registry=registry
        )
        self.published = Counter(
            "notification_outbox_published",
            "Status messages by type and result (confirmed; returned, refused, unconfirmed: published again).",
            ("type", "result"),
            registry=registry,
        )
        self.unrouted = Gauge(
            "notification_outbox_unrouted",
            "Status messages that nobody had bound a queue for, kept in `notification.events.unrouted`.",
            registry=registry,
        )
        self.database_seconds = Histogram(
            "notification_database_seconds",
            "Time with the database by operation (wait: for a connection of the pool; query: with it; append: one "
            "commit of up to 200 decisions).",
            ("operation",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.maintenance_failures = Counter(
            "notification_maintenance_failures",
            "Runs of a job of the clock that failed; it runs again after a minute.",
            ("job",),
            registry=registry,
        )
        self.maintenance_succeeded = Gauge(
            "notification_maintenance_last_success_timestamp_seconds",
            "When a job of the clock last came to its end in this process, 0 until then; take the maximum of all.",
            ("job",),
            registry=registry,
        )
        self.maintenance_seconds = Gauge(
            "notification_maintenance_seconds", "How long its last run took.", ("job",), registry=registry
        )
        self.archived_weeks = Counter(
            "notification_archived_weeks",
            "Weeks whose facts went to the archive and left the database.",
            registry=registry,
        )

    def time_database(self, operation: str, seconds: float) -> None:
        """Observe how long an operation of the store took (ledger.store.Timed)."""
        self.database_seconds.labels(operation).observe(seconds)
