"""Decisions of one fact of 300 bytes, a guard and an agenda row: what the ledger's own speed is measured with."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from ledger.decision import AgendaRow, Decision, NewFact
from ledger.ids import notification_id
from ledger.notification import Due, Requested
from ledger.store import Encoded
from ledger.values import REDACTED, Category, Channel, DoubtPolicy, Lane

BYTES = 300
TOPIC = "notification.requested"


def encoded(count: int, guarded: Sequence[UUID]) -> list[Encoded]:
    """Return decisions as they are stored, each guarded by one of the standing streams, which are at version 1."""
    now = datetime.now(UTC)
    due = Due(now, Channel.EMAIL, Lane.NORMAL)
    return [_encoded(notification_id(now), guarded[number % len(guarded)], due) for number in range(count)]


def standing(count: int) -> list[Encoded]:
    """Return decisions that begin standing streams, for others to be guarded by."""
    streams = [UUID(bytes=bytes([0xF0]) + os.urandom(15)) for _ in range(count)]
    return [Encoded(facts=[(stream, 1, TOPIC, _state())]) for stream in streams]


def requested(count: int) -> list[Decision]:
    """Return decisions as intake makes them, without personal data: what is measured is not the sealing."""
    now = datetime.now(UTC)
    return [Decision(facts=(NewFact(notification_id(now), 1, request(now)),)) for _ in range(count)]


def _encoded(stream: UUID, guard: UUID, due: Due) -> Encoded:
    return Encoded(facts=[(stream, 1, TOPIC, _state())], guards=[(guard, 1)], agenda=[AgendaRow(stream, 1, due)])


def _state() -> bytes:
    return b'{"said":"%s"}' % os.urandom(BYTES // 2).hex().encode()[: BYTES - len('{"said":""}')]


def request(now: datetime, *, expires_at: datetime | None = None) -> Requested:
    """Return a first fact without personal data, which expires at once unless it is said when."""
    return Requested(
        recorded_at=now,
        cause=uuid4().hex,
        by="bench",
        type="small",
        channel=Channel.EMAIL,
        category=Category.TRANSACTIONAL,
        lane=Lane.NORMAL,
        recipient="user:1",
        locale="en",
        template="small",
        template_version="1",
        catalogue="1",
        doubt=DoubtPolicy.RESEND,
        expires_at=expires_at or now,
        retention="standard",
        source="bench",
        personal=REDACTED,
    )
