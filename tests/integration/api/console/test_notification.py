import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ledger import notification as n
from ledger.decision import Decision
from ledger.ledger import Ledger, Loaded
from ledger.values import Report, ReportKind
from tests.integration.api import deliveries
from tests.integration.api.conftest import Service
from tests.integration.api.console.browser import Browser
from tests.integration.api.deliveries import message, posted, sent
from tests.integration.ledger.parts import Connection

READ = "notifications:read"
SEE = f"{READ} pii:read"
READS = "SELECT subject, what, of, reason FROM ledger.personal_data_read ORDER BY id"
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


async def reported(ledger: Ledger, stream: UUID, kind: ReportKind, evidence: dict[str, str]) -> None:
    """Let the provider say something of the last attempt, at this moment."""

    def told(loaded: Loaded, now: datetime) -> Decision:
        report = Report(provider="ses", reference="ses-1", kind=kind, key=kind, occurred_at=now, evidence=evidence)
        origin = n.Origin(now=now, cause="report", by="ses")
        return Decision(facts=loaded.next(n.report(loaded.state, loaded.state.attempts[-1].id, report, origin)))

    await ledger.change(stream, told)


@pytest.fixture
async def stream(service: Service) -> UUID:
    """A mail to Ada that was delivered, and then opened: six facts."""
    stream = await posted(service.client, message(firstName="Ada", emailAddress="ada.lovelace@acme.example"))
    await sent(service.ledger, stream)
    await reported(service.ledger, stream, ReportKind.DELIVERED, {"code": "250"})
    await reported(service.ledger, stream, ReportKind.OPENED, {})
    return stream


async def reads(connection: Connection) -> list[Any]:
    return await (await connection.execute(READS)).fetchall()


async def test_the_page_says_whether_they_got_it_and_how_sure_that_is_and_tells_the_story(
    browser: Browser, stream: UUID
):
    await browser.sign_in(READ)
    assert (await browser.get(f"/console/notifications/{stream}")).status_code == 200
    assert re.search(
        r"Delivered to the mail server at [\d-]+ [\d:]+ UTC; opened at [\d-]+ [\d:]+ UTC, or", browser.text
    )
    assert "This is likely." in browser.text
    for told in ("asked for", "The words were made", "ses was asked to carry it", "ses took it", "The receiving side"):
        assert told in browser.text
    assert re.search(r'<time datetime="20\d\d-[^"]+\+00:00">', browser.page)
    assert "What would have had to differ" in browser.text


async def test_who_it_went_to_is_masked_everywhere_and_looking_at_the_page_leaves_no_record(
    browser: Browser, stream: UUID, application: Connection
):
    await browser.sign_in(SEE)
    for path in ("", "?version=1", "?version=3", f"?at={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"):
        assert (await browser.get(f"/console/notifications/{stream}{path}")).status_code == 200
        assert "a…@a…" in browser.text
        assert "ovelace" not in browser.page
        assert "Ada" not in browser.page
        assert deliveries.CONTENT.subject not in browser.page
    assert await reads(application) == []


async def test_whoever_says_why_sees_the_address_once_and_it_is_recorded_first(
    browser: Browser, stream: UUID, application: Connection
):
    await browser.sign_in(SEE, subject="carol")
    await browser.get(f"/console/notifications/{stream}")
    answer = await browser.post(f"/console/notifications/{stream}/reveal", reason=" she has called ")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "ada.lovelace@acme.example" in browser.text
    assert "ovelace" not in browser.page.partition("</title>")[0]
    assert await reads(application) == [("carol", "notification", str(stream), "she has called")]
    await browser.get(f"/console/notifications/{stream}")
    assert "ovelace" not in browser.page
    assert len(await reads(application)) == 1


async def test_without_a_reason_nothing_is_shown_or_recorded(browser: Browser, stream: UUID, application: Connection):
    await browser.sign_in(SEE)
    await browser.get(f"/console/notifications/{stream}")
    for form in ("reveal", "content"):
        for reason in ("", "   ", "x" * 201):
            assert (await browser.post(f"/console/notifications/{stream}/{form}", reason=reason)).status_code == 422
            assert "Say why you look" in browser.text
            assert "ovelace" not in browser.page
            assert "Willkommen" not in browser.page
    assert await reads(application) == []


async def test_whoever_may_not_see_personal_data_is_offered_none(browser: Browser, stream: UUID):
    await browser.sign_in(READ)
    await browser.get(f"/console/notifications/{stream}")
    assert 'name="reason"' not in browser.page
    for form in ("reveal", "content"):
        assert (await browser.post(f"/console/notifications/{stream}/{form}", reason="curious")).status_code == 403


async def test_what_it_said_is_shown_in_a_frame_that_runs_fetches_and_follows_nothing(
    browser: Browser, stream: UUID, application: Connection
):
    await browser.sign_in(SEE, subject="carol")
    await browser.get(f"/console/notifications/{stream}")
    answer = await browser.post(f"/console/notifications/{stream}/content", reason="what did you write?")
    assert answer.status_code == 200
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "script-src" not in policy
    frame = re.search(r"<iframe [^>]*>", browser.page)
    assert frame is not None
    assert 'sandbox=""' in frame[0]
    assert 'srcdoc="&lt;p&gt;Hé&lt;/p&gt;"' in frame[0]
    assert "<script" not in browser.page
    assert {"Willkommen", "Shop", deliveries.CONTENT.digest().hex()} <= set(re.split(r"[\s<>]+", browser.text))
    assert await reads(application) == [("carol", "content", str(stream), "what did you write?")]


async def test_words_and_names_of_somebody_hostile_are_text_and_nothing_else(
    browser: Browser, service: Service, monkeypatch: pytest.MonkeyPatch
):
    hostile = msgspec.structs.replace(deliveries.CONTENT, subject=EVIL, sender=EVIL, text=EVIL, html=f"</iframe>{EVIL}")
    monkeypatch.setattr(deliveries, "CONTENT", hostile)
    stream = await posted(service.client, {**message(firstName=EVIL[:40]), "correlationId": EVIL})
    await sent(service.ledger, stream)
    await reported(service.ledger, stream, ReportKind.BOUNCED, {"diagnostic": EVIL})
    await browser.sign_in(SEE)
    await browser.get(f"/console/notifications/{stream}")
    pages = [browser.page]
    for form in ("content", "reveal"):
        await browser.post(f"/console/notifications/{stream}/{form}", reason=EVIL)
        assert EVIL in browser.text
        pages.append(browser.page)
        await browser.get(f"/console/notifications/{stream}")
    for page in pages:
        assert "<script>alert" not in page
        assert "<img" not in page
        assert page.count("</iframe>") == page.count("<iframe ")


async def test_it_is_replayed_step_by_step_with_the_state_and_the_decision_of_each(browser: Browser, stream: UUID):
    await browser.sign_in(READ)
    stood = []
    path = f"/console/notifications/{stream}?version=1"
    for step in range(1, 7):
        assert (await browser.get(path)).status_code == 200
        assert f"Step {step} of 6" in browser.text
        stood.append(re.findall(r'<span class="tag">(\w+)</span>', browser.page)[0])
        following = re.search(r'id="step-next" href="([^"]+)"', browser.page)
        assert (following is None) == (step == 6)
        path = following[1] if following else path
        assert ("What was decided" in browser.text) == (step == 3)
    assert stood == ["requested", "rendered", "sending", "dispatched", "delivered", "opened"]
    assert f'id="step-back" href="/console/notifications/{stream}?version=5"' in browser.page
    assert (await browser.get(f"/console/notifications/{stream}?version=7")).status_code == 404
    assert (await browser.get(f"/console/notifications/{uuid4()}")).status_code == 404


async def test_what_was_known_at_a_moment_is_asked_for_as_a_browser_writes_times(browser: Browser, stream: UUID):
    await browser.sign_in(READ)
    now = datetime.now(UTC)
    await browser.get(f"/console/notifications/{stream}?at={now + timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}")
    assert "This is what was known" in browser.text
    assert "or fetched by a mail program." in browser.text
    assert (
        await browser.get(f"/console/notifications/{stream}?at={now - timedelta(1):%Y-%m-%dT%H:%M}")
    ).status_code == 404
    assert "was not there yet" in browser.text
    assert (await browser.get(f"/console/notifications/{stream}?at=noon&version=0")).status_code == 400
    assert "at must be an ISO 8601 time" in browser.text
