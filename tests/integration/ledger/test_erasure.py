"""What goes with the fact that erases a person, in its commit: their key, their addresses, what was refused of them."""

import asyncio
from collections.abc import Sequence
from importlib import resources

import pytest

from ledger import erasure
from ledger.decision import Decision, NewFact
from ledger.errors import RefusedError
from ledger.ledger import Ledger
from ledger.notification import Origin
from ledger.recipient import ContactNews, Field, Recipient, erase, learn, nobody_named
from ledger.set_aside import Refusal
from ledger.store import Store
from ledger.values import REDACTED, Personal
from ops import migrations
from tests.integration.ledger import lives
from tests.integration.ledger.parts import IDENTITY, KEYS, Connection, begun, new_id, now, rows, set_aside_in, value
from tests.integration.ledger.parts import request as requested

ONE_DATABASE = True

KEYED = "SELECT recipient FROM ledger.recipient_key ORDER BY 1"
ADDRESSES = "SELECT recipient, address_hash FROM ledger.recipient_address ORDER BY 1, 2"
ADA, EVA, PHONE = "ada@example.com", "eva@example.com", "+447400990457"


def hashed(address: str) -> str:
    return IDENTITY.address_hash(address)


def erased(name: str, *, version: int = 0) -> NewFact:
    state = nobody_named(IDENTITY, name)
    (fact,) = erase(state, "asked by letter", Origin(now=now(), cause="test", by="test"), is_anything_kept=True)
    return NewFact(state.stream, version + 1, fact)


async def test_i19_the_key_goes_with_the_fact_and_everyone_elses_stays(ledger: Ledger, application: Connection):
    one, other = await lives.begin(ledger, recipient="user:u-1"), await lives.begin(ledger, recipient="user:u-2")
    await ledger.append(Decision(facts=(erased("user:u-1"),)))
    assert await rows(application, KEYED) == [("user:u-2",)]
    gone, intact = await ledger.load(one), await ledger.load(other)
    assert gone is not None
    assert intact is not None
    assert gone.state.requested.personal == REDACTED
    assert isinstance(intact.state.requested.personal, Personal)


async def test_i19_a_fact_that_is_refused_takes_nothing_with_it(ledger: Ledger, application: Connection):
    await lives.begin(ledger, recipient="user:u-1")
    with pytest.raises(RefusedError):
        await ledger.append(Decision(facts=(erased("user:u-1", version=1),)))
    assert await rows(application, KEYED) == [("user:u-1",)]
    assert await rows(application, "SELECT FROM ledger.erasure") == []


async def test_it_is_listed_who_was_erased_when_last(ledger: Ledger, application: Connection):
    first = erased("user:u-1")
    await ledger.append(Decision(facts=(first,)))
    (listed,) = await erasure.listed(application)
    assert (listed.recipient, listed.erased_at, listed.reason) == (
        "user:u-1",
        first.fact.recorded_at,
        "asked by letter",
    )
    assert (await erasure.not_copied(application))[0] == 1
    await erasure.set_copied(application, [listed])
    assert await erasure.not_copied(application) == (0, 0.0)

    await ledger.append(Decision(facts=(erased("user:u-1", version=1),)))
    await erasure.set_copied(application, [listed])
    assert (await erasure.not_copied(application))[0] == 1
    (again,) = await erasure.listed(application)
    assert again.erased_at > listed.erased_at


async def test_the_addresses_of_people_are_known_by_their_hashes(ledger: Ledger, application: Connection):
    def told(known: Recipient, at: object) -> Decision:
        news = ContactNews("u-1", now(), {Field.EMAIL: EVA, Field.PHONE: PHONE})
        return Decision(facts=known.next(learn(known, news, Origin(now=now(), cause="t", by="t"), IDENTITY)))

    await ledger.change_recipient("u-1", told)
    personal = Personal(ADA, fallback_address=PHONE)
    await ledger.append(begun(recipient="user:u-2", address_hash=hashed(ADA), personal=personal))
    alone = f"address:{hashed(EVA)}"
    await ledger.append(begun(recipient=alone, address_hash=hashed(EVA), personal=Personal(EVA)))
    assert set(await rows(application, ADDRESSES)) == {
        ("user:u-1", hashed(EVA)),
        ("user:u-1", hashed(PHONE)),
        ("user:u-2", hashed(ADA)),
        ("user:u-2", hashed(PHONE)),
    }
    assert await erasure.addresses(application, ["user:u-1"], []) == {hashed(EVA): False, hashed(PHONE): True}
    assert await erasure.addresses(application, [alone], [hashed(EVA)]) == {hashed(EVA): True}
    await ledger.append(Decision(facts=(erased("user:u-1", version=1),)))
    assert await erasure.addresses(application, ["user:u-1"], []) == {}
    assert await erasure.addresses(application, ["user:u-2"], []) == {hashed(ADA): False, hashed(PHONE): False}


async def test_i19_refused_messages_that_name_the_person_go_and_no_others(ledger: Ledger, application: Connection):
    set_aside = set_aside_in(ledger.store)
    bodies = [b'{"payload":{"userId":"u-1"}}', f"to {ADA}".encode(), b'{"payload":{"userId":"u-2"}}']
    keys = [await set_aside.keep(body, Refusal(reason="invalid"), origin="amqp", now=now()) for body in bodies]
    streams = {name: nobody_named(IDENTITY, name).stream for name in ("user:u-1", f"address:{hashed(ADA)}", "user:u-3")}
    assert await erasure.kept(application, streams) == {"user:u-1", f"address:{hashed(ADA)}"}
    await ledger.append(Decision(facts=(erased("user:u-1"), erased(f"address:{hashed(ADA)}"))))
    assert [await set_aside.shown(key) is not None for key in keys] == [False, False, True]
    assert await erasure.kept(application, streams) == frozenset()


async def test_i19_what_comes_after_it_is_sealed_under_a_new_key_and_opens_nothing_of_before(
    ledger: Ledger, application: Connection
):
    before = await lives.begin(ledger, recipient="user:u-1")
    await ledger.append(Decision(facts=(erased("user:u-1"),)))
    after = await lives.begin(ledger, recipient="user:u-1")
    found = [await ledger.load(stream) for stream in (before, after)]
    assert [type(one.state.requested.personal).__name__ for one in found if one] == ["Redacted", "Personal"]


async def test_i19_a_key_that_is_made_while_the_one_before_is_destroyed_is_the_new_one(
    store: Store, application: Connection, owner: Connection
):
    """The reading of `ensure` begins before the commit of the erasure, and ends behind it."""
    old = (await KEYS.ensure(application, ["user:u-1"]))["user:u-1"]
    await owner.execute("BEGIN")
    await owner.execute("DELETE FROM ledger.recipient_key")
    making = asyncio.create_task(KEYS.ensure(application, ["user:u-1"], [("user:u-1", hashed(ADA))]))
    waits = """
    SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE a.datname = current_database() AND l.locktype = 'transactionid' AND NOT l.granted)
    """
    async with store.connection() as other:
        while not await value(other, waits):
            pass
    await owner.execute("COMMIT")
    made = (await making)["user:u-1"]
    stored = (await KEYS.read(application, ["user:u-1"]))["user:u-1"]
    assert stored.open(made.seal(b"secret", bound_to=b""), bound_to=b"") == b"secret"
    assert await _does_not_open(old.seal(b"secret", bound_to=b""), stored)


async def _does_not_open(sealed: bytes, key: object) -> bool:
    with pytest.raises(Exception, match="does not open"):
        key.open(sealed, bound_to=b"")  # type: ignore[attr-defined]  # a DataKey
    return True


async def test_erasing_at_once_is_erasing_once(ledger: Ledger, application: Connection):
    await lives.begin(ledger, recipient="user:u-1")

    def decide(known: Recipient, at: object) -> Decision | None:
        kept = not known.version
        facts = erase(known, "asked", Origin(now=now(), cause="t", by="t"), is_anything_kept=kept)
        return Decision(facts=known.next(facts)) if facts else None

    people: Sequence[Recipient] = await asyncio.gather(*(ledger.change_recipient("u-1", decide) for _ in range(10)))
    assert {(one.version, one.erased_version) for one in people} == {(1, 1)}
    assert await value(application, "SELECT count(*) FROM ledger.stored_events WHERE topic = 'recipient.erased'") == 1


async def test_what_was_stored_by_the_release_before_is_known_by_its_addresses(
    ledger: Ledger, application: Connection, owner: Connection
):
    step = resources.files(migrations).joinpath("0013_erasure.pre.sql").read_text("utf-8")
    backfill = next(part for part in step.split(";") if "INSERT INTO ledger.recipient_address\n" in part)
    message = requested(
        recipient="user:löwe 1", address_hash=hashed(ADA), references={"order": '","recipient":"user:x"'}
    )
    await ledger.append(Decision(facts=(NewFact(new_id(), 1, message),)))
    await ledger.append(begun(recipient=f"address:{hashed(EVA)}", address_hash=hashed(EVA)))
    await owner.execute("DELETE FROM ledger.recipient_address")
    await owner.execute(backfill.encode())
    assert await rows(application, ADDRESSES) == [("user:löwe 1", hashed(ADA))]
