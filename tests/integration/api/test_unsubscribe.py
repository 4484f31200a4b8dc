import asyncio
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest

from ledger.suppression import Reason, nothing
from ledger.unsubscribing import Unsubscribing
from ledger.values import Category, Channel
from tests.integration.api.conftest import Service
from tests.integration.api.deliveries import message, posted, sent
from tests.support.postgres import Database

ONE_CLICK = {"List-Unsubscribe": "One-Click"}
ADDRESS_HASH = "ab" * 16
SAID = Unsubscribing(
    notification=UUID("019e0000-0000-7000-8000-000000000001"),
    attempt=UUID(int=8),
    channel=Channel.EMAIL,
    address_hash=ADDRESS_HASH,
    category=Category.MARKETING,
)
# Whoever wants to append waits; what is written meanwhile has taken the version that they want.
HOLD_APPENDS = "SELECT pg_advisory_lock(hashtext('ledger.append'))"
HELD = """
SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted
"""
TELEPORTED = """
INSERT INTO ledger.stored_events (originator_id, originator_version, topic, state)
SELECT originator_id, originator_version + 1, 'notification.teleported', state FROM ledger.stored_events
WHERE originator_id = %s ORDER BY originator_version DESC LIMIT 1
"""
BOUNDARY = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'


def link(service: Service, **changes: Any) -> str:
    return f"/unsubscribe/{msgspec.structs.replace(SAID, **changes).token(service.ledger.identity)}"


async def ask(service: Service, method: str, path: str, **given: Any) -> httpx.Response:
    """Ask as a mail provider or a browser does: with no token of ours."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await client.request(method, path, **given)


async def entries(service: Service) -> dict[Any, Any]:
    known = await service.ledger.suppression(nothing(service.ledger.identity, Channel.EMAIL, ADDRESS_HASH).stream)
    return {} if known is None else dict(known.entries)


async def test_i07_one_post_ends_the_category_for_the_address_with_the_mail_as_evidence(service: Service):
    reply = await ask(service, "POST", link(service), data=ONE_CLICK)
    assert (reply.status_code, reply.history) == (200, [])
    assert "set-cookie" not in reply.headers
    known = await entries(service)
    assert set(known) == {(Reason.UNSUBSCRIBE, Category.MARKETING)}
    fact = known[Reason.UNSUBSCRIBE, Category.MARKETING].fact
    assert (fact.notification, fact.attempt, fact.by) == (SAID.notification, SAID.attempt, "person")


async def test_a_notification_that_is_still_there_tells_of_it_in_the_same_commit(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    before = await service.ledger.load(stream)
    assert before is not None
    assert before.suppression is not None
    address_hash = before.suppression.address_hash
    path = link(service, notification=stream, attempt=attempt, address_hash=address_hash)
    for _ in range(2):
        assert (await ask(service, "POST", path, data=ONE_CLICK)).status_code == 200
    after = await service.ledger.load(stream)
    assert after is not None
    assert after.state.version == before.state.version + 1
    assert after.suppression is not None
    assert set(after.suppression.entries) == {(Reason.UNSUBSCRIBE, Category.MARKETING)}
    (told,) = (await service.client.get("/v1/positions", params={"after": 4})).json()["messages"]
    assert (told["payload"]["event"], told["payload"]["status"]) == ("unsubscribed", "dispatched")


async def test_i07_it_holds_where_a_newer_release_writes_of_the_notification_meanwhile(
    service: Service, database: Database
):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.suppression is not None
    address_hash = loaded.suppression.address_hash
    path = link(service, notification=stream, attempt=attempt, address_hash=address_hash)
    async with await psycopg.AsyncConnection.connect(database.superuser_url, autocommit=True) as newer:
        await newer.execute(HOLD_APPENDS)
        posting = asyncio.create_task(ask(service, "POST", path, data=ONE_CLICK))
        while await (await newer.execute(HELD)).fetchone() is None:
            continue
        await newer.execute(TELEPORTED, (stream,))
        await newer.execute("SELECT pg_advisory_unlock_all()")
        assert (await posting).status_code == 200
    known = await service.ledger.suppression(loaded.suppression.stream)
    assert known is not None
    assert set(known.entries) == {(Reason.UNSUBSCRIBE, Category.MARKETING)}


async def test_the_same_link_works_again_after_somebody_has_released_it(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.suppression is not None
    path = link(service, notification=stream, attempt=attempt, address_hash=loaded.suppression.address_hash)
    for version in (1, 3):
        await ask(service, "POST", path, data=ONE_CLICK)
        known = await service.ledger.suppression(loaded.suppression.stream)
        assert known is not None
        assert (known.version, len(known.entries)) == (version, 1)
        body = {"reason": "a mistake"}
        await service.client.post(f"/v1/suppressions/{known.stream}/release", json=body)


async def test_what_ses_tells_of_its_own_list_management_lists_the_mails_category(service: Service):
    stream = await posted(service.client)
    attempt = await sent(service.ledger, stream)
    await service.client.post("/callbacks/ses", content=service.topic.opt_out(stream, attempt))
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.suppression is not None
    assert set(loaded.suppression.entries) == {(Reason.UNSUBSCRIBE, loaded.state.requested.category)}


async def test_nobody_unsubscribes_from_what_is_for_their_safety(service: Service):
    stream = await posted(service.client, message("EmailVerificationRequestedEvent"))
    attempt = await sent(service.ledger, stream)
    await service.client.post("/callbacks/ses", content=service.topic.opt_out(stream, attempt))
    loaded = await service.ledger.load(stream)
    assert loaded is not None
    assert loaded.state.requested.category is Category.SECURITY
    assert loaded.suppression is not None
    assert (loaded.suppression.version, loaded.state.version) == (0, 5)


async def test_the_form_comes_in_either_of_the_encodings_that_the_rfc_names(service: Service):
    reply = await ask(service, "POST", link(service), content=PART, headers={"Content-Type": BOUNDARY})
    assert reply.status_code == 200
    assert len(await entries(service)) == 1


@pytest.mark.parametrize("encoding", [b"nobodys", b"ascii", b"utf-16"])
async def test_a_form_in_an_encoding_that_cannot_be_read_is_a_fault_of_whoever_sent_it(
    service: Service, encoding: bytes
):
    part = PART.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=" + encoding + b"\r\n\r\n\xe9", 1)
    reply = await ask(service, "POST", link(service), content=part, headers={"Content-Type": BOUNDARY})
    assert (reply.status_code, await entries(service)) == (400, {})


async def test_the_same_link_many_times_at_once_is_one_fact(service: Service):
    replies = await asyncio.gather(*(ask(service, "POST", link(service), data=ONE_CLICK) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert await service.ledger.store.head() == 1


async def test_to_look_at_the_page_changes_nothing(service: Service):
    reply = await ask(service, "GET", link(service))
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert '<form method="post">' in reply.text
    assert "<button>" in reply.text
    assert "offers and news" in reply.text
    assert await entries(service) == {}
    for method in ("HEAD", "PUT", "DELETE"):
        assert (await ask(service, method, link(service), data=ONE_CLICK)).status_code == 405
    assert await entries(service) == {}


async def test_the_button_of_the_page_posts_what_a_mail_provider_posts(service: Service):
    page = (await ask(service, "GET", link(service))).text
    assert 'name="List-Unsubscribe" value="One-Click"' in page
    assert "You will get no more offers and news" in (await ask(service, "POST", link(service), data=ONE_CLICK)).text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_people_are_asked_in_french_where_their_browser_wants_that(service: Service, method: str):
    reply = await ask(service, method, link(service), data=ONE_CLICK, headers={"Accept-Language": "fr-FR,en;q=0.5"})
    assert '<html lang="fr">' in reply.text
    assert "nos offres et actualités" in reply.text


async def test_no_page_tells_its_address_to_anybody_nor_is_kept_nor_runs_a_script(service: Service):
    for method, path, status in (
        ("GET", link(service), 200),
        ("POST", link(service), 200),
        ("GET", "/unsubscribe/x", 404),
    ):
        reply = await ask(service, method, path, data=ONE_CLICK)
        assert reply.status_code == status
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "noindex" in reply.headers["X-Robots-Tag"]
        assert "<script" not in reply.text
        assert "http" not in reply.text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_link_that_is_none_of_ours_shows_a_page_that_says_so(service: Service, method: str):
    good = link(service)
    for path in (good[:-1], good + "A", good[:-1] + "!", "/unsubscribe/%00", "/unsubscribe/%ff", "/unsubscribe/é"):
        reply = await ask(service, method, path, data=ONE_CLICK)
        assert (reply.status_code, "This link is not complete" in reply.text) == (404, True), path
    assert await entries(service) == {}


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", ""),
        (b"", "application/x-www-form-urlencoded"),
        (b"List-Unsubscribe=one-click", "application/x-www-form-urlencoded"),
        (b"list-unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b"List-Unsubscribe=One-Click", "text/plain"),
        (b"List-Unsubscribe=Other&List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b"%ff=%ff", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded; charset=utf-16"),
        (b"a=1", "application/x-www-form-urlencoded; charset=nonsense"),
        (b"a=1&" * 900, "application/x-www-form-urlencoded"),
        (b"a" * 4096, "application/x-www-form-urlencoded"),
        (b'{"List-Unsubscribe": "One-Click"}', "application/json"),
        (PART, "multipart/form-data"),
        (PART, "multipart/form-data; boundary="),
        (PART, "multipart/form-data; boundary=other"),
        (PART[:40], BOUNDARY),
        (b"--b\r\n" * 200, BOUNDARY),
        (b"--b\r\n\r\n\r\n--b--", BOUNDARY),
        (b'--b\r\nContent-Disposition: form-data; name="\xff"; filename="x"\r\n\r\n\xff\r\n--b--\r\n', BOUNDARY),
        (PART.replace(b'"\r', b'"; filename="x"\r'), BOUNDARY),
    ],
)
async def test_a_post_that_does_not_say_so_unsubscribes_nobody(service: Service, content: bytes, content_type: str):
    headers = {"Content-Type": content_type} if content_type else {}
    reply = await ask(service, "POST", link(service), content=content, headers=headers)
    assert (reply.status_code, reply.json()["type"]) == (400, "/problems/malformed-request"), reply.text
    assert await entries(service) == {}


async def test_a_post_that_is_larger_than_any_form_of_one_field_is_refused(service: Service):
    for content_type in ("application/x-www-form-urlencoded", BOUNDARY):
        headers = {"Content-Type": content_type}
        reply = await ask(service, "POST", link(service), content=PART + b"x" * 5000, headers=headers)
        assert reply.status_code == 413


async def test_i09_our_own_trouble_is_no_reason_to_give_up(service: Service, monkeypatch: pytest.MonkeyPatch):
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.ledger, "change_suppression", broken)
    reply = await ask(service, "POST", link(service), data=ONE_CLICK)
    assert reply.status_code == 503
    assert "Retry-After" in reply.headers
