"""Resends against what happens at the same moment: one for each command, and none for whom it must not reach."""

import asyncio
import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from handlers.by_hand import NoSuchNotificationError, TooLateError, cancel
from handlers.erasures import erase_user
from handlers.resending import NotAgainError, OtherReasonError, Resent, resend, resend_of_bulk
from handlers.suppressions import list_by_hand
from ledger.archive import Archive
from ledger.ledger import Ledger
from ledger.notification import WhyNot
from ledger.store import Store
from ledger.suppression import Grounds, Reason
from ledger.values import Channel, Lane, Personal
from providers.directory import Directory
from providers.fakes.ses import FakeSes
from tests.integration.api.deliveries import sent
from tests.integration.ledger.parts import begun, new_id, running_ledger
from tests.integration.test_pauses import deliverer, handle, read
from tests.support.postgres import Database
from tests.support.races import Race

AT_ONCE = 20
RACES = int(os.environ.get("TEST_RACES", "50")) // 2


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Archive:
    return Archive(store, Directory(tmp_path))


async def taken(ledger: Ledger, **changes: object) -> UUID:
    """A notification that its provider has taken."""
    stream = new_id()
    await ledger.append(begun(stream, **changes))
    await sent(ledger, stream)
    return stream


async def resends(ledger: Ledger, stream: UUID) -> list[UUID]:
    loaded = await ledger.load(stream)
    assert loaded is not None
    return [fact.to for fact in loaded.state.resends]


async def test_both_ends_name_each_other(ledger: Ledger, archive: Archive):
    stream = await taken(ledger)
    made = await resend(ledger, archive, stream, by="api:support", reason="she has called")
    again = await ledger.load(made.notification)
    assert again is not None
    assert (again.state.requested.resend_of, again.state.requested.by) == (stream, "api:support")
    assert await resends(ledger, stream) == [made.notification]


async def test_of_clicks_at_the_same_moment_over_two_processes_one_is_sent(
    ledger: Ledger, archive: Archive, database: Database
):
    stream = await taken(ledger)
    async with running_ledger(database.url) as another:
        clicks = (
            resend(each, archive, stream, by="api:support", reason="she has called")
            for each in [ledger, another] * (AT_ONCE // 2)
        )
        made = await asyncio.gather(*clicks)
    assert len({one.notification for one in made}) == 1
    assert sum(one.is_new for one in made) == 1
    assert len(await resends(ledger, stream)) == 1


async def test_another_person_and_another_command_send_it_once_more(ledger: Ledger, archive: Archive):
    stream = await taken(ledger)
    asked = [("api:support", None), ("api:chief", None), ("api:support", "key-1"), ("api:support", "key-2")]
    for by, command in asked:
        made = await resend(ledger, archive, stream, by=by, reason="she has called", command=command)
        assert made.is_new, (by, command)
    repeated = await resend(ledger, archive, stream, by="api:support", reason="she has called", command="key-1")
    assert repeated == Resent((await resends(ledger, stream))[2], is_new=False)
    with pytest.raises(OtherReasonError):
        await resend(ledger, archive, stream, by="api:support", reason="another", command="key-1")


async def test_in_bulk_what_was_sent_again_before_stays_as_it_is_and_the_urgent_lane_stays_free(
    ledger: Ledger, archive: Archive
):
    urgent, before = await taken(ledger, lane=Lane.URGENT), await taken(ledger)
    await resend(ledger, archive, before, by="api:support", reason="she has called")
    cause = f"bulk:{uuid4()}"
    asked = {"by": "api:support", "reason": "they were empty", "cause": cause}
    assert await resend_of_bulk(ledger, archive, before, **asked) is None
    first = await resend_of_bulk(ledger, archive, urgent, **asked)
    again = await resend_of_bulk(ledger, archive, urgent, **asked)
    assert first is not None
    assert again == Resent(first.notification, is_new=False)
    loaded = await ledger.load(first.notification)
    assert loaded is not None
    assert loaded.state.requested.lane is Lane.HIGH


async def test_a_cancel_and_a_resend_at_the_same_moment_agree_on_who_was_first(
    ledger: Ledger, archive: Archive, database: Database
):
    """Before the cancel it is still on its way, behind it the cancel is over: never both a refusal and none sent."""
    async with running_ledger(database.url) as another:
        for _ in range(10):
            stream = new_id()
            await ledger.append(begun(stream))
            called_off, made = await asyncio.gather(
                cancel(another, stream, by="api:chief", reason="a race"),
                resend(ledger, archive, stream, by="api:support", reason="a race"),
                return_exceptions=True,
            )
            assert not isinstance(called_off, TooLateError)
            if isinstance(made, NotAgainError):
                assert made.why is WhyNot.STILL_TO_COME
                assert await resends(ledger, stream) == []
            else:
                assert len(await resends(ledger, stream)) == 1


async def test_i19_what_was_said_to_somebody_who_was_erased_is_not_sent_again(ledger: Ledger, archive: Archive):
    stream = await taken(ledger)
    await erase_user(ledger, "u-1", (), by="api:chief", reason="asked for")
    with pytest.raises(NotAgainError) as refused:
        await resend(ledger, archive, stream, by="api:support", reason="she has called")
    assert refused.value.why is WhyNot.ERASED


async def test_i19_of_an_erasure_and_a_resend_at_the_same_moment_nothing_from_before_it_is_sent(
    ledger: Ledger, archive: Archive, database: Database
):
    race = Race()
    async with running_ledger(database.url) as another:

        async def sent_again(stream: UUID) -> UUID | None:
            try:
                return (await resend(another, archive, stream, by="api:support", reason="a race")).notification
            except NotAgainError:
                return None

        for number in range(RACES):
            user = f"u-{number}"
            stream = await taken(ledger, user_id=user, recipient=f"user:{user}")
            made = await race.run(sent_again(stream), erase_user(ledger, user, (), by="api:chief", reason="a race"))
            race.tell(one_was_first=made is not None)
            again = await ledger.load(made) if made is not None else None
            assert again is None or again.is_erased


async def test_the_rules_are_asked_again_when_it_is_due(ledger: Ledger, archive: Archive, fake: FakeSes):
    address = "listed@sandbox.example"
    known = {"personal": Personal(address), "address_hash": ledger.identity.address_hash(address)}
    stream = await taken(ledger, **known)
    await list_by_hand(ledger, Channel.EMAIL, address, Grounds(reason=Reason.MANUAL, note="a test"), by="test")
    made = await resend(ledger, archive, stream, by="api:support", reason="she has called")
    async with deliverer(ledger, fake) as deliver:
        await handle(deliver, await read(ledger, made.notification))
    assert (await read(ledger, made.notification)).state.reason == "suppressed_address"
    assert fake.requests == []


async def test_what_never_was_and_what_is_on_its_way_is_refused(ledger: Ledger, archive: Archive):
    with pytest.raises(NoSuchNotificationError):
        await resend(ledger, archive, new_id(), by="api:support", reason="she has called")
    stream = new_id()
    await ledger.append(begun(stream, channel=Channel.SMS))
    with pytest.raises(NotAgainError, match="still on its way; call that off before, or wait for it"):
        await resend(ledger, archive, stream, by="api:support", reason="she has called")
