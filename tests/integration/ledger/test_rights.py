"""What the application's role may do: append by append_1, read, and write the working tables; nothing else."""

import psycopg
import pytest

from ledger.store import Encoded, Store
from tests.integration.ledger.parts import Connection, new_id, rows, stored

# The tables whose rows nobody changes, and what the application may nevertheless do to them.
KEPT = {
    "stored_events": set(),
    "content": set(),
    "installation": set(),
    "intake": {"DELETE"},
    "provider_reference": {"DELETE"},
    "quota": {"DELETE"},
    "chain": set(),
    "recovery": set(),
    "template_files": {"INSERT"},
    "archived_week": set(),
    "dropped_content": set(),
    "recipient_address": {"INSERT"},
    "erasure": set(),
}
FORBIDDEN = (
    "UPDATE ledger.stored_events SET state = ''",
    "DELETE FROM ledger.stored_events",
    "TRUNCATE ledger.stored_events",
    "INSERT INTO ledger.stored_events VALUES (gen_random_uuid(), 1, 'x', '', 1)",
    "INSERT INTO ledger.stored_events_standing VALUES (gen_random_uuid(), 1, 'x', '', 1)",
    "INSERT INTO ledger.intake VALUES ('', '', '{}')",
    "UPDATE ledger.intake SET conflicts = 0",
    "UPDATE ledger.quota SET used = 0",
    "UPDATE ledger.content SET body = ''",
    "INSERT INTO ledger.chain VALUES ('standing', 1, 1, '')",
    "UPDATE ledger.chain SET hash = ''",
    "DELETE FROM ledger.chain",
    "INSERT INTO ledger.archived_week VALUES ('2026w30', 'nothing', 0)",
    "INSERT INTO ledger.dropped_content VALUES ('standard', '2026w30')",
    "DROP TABLE ledger.stored_events_standing",
    "SELECT ledger.ids_of('2026w30')",
    "UPDATE ledger.installation SET name = 'another'",
    "SELECT nextval('ledger.stored_events_notification_id_seq')",
    "SELECT setval('ledger.stored_events_notification_id_seq', 1)",
    "SELECT ledger.make_weeks_of('stored_events', 0, 0)",
    "SELECT ledger.border(now())",
    "UPDATE ledger.recovery SET head = 0",
    "UPDATE ledger.template_files SET files = ''",
    "DELETE FROM ledger.template_files",
    "DELETE FROM ledger.erasure",
    "UPDATE ledger.erasure SET erased_at = now()",
    "UPDATE public.ledger_migration SET digest = ''",
    "CREATE TABLE ledger.mine ()",
    "CREATE TABLE public.mine ()",
    "ALTER TABLE ledger.stored_events ADD COLUMN mine text",
    "ALTER FUNCTION ledger.make_weeks() RENAME TO mine",
    "SET ROLE ledger_owner",
    "COPY ledger.stored_events TO PROGRAM 'true'",
)
CHANGES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


async def test_i10_the_application_cannot_change_the_log_nor_what_guards_it(store: Store, application: Connection):
    await store.append([Encoded(facts=stored(new_id()))])
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await application.execute(statement.encode())


async def test_i10_no_privilege_and_no_partition_leaves_a_way_around(application: Connection):
    query = """
        SELECT c.relname, p.privilege FROM pg_class c, unnest(%s::text[]) AS p (privilege)
        WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND has_table_privilege(c.oid, p.privilege)
    """
    found: dict[str, set[str]] = {}
    for table, privilege in await rows(application, query, list(CHANGES)):
        found.setdefault(table, set()).add(privilege)
    assert {table: found.get(table, set()) for table in KEPT} == KEPT
    assert [table for table in found if table.startswith(("stored_events", "content"))] == []
    assert all(privileges <= {"INSERT", "UPDATE", "DELETE"} for privileges in found.values())


async def test_the_application_calls_what_it_was_given_and_nothing_else(application: Connection):
    query = """
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'ledger'::regnamespace AND has_function_privilege(oid, 'EXECUTE')
    """
    assert sorted(name for (name,) in await rows(application, query)) == [
        "append_1",
        "begin_recovery",
        "drop_content",
        "drop_week",
        "extend_chain",
        "make_weeks",
    ]


async def test_what_runs_with_the_owners_rights_looks_names_up_in_a_fixed_place(application: Connection):
    query = """
        SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace AND prosecdef
    """
    found = await rows(application, query)
    assert {name for name, _ in found} >= {"append_1", "begin_recovery", "drop_week", "extend_chain", "make_weeks"}
    assert all("search_path=ledger, pg_temp" in settings for _, settings in found)


async def test_neither_role_is_a_superuser(application: Connection, owner: Connection):
    for connection in (application, owner):
        query = "SELECT rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert await rows(connection, query) == [(False, False, False)]


async def test_the_application_reads_everything_and_owns_its_views(store: Store, application: Connection):
    stream = new_id()
    await store.append([Encoded(facts=[(stream, 1, "notification.expired", b'{"by": "clock"}')])])
    query = "SELECT stream, version, topic, fact ->> 'by' FROM ledger.facts"
    assert await rows(application, query) == [(stream, 1, "notification.expired", "clock")]
    await application.execute("CREATE TABLE views.mine ()")
    await application.execute("ALTER TABLE views.mine RENAME TO other")


async def test_psql_shows_any_text_a_fact_may_hold(store: Store, application: Connection):
    state = '{"by": "a \\u0000 b", "text": "ö€😀"}'.encode()
    await store.append([Encoded(facts=[(new_id(), 1, "notification.expired", state)])])
    assert await rows(application, "SELECT fact::text FROM ledger.facts") == [(state.decode(),)]
