"""The command line as people use it: what cannot be done is one clear line, and never a trace."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ledger.follower import Follower, prepare
from ledger.set_aside import Refusal
from ledger.signals import Signals
from ledger.store import Encoded, Store, connect
from ledger.values import DoubtPolicy
from projections.costs import Costs
from projections.delivery_statistics import DeliveryStatistics
from tests.integration.api.deliveries import message
from tests.integration.api.test_release import in_doubt, sent_again
from tests.integration.ledger.parts import begun, new_id, now, opened_store, running_ledger, set_aside_in
from tests.integration.projections.lives import Life, write_interleaved
from tests.support import ports
from tests.support import service as processes
from tests.support.postgres import Database
from tests.support.service import Service


async def _said(service: Service, *arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code of a command and all that it has written."""
    process = service.launch(*arguments, program=processes.CLI, **settings)
    return await process.ended(), process.log()


async def _kept(database: Database) -> str:
    async with opened_store(database.url) as store:
        body, refusal = msgspec.json.encode(message()), Refusal(reason="killer")
        return (await set_aside_in(store).keep(body, refusal, origin="amqp", now=now())).hex()


def _facts(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        return len(connection.execute("SELECT FROM ledger.stored_events").fetchall())


async def test_a_discarded_dead_letter_is_not_replayed_and_sends_nothing(service: Service, database: Database):
    key = await _kept(database)
    why = ("--reason", "a test")
    assert await _said(service, "dead-letters", "discard", key, *why) == (0, "discarded\n")
    code, said = await _said(service, "dead-letters", "replay", key, *why)
    assert (code, said) == (1, "Error: the dead letter was discarded before\n")
    assert _facts(database) == 0


async def test_i16_a_dead_letter_replayed_twice_makes_its_notification_once(service: Service, database: Database):
    key = await _kept(database)
    replay = ("dead-letters", "replay", key, "--reason", "a test")
    assert "result: taken" in (await _said(service, *replay))[1]
    assert "result: repeated" in (await _said(service, *replay))[1]
    assert _facts(database) == 1
    code, said = await _said(service, "dead-letters", "discard", key, "--reason", "a test")
    assert (code, said) == (1, "Error: the dead letter was replayed before\n")


TIMES: dict[Any, str] = {
    "2026-01-03T03:04:05.000006Z": "2026-01-03 03:04:05.000006",
    "2026-01-03T03:04:05": "?",
    "soon": "?",
    1: "?",
    None: "?",
}


async def test_i25_a_fact_of_a_newer_release_is_shown_as_it_lies_there_without_personal_data(
    service: Service, database: Database
):
    stream = new_id()
    newer = [{"recorded_at": at, "mood": ["calm"], "reason": 7, "personal": "c2VhbGVk"} for at in TIMES]
    known = {"recorded_at": "2026-01-02T03:04:05Z", "cause": "c", "by": "b", "reason": "ours"}
    # The last one has a topic that we know, with a field of another kind.
    topics = ["notification.failed", *["notification.pondered"] * 4, "notification.failed"]
    facts = zip(topics, map(msgspec.json.encode, (known, *newer)), strict=True)
    async with opened_store(database.url) as store:
        stored = [(stream, version, topic, state) for version, (topic, state) in enumerate(facts, start=1)]
        await store.append([Encoded(facts=stored)])
    (code, said), (_, encoded) = await asyncio.gather(
        _said(service, "history", str(stream), "--at", "2026-02-01T00:00:00+0000"),
        _said(service, "history", str(stream), "--json"),
    )
    assert code == 0, said
    first, *others = said.splitlines()
    assert first.split() == ["1", "2026-01-02", "03:04:05.000000", "notification.failed", "reason=ours"]
    assert [line[5:31].strip() for line in others] == list(TIMES.values())
    assert all("mood=['calm'] reason=7" in line for line in others)
    assert [one["version"] for one in msgspec.json.decode(encoded)] == [1, 2, 3, 4, 5, 6]
    assert "c2VhbGVk" not in said + encoded


async def test_a_history_ends_with_the_words_that_it_may_have_been_sent_twice(service: Service, database: Database):
    async with running_ledger(database.url) as ledger:
        stream = await in_doubt(ledger, doubt=DoubtPolicy.RESEND)
        assert "sent twice" not in (await _said(service, "history", str(stream)))[1]
        await sent_again(ledger, stream)
    code, said = await _said(service, "history", str(stream))
    assert (code, said.splitlines()[-1].partition(".")[0]) == (0, "May have been sent twice")


async def test_a_history_says_why_something_due_has_not_been_sent(service: Service, database: Database):
    async with running_ledger(database.url) as ledger:
        stream = new_id()
        await ledger.append(begun(stream))
    code, said = await _said(service, "history", str(stream))
    assert (code, said.splitlines()[-1]) == (0, "It waits: turn.")
    code, then = await _said(service, "history", str(stream), "--version", "1")
    assert (code, "It waits" in then) == (0, False)


async def test_a_database_that_is_down_is_one_clear_line_without_its_address(service: Service):
    nowhere = f"postgresql://somebody:secret@127.0.0.1:{ports.free()}/ledger"
    told = await asyncio.gather(
        _said(service, "migrate", MIGRATION_DATABASE_URL=nowhere),
        _said(service, "dead-letters", "list", DATABASE_URL=nowhere),
    )
    assert list(told) == [
        (1, "Error: the database cannot be reached, or refuses the login: look at its URL in the settings\n"),
        (1, "Error: the database does not answer\n"),
    ]


async def test_a_database_that_refuses_is_one_clear_line(service: Service, database: Database):
    code, said = await _said(service, "migrate", MIGRATION_DATABASE_URL=database.url)
    assert (code, said) == (1, "Error: the database refused (InsufficientPrivilege, SQLSTATE 42501)\n")


async def test_a_setting_of_the_sandbox_that_is_no_number_is_said_so(service: Service):
    wrong = [("PORT", "http"), ("PORT", "65531"), ("DEMO", "many"), ("DEMO", "-1")]
    told = await asyncio.gather(*(_said(service, "sandbox", **{name: value}) for name, value in wrong))
    for (name, _), (code, said) in zip(wrong, told, strict=True):
        assert code == 2
        assert f"Error: Invalid value for '--{name.lower()}'" in said
        assert "Traceback" not in said


async def test_a_file_of_settings_counts_where_it_is_named_and_is_missed_where_it_is_not_there(
    service: Service, tmp_path: Path
):
    named = tmp_path / "named.env"
    code, said = await _said(service, "--settings", str(named), "prices")
    assert (code, said.splitlines()[-1]) == (2, f"Error: there is no file {named}")
    named.write_text("SPEND_CAPS='sms=1 EUR'\n")
    code, said = await _said(service, "--settings", str(named), "prices")
    assert (code, "capped in EUR" in said) == (1, True)


async def test_what_is_held_is_listed_and_released_at_a_terminal(service: Service, database: Database):
    async with running_ledger(database.url) as ledger:
        stream = await in_doubt(ledger)
    assert str(stream) in (await _said(service, "held"))[1]
    release = ("release", str(stream), "--reason", "a test")
    assert await _said(service, *release) == (0, "released\n")
    code, said = await _said(service, *release)
    assert (code, said) == (1, "Error: the notification is not held: there is nothing to release\n")
    assert await _said(service, "held") == (0, "nothing\n")


async def test_why_something_may_have_been_sent_is_told_at_a_terminal(service: Service, database: Database):
    async with running_ledger(database.url) as ledger:
        stream = await in_doubt(ledger)
    code, said = await _said(service, "explain", str(stream))
    answer, *decisions = said.splitlines()
    assert (code, answer.startswith("It may have been sent: nothing told whether")) == (0, True)
    assert [line.split()[3] for line in decisions if line.startswith("  ") and line[2].isdigit()] == [
        "sent:",
        "in_doubt:",
    ]
    code, said = await _said(service, "explain", str(stream), "--json")
    assert (code, msgspec.json.decode(said)["answer"]) == (0, answer)
    assert await _said(service, "explain", str(new_id())) == (1, "Error: there is no such notification\n")


async def test_a_notification_is_cancelled_at_a_terminal_once_and_what_is_over_says_how_it_stands(
    service: Service, database: Database
):
    async with running_ledger(database.url) as ledger:
        waiting, over = [await in_doubt(ledger) for _ in range(2)]
        await sent_again(ledger, over)
    assert await _said(service, "cancel", str(waiting), "--reason", "a test") == (0, "cancelled; it is cancelled\n")
    code, said = await _said(service, "cancel", str(waiting), "--reason", "again")
    assert (code, said) == (0, "cancelled already; it is cancelled\n")
    code, said = await _said(service, "cancel", str(over), "--reason", "late")
    told = "Error: the notification is dispatched already: nothing of it is still to come\n"
    assert (code, said) == (1, told)
    code, said = await _said(service, "cancel", str(new_id()), "--reason", "unknown")
    assert (code, said) == (1, "Error: there is no such notification\n")


async def test_i18_a_message_about_a_person_that_is_tried_tells_what_it_speaks_of_and_no_value(
    service: Service, tmp_path: Path
):
    file = tmp_path / "message.json"
    contact = {"userId": "ada", "emailAddress": "ada@example.com", "phoneNumber": None}
    for message_type, payload, tells in (
        ("UserContactChangedEvent", contact, "about=contact email=given phone=cleared\n"),
        ("DeviceRegisteredEvent", {"userId": "ada", "fid": "fid-1", "platform": "web"}, "about=device platform=web\n"),
        (
            "UserPreferencesChangedEvent",
            {"userId": "ada", "quietHours": None},
            "about=preferences choices=0 consents=0 quiet_hours=cleared\n",
        ),
    ):
        file.write_bytes(msgspec.json.encode({**message(), "messageType": message_type, "payload": payload}))
        assert await _said(service, "catalogue", "try", str(file)) == (0, tells)


async def test_what_is_paused_at_a_terminal_is_listed_and_resumed(service: Service):
    why = ("--reason", "a test")
    code, said = await _said(service, "pause", "--channel", "sms", "--provider", "twilio", *why)
    assert code == 0, said
    assert said.startswith("paused channel=sms provider=twilio  since ")
    listed = (await _said(service, "pauses"))[1]
    assert listed.rstrip().endswith("by cli: a test")
    assert (await _said(service, "resume", "--channel", "sms", *why))[0] == 1
    assert (await _said(service, "resume", "--provider", "twilio", "--channel", "sms", *why))[0] == 0
    assert await _said(service, "pauses", "--json") == (0, "[]\n")


async def test_a_pause_of_nothing_and_of_what_is_not_there_is_one_clear_line(service: Service):
    why = ("--reason", "a test")
    code, said = await _said(service, "pause", *why)
    assert (code, "name a type, a channel or a provider, or else say --all" in said) == (2, True)
    code, said = await _said(service, "pause", "--type", "order_shiped", *why)
    assert (code, said) == (1, "Error: nothing is known by this type: a pause of it would stop nothing\n")


async def test_a_price_list_is_checked_against_the_caps(service: Service, tmp_path: Path):
    code, said = await _said(service, "prices", SPEND_CAPS="sms=10 USD")
    assert code == 0, said
    assert "ses: 0.0001 USD each\n" in said
    assert said.endswith("\ncap: sms, 10 USD a day\n")
    code, said = await _said(service, "prices", SPEND_CAPS="sms=10 EUR, email=1 USD")
    assert (code, said) == (1, "Error: settings: SPEND_CAPS: sms is capped in EUR, and the price list is in USD\n")
    wrong = tmp_path / "prices.yaml"
    wrong.write_text("currency: USD\nproviders:\n  ses: {each: 0.1}\n")
    code, said = await _said(service, "prices", str(wrong))
    assert code == 1
    assert said.count("PRICES: ") == 4, said


async def test_a_message_is_tried_without_a_database_and_shows_what_would_be_said(service: Service, tmp_path: Path):
    file = tmp_path / "message.json"
    file.write_bytes(msgspec.json.encode(message("OrderShippedEvent")))
    code, said = await _said(service, "catalogue", "try", str(file), DATABASE_URL="")
    first, *lines = said.splitlines()
    assert (code, first.startswith("type=order_shipped channel=email ")) == (0, True)
    assert any(line.startswith("    subject: ") for line in lines)
    code, said = await _said(service, "catalogue", "try", str(file), "--json")
    (told, *_) = msgspec.json.decode(said)
    assert (code, told["says"]["locale"], "<html" in told["says"]["html"]) == (0, "en", True)
    file.write_bytes(msgspec.json.encode(message("OrderShippedEvent", trackingLink="none", orderId=None)))
    code, said = await _said(service, "catalogue", "try", str(file))
    assert (code, "payload.orderId is required; payload.trackingLink must be" in said) == (1, True)


async def test_the_schemas_of_messages_are_printed_or_written_as_files(service: Service, tmp_path: Path):
    code, said = await _said(service, "catalogue", "schemas")
    printed = msgspec.json.decode(said)
    assert (code, "OrderShippedEvent.v1" in printed) == (0, True)
    code, said = await _said(service, "catalogue", "schemas", "--out", str(tmp_path / "new" / "schemas"))
    assert (code, dict(map(_schema_in, said.splitlines()))) == (0, printed)


def _schema_in(path: str) -> tuple[str, Any]:
    file = Path(path)
    return file.name.removesuffix(".schema.json"), msgspec.json.decode(file.read_bytes())


async def test_addresses_of_a_file_are_listed_once_and_released_by_their_id(
    service: Service, database: Database, tmp_path: Path
):
    file = tmp_path / "addresses.txt"
    file.write_text("ada@example.com\n\nEVA@example.com \n ada@example.com\n")
    add = ("suppressions", "add", str(file), "--channel", "email", "--reason", "from the old list")
    assert await _said(service, *add) == (0, "listed: 2\nknown: 0\n")
    assert await _said(service, *add) == (0, "listed: 0\nknown: 2\n")
    file.write_text("eva@example.com")
    assert await _said(service, *add) == (0, "listed: 0\nknown: 1\n")
    async with opened_store(database.url) as store:
        suppression = str((await store.read(after=0, limit=1))[0].stream)
    release = ("suppressions", "release", suppression, "--reason", "a mistake")
    for _ in range(2):
        assert await _said(service, *release) == (0, "entries left: 0\n")
    assert _facts(database) == 3
    unknown = ("suppressions", "release", str(new_id()), "--reason", "a mistake")
    assert await _said(service, *unknown) == (1, "Error: there is no such suppression\n")
    code, said = await _said(service, "suppressions", "list")
    assert (code, said) == (0, "nothing\n")


async def test_a_file_with_a_line_that_is_no_address_lists_nobody_and_is_not_repeated(
    service: Service, database: Database, tmp_path: Path
):
    file = tmp_path / "addresses.txt"
    file.write_text("+447400123456\nada@example.com\n12\n")
    code, said = await _said(service, "suppressions", "add", str(file), "--channel", "sms", "--reason", "a test")
    assert (code, said) == (1, "Error: nothing was listed: no address in line 2, 3\n")
    past = ("--expires-at", "2020-01-01T00:00:00+00:00")
    file.write_text("+447400123456\n")
    said = (await _said(service, "suppressions", "add", str(file), "--channel", "sms", "--reason", "a test", *past))[1]
    assert said == "Error: --expires-at has passed\n"
    assert _facts(database) == 0


async def test_what_a_caller_says_is_found_at_a_terminal_and_nothing_found_says_how_far_it_looked(
    service: Service, database: Database
):
    body = message(userId="u-77")
    async with opened_store(database.url) as store:
        refusal = Refusal(reason="payload", message_id="m-77")
        key = await set_aside_in(store).keep(msgspec.json.encode(body), refusal, origin="amqp", now=now())
    (found, said), (asked, encoded), (nothing, reach), (fault, why) = await asyncio.gather(
        _said(service, "find", "u-77"),
        _said(service, "find", "--message-id", "m-77", "--json"),
        _said(service, "find", "nobody@example.com", "--status", "delivered"),
        _said(service, "find"),
    )
    assert (found, asked, nothing, fault) == (0, 0, 0, 2)
    assert key.hex() in said
    assert [one["key"] for one in msgspec.json.decode(encoded)["dead_letters"]] == [key.hex()]
    assert reach.startswith("nothing found\n")
    assert "searched: all since" in reach
    assert "nobody@" not in reach
    assert "say what is to be found" in why


async def test_what_is_counted_is_told_at_a_terminal(service: Service, database: Database, store: Store):
    life = Life(await store.now() - timedelta(minutes=10)).live("attempt", "accepted", "delivered")
    await write_interleaved(store, [life])
    async with await connect(database.url, options="-c search_path=views") as connection:
        for view in (DeliveryStatistics(), Costs()):
            await prepare(connection, view)
            await Follower(database.url, view, Signals(database.url)).catch_up(connection)
    (counted, said), (spent, table), (encoded, answer), (fault, why) = await asyncio.gather(
        _said(service, "statistics", "--by", "type,status"),
        _said(service, "costs", "--until", f"{life.now:%Y-%m-%dT%H:%M:%S}Z", "--csv"),
        _said(service, "costs", "--by", "country", "--json"),
        _said(service, "statistics", "--since", "yesterday", "--by", "colour"),
    )
    assert (counted, spent, encoded, fault) == (0, 0, 0, 1)
    assert said.startswith("OrderShippedEvent  delivered: 1 requested, 1 attempted, 1 dispatched, 1 delivered")
    assert "p99" in said
    assert table.splitlines() == ["currency,attempts,not_taken,units,amount", "USD,1,0,1,0.0083"]
    assert msgspec.json.decode(answer)["costs"][0]["group"] == {"country": None}
    assert why.startswith("Error: --since must be an ISO 8601 time")
    assert "--by must be" in why
