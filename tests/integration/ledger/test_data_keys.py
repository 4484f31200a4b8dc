"""Data keys in their table: one per person, whoever makes it first, and gone when they are destroyed."""

import asyncio
from contextlib import AsyncExitStack
from datetime import date

import pytest

from ledger.errors import KeyUnavailableError
from ledger.keys import KeyEncryption, Keys
from ledger.store import connect
from tests.integration.ledger.parts import KEYS, Connection, rows, value
from tests.support.postgres import KEY_ENCRYPTION_KEY, Database

ONE_DATABASE = True

NEW = bytes(range(100, 132))
PEOPLE = [f"user:{number}" for number in range(50)]


async def test_many_that_meet_the_same_people_at_once_get_the_same_keys(database: Database, application: Connection):
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(database.url)) for _ in range(8)]
        orders = [PEOPLE, PEOPLE[::-1]] * 4
        rings = await asyncio.gather(
            *(KEYS.ensure(connection, order) for connection, order in zip(connections, orders, strict=True))
        )
    for person in PEOPLE:
        sealed = rings[0][person].seal(b"secret", bound_to=b"here")
        assert {ring[person].open(sealed, bound_to=b"here") for ring in rings} == {b"secret"}
    assert await value(application, "SELECT count(*) FROM ledger.recipient_key") == len(PEOPLE)


async def test_reading_makes_no_keys_and_ensuring_keeps_those_that_are_there(application: Connection):
    assert await KEYS.read(application, PEOPLE) == {}
    first = await KEYS.ensure(application, ["user:1", "user:1"])
    again = await KEYS.ensure(application, ["user:1", "user:2"])
    sealed = first["user:1"].seal(b"secret", bound_to=b"")
    assert again["user:1"].open(sealed, bound_to=b"") == b"secret"
    assert set(await KEYS.read(application, PEOPLE)) == {"user:1", "user:2"}
    assert await KEYS.ensure(application, []) == await KEYS.read(application, []) == {}


async def test_i19_a_destroyed_key_is_gone_with_the_next_reading(application: Connection):
    sealed = (await KEYS.ensure(application, ["user:1"]))["user:1"].seal(b"secret", bound_to=b"")
    await application.execute("DELETE FROM ledger.recipient_key")
    assert await KEYS.read(application, ["user:1"]) == {}
    anew = (await KEYS.ensure(application, ["user:1"]))["user:1"]
    with pytest.raises(KeyUnavailableError):
        anew.open(sealed, bound_to=b"")


async def test_during_a_rotation_old_and_new_people_are_readable(application: Connection):
    await KEYS.ensure(application, ["user:old"])
    rotating = Keys(KeyEncryption([NEW, KEY_ENCRYPTION_KEY]))
    assert set(await rotating.ensure(application, ["user:old", "user:new"])) == {"user:old", "user:new"}
    with pytest.raises(KeyUnavailableError):
        await KEYS.read(application, ["user:new"])


async def test_i18_keys_are_stored_wrapped(application: Connection):
    await KEYS.ensure(application, PEOPLE)
    wrapped = [bytes(row) for (row,) in await rows(application, "SELECT wrapped FROM ledger.recipient_key")]
    assert len(set(wrapped)) == len(PEOPLE)
    assert not any(KEY_ENCRYPTION_KEY in one for one in wrapped)


async def test_a_week_has_one_key_whoever_asks_first(database: Database):
    week = date(2031, 5, 5)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await connect(database.url)) for _ in range(6)]
        keys = await asyncio.gather(*(KEYS.of_week(connection, week) for connection in connections))
    sealed = keys[0].seal(b"secret", bound_to=b"")
    assert {key.open(sealed, bound_to=b"") for key in keys} == {b"secret"}
