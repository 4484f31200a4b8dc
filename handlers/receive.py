"""Providers' reports: each becomes a fact of the attempt it speaks of, or waits until that attempt is known."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from handlers.metrics import Metrics
from ledger import notification
from ledger.decision import Decision, NewFact
from ledger.errors import UnavailableError, UnknownTopicError
from ledger.ledger import Ledger, Loaded
from ledger.notification import Origin, State
from ledger.set_aside import SetAside
from ledger.suppression import Grounds, Reason, list_address
from ledger.values import Category, Report, ReportKind

_log = structlog.get_logger("handlers.receive")


class Receive:
    """Records reports. When a method returns, every report that it was given is on disk (promise I9)."""

    def __init__(self, ledger: Ledger, set_aside: SetAside, metrics: Metrics) -> None:
        self._ledger = ledger
        self._set_aside = set_aside
        self._metrics = metrics

    async def reports(self, reports: Sequence[Report]) -> None:
        """Record verified reports; one that matches nothing is kept. Raises UnavailableError, OverloadedError."""
        await asyncio.gather(*(self._record_or_keep(report) for report in reports))

    async def try_unmatched(self) -> int:
        """Try the kept reports again; returns how many have found their notification."""
        found = 0
        for report in await self._set_aside.reports_to_try():
            try:
                if await self._record(report):
                    await self._set_aside.drop_report(report)
                    found += 1
            except UnavailableError:
                raise
            except Exception as exc:  # noqa: BLE001 - one report's trouble is not the next one's
                _log.error("unmatched_report_failed", provider=report.provider, error=type(exc).__name__)
        return found

    async def _record_or_keep(self, report: Report) -> None:
        if not await self._record(report):
            await self._set_aside.keep_report(report, now=self._ledger.clock.now())
            self._count(report, "unmatched")
            _log.warning("unmatched_report", provider=report.provider, kind=report.kind.value)

    async def _record(self, report: Report) -> bool:
        """Record a report where it belongs; False when nothing it names is known."""
        sent_along = (report.notification, report.attempt)
        found = await self._set_aside.find_reference(report.provider, report.reference) if None in sent_along else None
        notification_id, attempt = found or sent_along
        if notification_id is None or attempt is None:
            return False
        return await self._record_at(notification_id, attempt, report)

    async def _record_at(self, stream: UUID, attempt: UUID, report: Report) -> bool:
        result = "unmatched"

        def decide(loaded: Loaded, now: datetime) -> Decision | None:
            nonlocal result
            known = notification.reported_attempt(loaded.state, attempt)
            if known is None:
                return None
            origin = Origin(now=now, cause=f"report:{report.key}", by=report.provider)
            facts = notification.report(loaded.state, known, report, origin)
            result = "recorded" if facts else _without_fact(loaded.state, known, report)
            return Decision(facts=(*loaded.next(facts), *suppressed(loaded, known, report, origin))) if facts else None

        try:
            loaded = await self._ledger.change(stream, decide)
        except UnknownTopicError:
            return False
        if loaded is None or result == "unmatched":
            return False
        self._count(report, result)
        _log.info(
            "report",
            notification_id=str(stream),
            provider=report.provider,
            attempt=str(attempt),
            kind=report.kind.value,
            result=result,
            reference=report.reference,
        )
        return True

    def _count(self, report: Report, result: str) -> None:
        self._metrics.reports.labels(report.provider, report.kind.value, result).inc()


def suppressed(loaded: Loaded, attempt: UUID, report: Report, origin: Origin) -> tuple[NewFact, ...]:
    """List the address with the report that forbids to use it: in one commit, so that no send comes between them.

    Who wants no more by a provider's list management means what they were written about, but never what is for safety.
    """
    category = loaded.state.requested.category
    if report.kind is ReportKind.UNSUBSCRIBED and category is not Category.SECURITY:
        return listed(loaded, attempt, Reason.UNSUBSCRIBE, origin, category=category)
    return listed(loaded, attempt, _forbids(report), origin) if report.suppresses else ()


def _forbids(report: Report) -> Reason:
    if report.opted_out:
        return Reason.OPT_OUT
    return Reason.COMPLAINT if report.kind is ReportKind.COMPLAINED else Reason.HARD_BOUNCE


def listed(
    loaded: Loaded, attempt: UUID, reason: Reason, origin: Origin, *, category: Category | None = None
) -> tuple[NewFact, ...]:
    """List the address that an attempt went to, wherever the person may be reached by now."""
    tried = loaded.state.attempt(attempt)
    known = loaded.suppressions.get(tried.address_hash) if tried is not None else None
    if known is None:
        return ()
    grounds = Grounds(reason=reason, category=category, notification=loaded.stream, attempt=attempt)
    return known.next(list_address(known, grounds, origin))


def _without_fact(state: State, attempt: UUID, report: Report) -> str:
    """Say why a report gave no fact: it was known, or it is one of very many opens and is counted only."""
    found = state.attempt(attempt)
    is_new = found is not None and report.key not in found.reports
    return "counted" if is_new and report.kind in {ReportKind.OPENED, ReportKind.CLICKED} else "known"
