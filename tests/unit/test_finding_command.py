"""What `find` says at a terminal: to be read by somebody with a caller on the line."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from api.finding import Found, FoundLetter, Hit, Reach
from api.views import Recipient
from ledger.queues import Queue
from ops.finding_commands import lines
from projections.finding import Conflict

NOW = datetime(2026, 11, 23, 10, 2, 0, tzinfo=UTC)
ID = UUID("01a206f8-5a3c-7000-8000-00000000000a")
UP_TO_DATE = Reach(asked_at=NOW, since=NOW - timedelta(days=35), view_events=0, view_seconds=0.0, parked=0, queues=[])
NOTHING = Found(
    taken_for=["user_id"],
    notifications=[],
    cursor=None,
    unlisted=[],
    dead_letters=[],
    more_dead_letters=False,
    conflicts=[],
    suppressions=[],
    reach=UP_TO_DATE,
)


def told(**changes: Any) -> list[str]:
    return list(lines(msgspec.structs.replace(NOTHING, **changes)))


def hit(**changes: Any) -> Hit:
    absent = dict.fromkeys(Hit.__struct_fields__)
    shown: dict[str, Any] = {
        **absent,
        "id": ID,
        "created_at": NOW,
        "channel": "email",
        "type": "order_shipped",
        "status": "delivered",
        "recipient": Recipient(user_id="u-1", address="a…@e…", name="A…"),
        "matched_by": ["reference"],
        "held": False,
        **changes,
    }
    return Hit(**shown)


def test_a_notification_is_a_line_that_says_how_it_stands_and_by_what_it_was_found():
    assert told(notifications=[hit()]) == [
        f"{ID}  2026-11-23 10:02:00  email order_shipped: delivered to a…@e…  by reference"
    ]


def test_what_is_held_or_to_come_is_marked():
    (held,) = told(notifications=[hit(status="in_doubt", held=True, due_at=NOW)])
    assert "HELD for a person" in held
    (waiting,) = told(notifications=[hit(status="requested", due_at=NOW)])
    assert "next at 2026-11-23 10:02:00" in waiting


def test_a_page_says_how_the_next_one_is_asked_for():
    assert told(notifications=[hit()], cursor="abc")[-1] == "more: --cursor abc"


def test_nothing_found_says_since_when_and_how_far():
    assert told() == [
        "nothing found",
        "no refused message speaks of it, nothing of it is on the suppression list, no conflict is recorded",
        "searched: all since 2026-10-19 10:02:00; the lists are up to date",
        "no queue of a broker was ever read here",
    ]
    behind = msgspec.structs.replace(
        UP_TO_DATE,
        view_events=3,
        view_seconds=0.25,
        parked=1,
        queues=[Queue(name="ingest", waiting=17, seen_at=NOW - timedelta(seconds=4))],
    )
    assert told(reach=behind)[2:] == [
        "searched: all since 2026-10-19 10:02:00; the lists are 3 facts (0.2 s) behind; 1 are left out",
        "queue ingest: 17 messages not taken in, as of 4 s ago",
    ]


def test_what_was_refused_and_what_came_again_is_said_with_its_reason():
    letter = FoundLetter(
        key="ab" * 32,
        reason="payload",
        faults=[{"path": "payload.orderId", "message": "is required"}],
        source="OrderService",
        type="OrderShippedEvent",
        message_id="m-1",
        state="waiting",
        seen=1,
        received_at=NOW,
    )
    conflict = Conflict(times=2, taken_at=NOW, last_at=NOW + timedelta(minutes=1), notifications=[ID])
    said = told(dead_letters=[letter], more_dead_letters=True, conflicts=[conflict])
    assert said == [
        (
            "refused 2026-11-23 10:02:00, waiting: payload OrderService OrderShippedEvent m-1 "
            f"(payload.orderId is required): {'ab' * 32}"
        ),
        "more messages were refused: look with `dead-letters list`",
        (
            "the message came again 2 times with other content, last at 2026-11-23 10:03:00: nothing was sent by that, "
            "what came first at 2026-11-23 10:02:00 holds"
        ),
    ]
