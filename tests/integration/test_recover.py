"""What a recovery puts in doubt, beside what waits to be sent: fallbacks, and people whose key is missing."""

from datetime import timedelta
from typing import Any

from handlers.recover import Recover, Recovered
from ledger.ledger import Ledger
from ledger.notification import RESTORED
from ledger.recovery import Recovery
from ledger.status import Status
from ledger.values import Channel, Fallback, Personal
from tests.integration.ledger.parts import Connection, begun, new_id, now, rows

AN_HOUR = timedelta(hours=1)


async def recovered(ledger: Ledger, *, head: int | None = None, dry_run: bool = False) -> Recovered:
    recovery = Recovery(since=now() - AN_HOUR, head=await ledger.store.head() if head is None else head, begun_at=now())
    return await Recover(ledger, recovery, told=lambda _: None, dry_run=dry_run).run()


def falls_back(**changes: Any) -> dict[str, Any]:
    """A mail that was to be delivered in a minute, or else by SMS."""
    return {
        "at": now() - AN_HOUR,
        "fallback": Fallback(channel=Channel.SMS, after=timedelta(minutes=1)),
        "personal": Personal("ada@example.com", "Ada", {}, fallback_address="+447700900123"),
        **changes,
    }


async def test_i06_what_may_have_fallen_back_has_its_other_notification_in_doubt_from_the_beginning(ledger: Ledger):
    stream = new_id()
    await ledger.append(begun(stream, **falls_back()))
    done = await recovered(ledger)
    assert (done.in_doubt.total(), done.fallbacks) == (1, 1)
    first = await ledger.load(stream)
    assert first is not None
    assert first.state.fell_back_to is not None
    instead = await ledger.load(first.state.fell_back_to)
    assert instead is not None
    assert instead.state.requested.channel is Channel.SMS
    assert instead.state.status is Status.IN_DOUBT
    assert [attempt.code for attempt in (*first.state.attempts, *instead.state.attempts)] == [RESTORED, RESTORED]


async def test_what_is_taken_in_after_the_restore_is_not_in_doubt(ledger: Ledger):
    stream = new_id()
    await ledger.append(begun(new_id()))
    head = await ledger.store.head()
    await ledger.append(begun(stream))
    assert (await recovered(ledger, head=head)).in_doubt.total() == 1
    after = await ledger.load(stream)
    assert after is not None
    assert after.state.attempts == ()


async def test_a_dry_run_counts_and_changes_nothing(ledger: Ledger, application: Connection):
    await ledger.append(begun(new_id(), **falls_back()))
    await application.execute("DELETE FROM ledger.agenda")
    head = await ledger.store.head()
    assert (await recovered(ledger, dry_run=True)).agenda == 1
    assert await ledger.store.head() == head
    assert await rows(application, "SELECT FROM ledger.agenda") == []


async def test_what_is_due_is_found_though_its_row_was_not_restored(ledger: Ledger, application: Connection):
    await ledger.append(begun(new_id()))
    await application.execute("DELETE FROM ledger.agenda")
    done = await recovered(ledger)
    assert (done.agenda, done.in_doubt.total()) == (1, 1)


async def test_whom_nobody_can_read_is_named_and_hinders_no_other(ledger: Ledger, application: Connection):
    stream = new_id()
    await ledger.append(begun(stream, recipient="user:lost"))
    await application.execute("UPDATE ledger.recipient_key SET wrapped = '\\x00' WHERE recipient = 'user:lost'")
    await ledger.append(begun(new_id()))
    done = await recovered(ledger)
    assert (done.unreadable, done.in_doubt.total()) == ([stream], 1)
